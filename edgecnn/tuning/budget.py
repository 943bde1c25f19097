"""How long a tuning may take, and how that is divided."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from edgecnn.errors import UsageError

#: What each stage's race may take of the whole; making the files to race takes the rest.
SHARES = {"recipes": 0.2, "rewrites": 0.15, "float layers": 0.15, "session": 0.1, "final": 0.15}


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

    def is_over(self) -> bool:
        """Tell whether all is spent but what the last race needs."""
        return self.left_s() <= 0

    def left_s(self) -> float:
        """Return the seconds left before the last race."""
        return self.started + self.seconds * (1 - SHARES["final"]) - self.clock()

    def race_s(self, stage: str) -> float:
        """Return how long the race of a stage may take; never nothing, for a few heats are always run."""
        share_s = self.seconds * SHARES[stage]
        return share_s if stage == "final" else max(min(share_s, self.left_s()), 1e-3)
