"""How to quantize, in words that go in a file name.

A name reads ``<activation><weight>-<granularity>-<ranges>[-reduced]``: ``u8s8-perchannel-minmax-reduced``
has unsigned activations, signed weights with a scale for each output channel and 7 of 8 bits in use,
and activation ranges from the smallest to the largest value seen.
"""

from dataclasses import dataclass
from typing import Literal

from edgecnn.errors import UsageError

IntegerType = Literal["u8", "s8"]
RangeMethod = Literal["minmax", "mse"]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A quantization.

    Attributes:
        activation: type of activations; u8 is asymmetric, s8 as well.
        weight: type of weights; symmetric around 0 (s8) or, per channel, around 128 (u8).
        per_channel: one weight scale for each output channel, else one a tensor.
        ranges: ``minmax``, or ``mse``: the range with the least mean squared rounding and clipping error.
        reduced: weights use 7 bits, so that two products of a u8 and an s8 fit into the 16 bits of
            VPMADDUBSW on x86 CPUs without VNNI.
        exact_everywhere: whether every CPU gives the same answers (measured, see ``docs/quantization.md``).
        summary: one line for the help.
    """

    activation: IntegerType
    weight: IntegerType
    per_channel: bool
    ranges: RangeMethod
    reduced: bool
    exact_everywhere: bool
    summary: str

    @property
    def name(self) -> str:
        """The recipe in words."""
        granularity = "perchannel" if self.per_channel else "pertensor"
        reduced = "-reduced" if self.reduced else ""
        return f"{self.activation}{self.weight}-{granularity}-{self.ranges}{reduced}"


RECIPES: dict[str, Recipe] = {
    "u8s8-perchannel-minmax-reduced": Recipe(
        activation="u8",
        weight="s8",
        per_channel=True,
        ranges="minmax",
        reduced=True,
        exact_everywhere=True,
        summary="7-bit weights; the same on every CPU",
    ),
    "u8s8-perchannel-mse-reduced": Recipe(
        activation="u8",
        weight="s8",
        per_channel=True,
        ranges="mse",
        reduced=True,
        exact_everywhere=True,
        summary="7-bit weights, outliers clipped where that errs less; the same on every CPU",
    ),
    "u8u8-perchannel-mse": Recipe(
        activation="u8",
        weight="u8",
        per_channel=True,
        ranges="mse",
        reduced=False,
        exact_everywhere=True,
        summary="unsigned 8-bit weights; the same on every CPU, slower on x86 with VNNI",
    ),
    "u8s8-perchannel-minmax": Recipe(
        activation="u8",
        weight="s8",
        per_channel=True,
        ranges="minmax",
        reduced=False,
        exact_everywhere=False,
        summary="full 8-bit weights; loses points on x86 CPUs without VNNI",
    ),
    "u8s8-pertensor-minmax": Recipe(
        activation="u8",
        weight="s8",
        per_channel=False,
        ranges="minmax",
        reduced=False,
        exact_everywhere=False,
        summary="one weight scale a layer; loses points on x86 CPUs without VNNI",
    ),
    "s8s8-perchannel-minmax": Recipe(
        activation="s8",
        weight="s8",
        per_channel=True,
        ranges="minmax",
        reduced=False,
        exact_everywhere=False,
        summary="what XNNPACK takes whole; loses points on x86 CPUs without VNNI",
    ),
}

#: The same on every CPU, and no less accurate than the others; chosen in ``docs/quantization.md``.
DEFAULT_RECIPE = "u8s8-perchannel-minmax-reduced"


def recipe(name: str) -> Recipe:
    """Return a row of the table.

    Raises:
        UsageError: there is no such recipe; the known ones are listed.
    """
    if name not in RECIPES:
        raise UsageError(
            f"unknown recipe {name!r}; known: {', '.join(RECIPES)}.", next_step=f"--recipe {DEFAULT_RECIPE}"
        )
    return RECIPES[name]
