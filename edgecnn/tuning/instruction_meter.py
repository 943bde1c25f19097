"""Costs counted in instructions: they repeat exactly, so each file is counted once and nothing has to be raced."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgecnn.bundle.tuning import Unit
from edgecnn.errors import ModelError, StageError, TargetError
from edgecnn.measure.race import Standing
from edgecnn.progress import SILENT, Progress
from edgecnn.stats import Comparison
from edgecnn.targets.instructions import InstructionCounter
from edgecnn.tuning.maker import Made
from edgecnn.tuning.meter import Trial


@dataclass(kw_only=True)
class InstructionMeter:
    """Counts on an emulated CPU.

    Attributes:
        counter: an emulated process.
        pixels: uint8 ``[N, H, W, 3]`` to feed, all in one call.
        progress: told the files counted.
    """

    counter: InstructionCounter
    pixels: NDArray[np.uint8]
    progress: Progress = SILENT
    unit: Unit = field(default="instructions", init=False)
    cpus: tuple[int, ...] = field(default=(), init=False)
    _counts: dict[tuple[bytes, str], float] = field(default_factory=dict, init=False)

    def why_not(self, made: Made) -> str | None:
        """Count a file, which opens it there."""
        try:
            self._count(made)
        except (ModelError, TargetError, StageError) as error:  # this file and no other is not for this target
            return error.message
        return None
