"""A network without a network: files are names, accuracy and cost are looked up."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgecnn.bundle.tuning import Form, Unit
from edgecnn.measure.race import Standing
from edgecnn.quantization.judge import Judge, Logits
from edgecnn.quantization.recipes import Recipe
from edgecnn.quantization.static import Quantized
from edgecnn.stats import median_ratio
from edgecnn.tuning.candidate import Candidate
from edgecnn.tuning.maker import Made, Maker
from edgecnn.tuning.meter import Trial

N = 2000
MODEL = json.dumps({"recipe": "float", "rewrites": []}).encode()


class FakeJudge(Judge):
    """Knows how many of 2,000 images a file gets wrong, and how many more in its rewritten form."""

    def __init__(
        self, wrong: Mapping[str, int] | None = None, wrong_rewritten: Mapping[str, int] | None = None
    ) -> None:
        self._wrong, self._rewritten = wrong or {}, wrong_rewritten or {}
        self._logits = np.tile(np.array([[1.0, 0.0]], np.float32), (N, 1))
        self._right = np.ones(N, np.bool_)
        self.asked: list[str] = []
        self.images = type("Labels", (), {"labels": np.zeros(N, np.int64)})()

    def answers(self, data: bytes) -> Logits:
        """Return logits with the first images wrong."""
        told = json.loads(data)
        self.asked.append(told["recipe"])
        logits = self._logits.copy()
        wrong = self._wrong.get(told["recipe"], 0) + sum(self._rewritten.get(name, 0) for name in told["rewrites"])
        logits[:wrong] = [0.0, 1.0]
        return logits


class FakeRewriter:
    """Writes the names of rewrites into the file."""

    def __init__(
        self, plans: Mapping[str, Sequence[tuple[str, ...]]] | None = None, useless: Sequence[str] = ()
    ) -> None:
        self._plans, self._useless = plans or {}, useless

    def rewrite(self, data: bytes, names: Sequence[str], *, name: str) -> tuple[bytes, tuple[str, ...]]:
        """Return the file with the names; what is useless finds no place."""
        if set(names) <= set(self._useless):
            return data, ("no place",)
        return json.dumps({**json.loads(data), "rewrites": list(names)}).encode(), ()

    def plans(self, data: bytes, *, form: Form) -> tuple[tuple[str, ...], ...]:
        """Return what it was told, behind the empty one."""
        return ((), *self._plans.get(form, ()))


def quantize(recipe: Recipe) -> Quantized:
    """Return a file that says what it is made by."""
    told = {"recipe": recipe.name, "rewrites": [], "float": list(recipe.float_layers)}
    return Quantized(data=json.dumps(told).encode(), float_layers=recipe.float_layers)


def make_maker(
    judge: FakeJudge | None = None,
    rewriter: FakeRewriter | None = None,
    quantizer: Callable[[Recipe], Quantized] = quantize,
) -> Maker:
    """Return a maker of such files."""
    return Maker(model=MODEL, quantize=quantizer, judge=judge or FakeJudge(), rewriter=rewriter or FakeRewriter())


@dataclass
class FakeMeter:
    """Looks costs up by candidate; ten heats for everyone, each a little slower than the one before."""

    cost: Callable[[Candidate], float]
    refused: Mapping[str, str] = field(default_factory=dict)
    unit: Unit = "us"
    cpus: tuple[int, ...] = (1,)
    measured: list[list[str]] = field(default_factory=list)
    groups: dict[str, str] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    drops: list[bool] = field(default_factory=list)

    def why_not(self, made: Made) -> str | None:
        """Return a reason by name."""
        return self.refused.get(made.candidate.name)

    def measure(self, trials: Sequence[Trial], seconds: float, *, drops: bool) -> tuple[Standing, ...]:
        """Return the standings; a cost with a fraction of .5 is noisy, so that it ties with its neighbours."""
        self.measured.append([trial.made.candidate.name for trial in trials])
        self.groups |= {trial.made.candidate.name: trial.group for trial in trials}
        self.seconds.append(seconds)
        self.drops.append(drops)
        costs = [self._costs(trial.made.candidate) for trial in trials]
        return tuple(
            Standing(
                name=trial.made.candidate.name,
                costs=tuple(mine),
                against_reference=median_ratio(mine, costs[0]),
            )
            for trial, mine in zip(trials, costs, strict=True)
        )

    def _costs(self, candidate: Candidate) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
        cost = self.cost(candidate)
        noisy = cost % 1 == 0.5
        wave = np.where(np.arange(10) % 2, 0.9, 1.1) if noisy else np.ones(10)
        return np.asarray(cost * wave)
