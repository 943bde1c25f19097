"""What a tuning measures with: time in a race, or instructions where time means nothing."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgecnn.bundle.tuning import Unit
from edgecnn.errors import ModelError, TargetError
from edgecnn.measure.latency import pinned
from edgecnn.measure.race import LOOKS, MAX_HEATS, Entrant, RaceSettings, Standing, race
from edgecnn.measure.stopwatch import Clock
from edgecnn.progress import SILENT, Progress
from edgecnn.targets import Session, open_session
from edgecnn.tuning.maker import Made

#: Heats of the race in which nobody is dropped; fewer if its time is over before.
FINAL_HEATS = 24


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A file to be measured, and whom it competes with."""

    made: Made
    group: str


class Meter(Protocol):
    """Measures what a call of each of some files costs, the first of them being the reference."""

    @property
    def unit(self) -> Unit:
        """What a cost is in."""

    @property
    def cpus(self) -> tuple[int, ...]:
        """The CPUs that the last measurement was pinned to."""

    def why_not(self, made: Made) -> str | None:
        """Return why the target does not run a file, or None."""

    def measure(self, trials: Sequence[Trial], seconds: float, *, drops: bool) -> tuple[Standing, ...]:
        """Return how each did; ``drops`` allows to stop measuring losers."""


class Opener(Protocol):
    """:func:`edgecnn.targets.open_session`."""

    def __call__(self, name: str, model: bytes, *, model_name: str, threads: int, options_name: str) -> Session:
        """Open a model on a target."""


@dataclass(kw_only=True)
class ClockMeter:
    """Races on a target with a clock, pinned to as many CPUs as there are threads.

    Attributes:
        target: row of the target table.
        pixels: uint8 ``[N, H, W, 3]`` to feed.
        batch: images a call.
        threads: of the candidates with most of them.
        seed: of the order within heats.
        progress: told the heats done.
        opener: opens a session, for tests.
        clock: nanoseconds, for tests.
        cpus: those of the last race; none where the system does not allow pinning.
    """

    target: str
    pixels: NDArray[np.uint8]
    batch: int = 1
    threads: int = 1
    seed: int = 0
    progress: Progress = SILENT
    opener: Opener = open_session
    clock: Clock = time.perf_counter_ns
    unit: Unit = field(default="us", init=False)
    cpus: tuple[int, ...] = field(default=(), init=False)

    def why_not(self, made: Made) -> str | None:
        """Open a file once."""
        try:
            self._open(made)()
        except (ModelError, TargetError) as error:  # this file and no other is not for this target
            return error.message
        return None

    def measure(self, trials: Sequence[Trial], seconds: float, *, drops: bool) -> tuple[Standing, ...]:
        """Race the files; see :func:`edgecnn.measure.race.race`."""
        entrants = [
            Entrant(name=trial.made.candidate.name, open=self._open(trial.made), group=trial.group) for trial in trials
        ]
        settings = RaceSettings(
            seconds=seconds,
            batch=self.batch,
            seed=self.seed if drops else self.seed + 1,
            heats=MAX_HEATS if drops else FINAL_HEATS,
        )
        with pinned(self.threads) as self.cpus:  # the threads of a session inherit what holds when it is opened
            return race(
                entrants, self.pixels, settings,
                progress=self.progress, clock=self.clock, looks=LOOKS if drops else {},
            )  # fmt: skip

    def _open(self, made: Made) -> Callable[[], Session]:
        candidate = made.candidate

        def opened() -> Session:
            return self.opener(
                self.target,
                made.data,
                model_name=candidate.name,
                threads=candidate.threads,
                options_name=candidate.session,
            )

        return opened
