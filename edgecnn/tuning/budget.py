"""How long a tuning may take, and how that is divided."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from edgecnn.errors import UsageError

#: What each stage's race may take of the whole; making the files to race takes the rest.
SHARES = {"recipes": 0.15, "rewrites": 0.1, "float layers": 0.1, "session": 0.08, "final": 0.1}
#: What is kept for refining the winner, which takes longer than making any other file.
REFINING = 0.25


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A deadline.

    Attributes:
        seconds: from when it was made.
        clock: seconds, for tests.
    """

    seconds: float
    clock: Callable[[], float] = time.monotonic
    started: float = field(init=False)

    def __post_init__(self) -> None:
        if not 0 < self.seconds < float("inf"):
            raise UsageError(
                f"tune: --seconds must be above 0 and finite, found {self.seconds:g}.", next_step="--seconds 60"
            )
        object.__setattr__(self, "started", self.clock())

    def is_over(self, stage: str) -> bool:
        """Tell whether all that a stage may use is spent."""
        return self.left_s(stage) <= 0

    def left_s(self, stage: str) -> float:
        """Return the seconds left for a stage: the last race keeps its share, and so does refining until it is done."""
        kept = SHARES["final"] + (REFINING if stage in ("recipes", "rewrites", "float layers") else 0)
        return self.started + self.seconds * (1 - kept) - self.clock()

    def race_s(self, stage: str) -> float:
        """Return how long the race of a stage may take; never nothing, for a few heats are always run."""
        share_s = self.seconds * SHARES[stage]
        return share_s if stage == "final" else max(min(share_s, self.left_s(stage)), 1e-3)
