"""How to quantize, in words that go in a file name.

A name reads ``<activation><weight>-<granularity>-<ranges>`` and then what is done beyond that, in this order:
``u8s8-perchannel-minmax-reduced-equalized`` has unsigned activations, signed weights with a scale for each output
channel, activation ranges from the smallest to the largest value seen, 7 of 8 bits of the weights in use, and channels
made equal in size across layers first. Any combination of the parts is a recipe; the table holds those that were
measured.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

from edgecnn.errors import UsageError
from edgecnn.quantization.range_methods import RANGE_METHODS, RangeMethod

ActivationType = Literal["u8", "s8", "u16", "s16"]
WeightType = Literal["u8", "s8"]
_GRANULARITIES = {"perchannel": True, "pertensor": False}
#: The parts that follow the first three, in order, and the field that each of them sets.
_EXTRAS = {
    "symmetric": "symmetric",
    "reduced": "reduced",
    "equalized": "equalize",
    "rounded": "adaptive_rounding",
    "corrected": "correct_bias",
    "qoutput": "quantized_output",
    "qoperator": "qoperator",
}
GRAMMAR = (
    f"{{{'|'.join(get_args(ActivationType))}}}{{{'|'.join(get_args(WeightType))}}}-{{{'|'.join(_GRANULARITIES)}}}-"
    f"{{{'|'.join(RANGE_METHODS)}}}" + "".join(f"[-{name}]" for name in _EXTRAS)
)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A quantization.

    Attributes:
        activation: type of activations; asymmetric unless ``symmetric``. 16 bits are for NPUs: a CPU computes in float,
            but for a MatMul, or a Gemm without transB, whose activations ONNX Runtime rounds to 8 bits (MatMulNBits).
        weight: type of weights; symmetric around 0 (s8) or, per channel, around 128 (u8).
        per_channel: one weight scale for each output channel, else one a tensor.
        ranges: how the range of activations follows from the values seen; a row of ``RANGE_METHODS``.
        symmetric: activations have their zero in the middle, which some NPUs want.
        reduced: weights use 7 bits, so that two products of a u8 and an s8 fit into the 16 bits of
            VPMADDUBSW on x86 CPUs without VNNI.
        equalize: scale channels across layers first, so that all of one layer are of the same size.
        adaptive_rounding: round each weight up or down as the layer's outputs want it, not to the nearest.
        correct_bias: give the mean error of each channel back through its bias.
        quantized_output: round the answer to integers, too: some NPUs run a layer only between two quantizations.
        qoperator: operators on integers in place of pairs of quantize and dequantize; the answer, too, is of 8 bits.
        float_layers: names of nodes that stay float.
        layer_ranges: names of nodes whose output gets its range by another method, and which.
        summary: one line for the help.
    """

    activation: ActivationType
    weight: WeightType
    per_channel: bool
    ranges: RangeMethod
    symmetric: bool = False
    reduced: bool = False
    equalize: bool = False
    adaptive_rounding: bool = False
    correct_bias: bool = False
    quantized_output: bool = False
    qoperator: bool = False
    float_layers: tuple[str, ...] = ()
    layer_ranges: tuple[tuple[str, RangeMethod], ...] = ()
    summary: str = ""

    def __post_init__(self) -> None:
        if self.qoperator and (self.adaptive_rounding or self.correct_bias or self.activation_bits == 16):
            raise UsageError(
                f"{self.name}: operators on integers are not rounded adaptively, bias-corrected or of 16 bits.",
                next_step="leave out -qoperator, or the others",
            )
        # With signed activations there is no such kernel; with a scale for each channel, ONNX Runtime's quantizer
        # writes signed weights of full range in place of unsigned ones, which saturate on some CPUs.
        if self.qoperator and self.weight == "u8" and (self.activation == "s8" or self.per_channel):
            raise UsageError(
                f"{self.name}: ONNX Runtime's operators on integers take unsigned weights with unsigned activations "
                "and one scale a tensor alone.",
                next_step="leave out -qoperator, or take u8u8-pertensor, u8s8 or s8s8",
            )

    @property
    def name(self) -> str:
        """The recipe in words; layers of their own are counted, not named."""
        granularity = next(word for word, per_channel in _GRANULARITIES.items() if per_channel == self.per_channel)
        parts = [f"{self.activation}{self.weight}", granularity, self.ranges]
        parts += [word for word, field in _EXTRAS.items() if getattr(self, field)]
        parts += [f"{len(self.float_layers)}float"] if self.float_layers else []
        parts += [f"{len(self.layer_ranges)}ranges"] if self.layer_ranges else []
        return "-".join(parts)

    @property
    def activation_bits(self) -> int:
        """8 or 16."""
        return int(self.activation[1:])

    @property
    def steps(self) -> int:
        """How many steps lie between the ends of an activation's integers."""
        # Signed and symmetric, the least integer is left out, so that both ends are as far from zero.
        return (1 << self.activation_bits) - (2 if self.symmetric and self.activation.startswith("s") else 1)

    @property
    def exact_everywhere(self) -> bool:
        """Whether no dot product can saturate on an x86 CPU without VNNI (measured, see ``docs/quantization.md``)."""
        return self.weight == "u8" or self.reduced or self.activation_bits == 16


