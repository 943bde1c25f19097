"""The cheapest recipe, and the fewest float layers, that keep the accuracy asked for.

Recipes are tried first, the one with the least preparation before the others, for they all cost the same on the device.
Only if none will do do layers stay float, the one that costs most first, each counted; at the end it is tried for each
of them whether the others alone suffice. Every try is told. All is judged on training images held apart from those that
set the ranges; the test set is not looked at.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edgecnn.data.images import Images
from edgecnn.progress import Progress
from edgecnn.quantization.judge import Judge, Judgement
from edgecnn.quantization.keep_float import quantize_and_keep_float
from edgecnn.quantization.prepare import Prepared
from edgecnn.quantization.recipes import Recipe, recipe
from edgecnn.quantization.sensitivity import layers_with_weights, measure_sensitivity
from edgecnn.quantization.static import Quantized

#: What is tried where the user names no recipe, in this order; all of them are the same on every CPU.
LADDER = (
    "u8s8-perchannel-minmax-reduced",
    "u8s8-perchannel-minmax-reduced-corrected",
    "u8s8-perchannel-minmax-reduced-equalized-rounded-corrected",
    "u8s8-perchannel-mse-reduced-equalized-rounded-corrected",
)


@dataclass(frozen=True, kw_only=True)
class Try:
    """One recipe that was tried."""

    recipe: Recipe
    judgement: Judgement
    met: bool


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search came to.

    Attributes:
        quantized: the model of ``best``.
        best: the first try that met the budget, with as few float layers as will do; else the one that lost least.
        tries: all of them, in order.
    """

    quantized: Quantized
    best: Try
    tries: tuple[Try, ...]


Preparer = Callable[[Recipe], Prepared]


def search(
    recipes: Sequence[Recipe],
    max_drop_pp: float,
    prepare: Preparer,
    calibration: Images,
    judge: Judge,
    *,
    threads: int,
    progress: Progress,
) -> Found:
    """Find a quantization that loses no more top-1 than ``max_drop_pp`` percentage points.

    Args:
        recipes: to try, in this order.
        max_drop_pp: the budget; a drop's estimate is held against it, its interval is told.
        prepare: looks at the activations for a recipe.
        calibration: the images that set the ranges.
        judge: on images held apart from these.
        threads: for ONNX Runtime.
        progress: told every try.

    Raises:
        EdgecnnError: a recipe cannot be followed; see :func:`~edgecnn.quantization.prepare.prepare`.
    """
    hunt = _Hunt(max_drop_pp, prepare, calibration, judge, threads, progress)
    for one in recipes:
        if hunt.attempt(one).met:
            return hunt.found()
    hunt.add_float_layers()
    hunt.remove_float_layers()
    return hunt.found()


class _Hunt:
    """A search under way."""

    def __init__(
        self,
        max_drop_pp: float,
        prepare: Preparer,
        calibration: Images,
        judge: Judge,
        threads: int,
        progress: Progress,
    ) -> None:
        self._budget_pp, self._prepare, self._calibration = max_drop_pp, prepare, calibration
        self._judge, self._threads, self._progress = judge, threads, progress
        self._tries: list[Try] = []
        self._named_by_user: tuple[str, ...] = ()
        self._best: tuple[Try, Quantized] | None = None

    def attempt(self, one: Recipe) -> Try:
        """Quantize and judge; remember the best."""
        prepared = self._prepare(one)
        quantized = quantize_and_keep_float(
            prepared, self._calibration, one, threads=self._threads, progress=self._progress
        )
        judgement = self._judge(quantized.data)
        tried = Try(recipe=one, judgement=judgement, met=_holds(judgement, self._budget_pp))
        self._tries.append(tried)
        drop = judgement.drop_pp
        self._progress.say(
            f"{one.name}: {drop.delta:+.2f} points ({drop.low:+.2f} to {drop.high:+.2f}), "
            f"{judgement.sqnr_db:.1f} dB: {'enough' if tried.met else 'too much'}"
        )
        if self._best is None or _rank(tried) < _rank(self._best[0]):
            self._best = (tried, quantized)
        return tried

    def add_float_layers(self) -> None:
        """Leave layers of the best recipe float, the one that costs most first, until the budget is met."""
        assert self._best is not None
        base = self._best[0].recipe
        self._named_by_user = base.float_layers
        prepared = self._prepare(base)
        if not layers_with_weights(prepared.model):
            return
        self._progress.say(f"no recipe alone is enough; looking for the layers that cost most with {base.name}")
        ranking = measure_sensitivity(
            prepared, self._calibration, self._judge, base, threads=self._threads, progress=self._progress
        )
        kept: list[str] = list(base.float_layers)
        movable = [layer.layer for layer in ranking.layers if layer.layer not in kept]
        for layer in movable[:-1]:  # without the last nothing would be left in integers
            kept.append(layer)
            if self.attempt(dataclasses.replace(base, float_layers=tuple(kept), summary="")).met:
                return

    def remove_float_layers(self) -> None:
        """Take back each float layer without which the budget is met as well."""
        assert self._best is not None
        best = self._best[0]
        if not best.met:
            return
        # Those that the recipe itself names are the user's; the last one added was needed.
        for layer in [name for name in best.recipe.float_layers if name not in self._named_by_user][:-1]:
            fewer = tuple(name for name in self._best[0].recipe.float_layers if name != layer)
            self.attempt(dataclasses.replace(best.recipe, float_layers=fewer))

    def found(self) -> Found:
        """Return the best of the tries."""
        assert self._best is not None
        return Found(quantized=self._best[1], best=self._best[0], tries=tuple(self._tries))


def _holds(judgement: Judgement, budget_pp: float) -> bool:
    """Compare with a budget in decimals: 29 of 1,000 images are 2.9 points, and not 4e-16 more."""
    return round(judgement.drop_pp.delta - budget_pp, 9) <= 0


def _rank(tried: Try) -> tuple[bool, int, float, float]:
    """Sort those that meet the budget first, then by float layers; those that do not, by what they lose, and noise."""
    if tried.met:
        return (False, len(tried.recipe.float_layers), 0.0, 0.0)
    return (True, 0, tried.judgement.drop_pp.delta, -tried.judgement.sqnr_db)


def ladder() -> list[Recipe]:
    """Return the recipes to try where the user names none."""
    return [recipe(name) for name in LADDER]
