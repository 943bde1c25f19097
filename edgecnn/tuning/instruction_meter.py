"""Costs counted in instructions: they repeat exactly, so each file is counted once and nothing has to be raced."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgecnn.bundle.tuning import Unit
from edgecnn.errors import ModelError
from edgecnn.measure.race import Standing
from edgecnn.progress import SILENT, Progress
from edgecnn.stats import Comparison
from edgecnn.tuning.maker import Made
from edgecnn.tuning.meter import Trial

#: One model counted several times in one process differs by up to 0.2%, by where its memory lies.
TOLERANCE = 0.003


class Counter(Protocol):
    """:class:`edgecnn.targets.instructions.InstructionCounter`."""

    def count(self, model: bytes, pixels: NDArray[np.uint8], *, model_name: str, options_name: str) -> int:
        """Return the instructions of one call with all of ``pixels``."""


@dataclass(kw_only=True)
class InstructionMeter:
    """Counts on an emulated CPU; see :class:`edgecnn.tuning.meter.Meter`.

    Attributes:
        counter: an emulated process.
        pixels: uint8 ``[N, H, W, 3]`` to feed, all in one call.
        progress: told the files counted.
        cpus: none, for what else runs does not matter.
    """

    counter: Counter
    pixels: NDArray[np.uint8]
    progress: Progress = SILENT
    unit: Unit = field(default="instructions", init=False)
    cpus: tuple[int, ...] = field(default=(), init=False)
    _counts: dict[tuple[bytes, str], int] = field(default_factory=dict, init=False)

    def why_not(self, made: Made) -> str | None:
        """Return why a file does not run there, after running it."""
        try:
            self._count(made)
        except ModelError as error:  # this file and no other is not for this target
            return error.message
        return None

    def measure(self, trials: Sequence[Trial], seconds: float, *, drops: bool) -> tuple[Standing, ...]:
        """Return the count of each; nobody is dropped, whatever ``seconds`` and ``drops`` say."""
        counts = []
        for done, trial in enumerate(trials, 1):
            counts.append(self._count(trial.made))
            self.progress.update("count instructions", done, len(trials))
        return tuple(
            self._standing(trial.made.candidate.name, count, counts[0])
            for trial, count in zip(trials, counts, strict=True)
        )

    def _count(self, made: Made) -> int:
        candidate = made.candidate
        key = (made.data, candidate.session)
        if key not in self._counts:
            self._counts[key] = self.counter.count(
                made.data, self.pixels, model_name=candidate.name, options_name=candidate.session
            )
        return self._counts[key]

    def _standing(self, name: str, count: int, reference: int) -> Standing:
        ratio = count / reference
        return Standing(
            name=name,
            costs=(float(count),),
            against_reference=Comparison(delta=ratio, low=ratio * (1 - TOLERANCE), high=ratio * (1 + TOLERANCE)),
            tolerance=TOLERANCE,
        )