RECIPES: dict[str, Recipe] = {
    "u8s8-perchannel-minmax-reduced": Recipe(
        activation="u8",
        weight="s8",
        per_channel=True,
        ranges="minmax",
        reduced=True,
        summary="7-bit weights; the same on every CPU",
    ),
    "u8s8-perchannel-minmax-reduced-equalized-rounded-corrected": Recipe(
        activation="u8",
        weight="s8",
        per_channel=True,
        ranges="minmax",
        reduced=True,
        equalize=True,
        adaptive_rounding=True,
        correct_bias=True,
        summary="7-bit weights, channels equalized, weights rounded as the outputs want it; the same on every CPU",
    ),
    "u8s8-perchannel-mse-reduced": Recipe(
        activation="u8",
        weight="s8",
        per_channel=True,
        ranges="mse",
        reduced=True,
        summary="7-bit weights, outliers clipped where that errs less; the same on every CPU",
    ),
    "u8u8-perchannel-mse": Recipe(
        activation="u8",
        weight="u8",
        per_channel=True,
        ranges="mse",
        summary="unsigned 8-bit weights; the same on every CPU, slower on x86 with VNNI",
    ),
    "u8s8-perchannel-minmax": Recipe(
        activation="u8",
        weight="s8",
        per_channel=True,
        ranges="minmax",
        summary="full 8-bit weights; loses points on x86 CPUs without VNNI",
    ),
    "u8s8-pertensor-minmax": Recipe(
        activation="u8",
        weight="s8",
        per_channel=False,
        ranges="minmax",
        summary="one weight scale a layer; loses points on x86 CPUs without VNNI",
    ),
    "u8s8-pertensor-minmax-reduced-equalized-rounded-corrected": Recipe(
        activation="u8",
        weight="s8",
        per_channel=False,
        ranges="minmax",
        reduced=True,
        equalize=True,
        adaptive_rounding=True,
        correct_bias=True,
        summary="one weight scale a layer, for NPUs that know no other; equalized and rounded; the same on every CPU",
    ),
    "s8s8-perchannel-minmax": Recipe(
        activation="s8",
        weight="s8",
        per_channel=True,
        ranges="minmax",
        summary="what XNNPACK takes whole; loses points on x86 CPUs without VNNI",
    ),
    "u16s8-perchannel-minmax": Recipe(
        activation="u16",
        weight="s8",
        per_channel=True,
        ranges="minmax",
        summary="16-bit activations for NPUs; a CPU computes it in float",
    ),
}

#: The same on every CPU, and no less accurate than the others; chosen in ``docs/quantization.md``.
DEFAULT_RECIPE = "u8s8-perchannel-minmax-reduced-equalized-rounded-corrected"


def recipe(name: str) -> Recipe:
    """Return a row of the table, or the recipe that a name spells out.

    Raises:
        UsageError: the name follows no grammar; the table is listed.
    """
    found = RECIPES.get(name) or _spelled(name)
    if found is None:
        raise UsageError(
            f"unknown recipe {name!r}; known: {', '.join(RECIPES)}; others are spelled {GRAMMAR}.",
            next_step=f"--recipe {DEFAULT_RECIPE}",
        )
    return found


def _spelled(name: str) -> Recipe | None:
    types, *parts = name.split("-")
    kinds = {f"{a}{w}": (a, w) for a in get_args(ActivationType) for w in get_args(WeightType)}
    if types not in kinds or len(parts) < 2 or parts[0] not in _GRANULARITIES or parts[1] not in RANGE_METHODS:
        return None
    activation, weight = kinds[types]
    method = next(known for known in RANGE_METHODS if known == parts[1])
    plain = Recipe(activation=activation, weight=weight, per_channel=_GRANULARITIES[parts[0]], ranges=method)
    if any(part not in _EXTRAS for part in parts[2:]):
        return None
    extras: dict[str, Any] = {_EXTRAS[part]: True for part in parts[2:]}
    found = dataclasses.replace(plain, **extras)
    return found if found.name == name else None  # its parts in their order, each once
