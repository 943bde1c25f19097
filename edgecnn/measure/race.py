"""Many models against each other on one clock: in turns, and whoever is surely slower than the leader drops out.

A racing algorithm (Maron and Moore, "Hoeffding Races", NIPS 1993; Birattari et al., "A Racing Algorithm for
Configuring Metaheuristics", GECCO 2002) with the exact interval of a median ratio in place of their tests: nothing is
assumed of how times are distributed. A heat opens every model anew and times each a few times in random order; it gives
one time for each of them. Two sessions of one and the same model differ by up to two percent for as long as they live,
so the heats are what is independent, not the calls.

Who looks after every heat finds a difference sooner or later where there is none. So there are four looks, and the
risks that they take add up to the 5% of one 95% interval (Bonferroni).
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import UsageError
from edgecnn.measure.cpus import no_garbage_collection
from edgecnn.measure.stopwatch import Clock, Times, time_calls
from edgecnn.measure.turns import bind, feed_batch
from edgecnn.progress import SILENT, Progress
from edgecnn.stats import CONFIDENCE, MIN_PAIRS, Comparison, median_ratio
from edgecnn.targets.session import Session

#: After how many heats losers are looked for, and the confidence of the interval that must lie wholly above 1. It ends
#: at the (k + 1)-th heat from either side, k = 0, 1, 5, 14; the risks 2 P(X <= k), X ~ Binomial(n, 1/2), make 4.97%.
LOOKS: Mapping[int, float] = {6: 0.968, 12: 0.993, 24: 0.993, 48: 0.994}
MAX_HEATS = max(LOOKS)


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """A model in a race.

    Attributes:
        name: to be called by; no two of a race share one.
        open: opens it anew, as a user would.
        group: whom it competes with: a model is dropped for the leader of its own group alone.
    """

    name: str
    open: Callable[[], Session]
    group: str = ""


@dataclass(frozen=True, kw_only=True)
class RaceSettings:
    """How a race is run.

    Attributes:
        seconds: after which no further heat begins; :data:`MIN_PAIRS` heats are always run, for fewer have no interval.
        batch: images a call.
        turns: blocks of each model in a heat.
        block_us: about how long a block of calls takes.
        warmup_us: about how long is called before each block without being counted.
        seed: of the order.
        heats: at most.
    """

    seconds: float
    batch: int = 1
    turns: int = 2
    block_us: float = 4000.0
    warmup_us: float = 1000.0
    seed: int = 0
    heats: int = MAX_HEATS

    def __post_init__(self) -> None:
        if not 0 < self.seconds < float("inf"):
            raise UsageError(
                f"tune: --seconds must be above 0 and finite, found {self.seconds}.", next_step="--seconds 60"
            )
        if self.batch < 1:
            raise UsageError(f"tune: --batch must be at least 1, found {self.batch}.", next_step="--batch 1")


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a model did.

    Attributes:
        name: of the entrant.
        costs: one a heat, from the first heat on: microseconds a call.
        against_reference: its cost divided by the reference's, over the heats that both ran; below 1 it is faster.
        dropped_after: heats after which it was dropped, or None.
        dropped_for: the leader to which it lost then, or None.
        tolerance: of a cost that is counted and not timed, relative: differences within it are none.
    """

    name: str
    costs: tuple[float, ...]
    against_reference: Comparison
    dropped_after: int | None = None
    dropped_for: str | None = None
    tolerance: float = 0.0

    @property
    def cost(self) -> float:
        """The median over the heats."""
        return float(np.median(self.costs))

    def over(self, other: "Standing") -> Comparison:
        """Return this cost divided by another's of the same race, over the heats that both ran."""
        if not self.tolerance:
            return cost_ratio(self.costs, other.costs)
        ratio = self.cost / other.cost
        return Comparison(delta=ratio, low=ratio * (1 - self.tolerance), high=ratio * (1 + self.tolerance))


def race(
    entrants: Sequence[Entrant],
    pixels: NDArray[np.uint8],
    settings: RaceSettings,
    *,
    progress: Progress = SILENT,
    clock: Clock = time.perf_counter_ns,
    looks: Mapping[int, float] = LOOKS,
) -> tuple[Standing, ...]:
    """Time models against each other until the losers are known or the time is over.

    Args:
        entrants: the first is the reference, which is never dropped.
        pixels: uint8 ``[N, H, W, 3]``; the first ``batch`` of them are fed, repeated if there are fewer.
        settings: how.
        progress: told the heats done.
        clock: nanoseconds, for tests.
        looks: after how many heats losers are dropped, and the confidence that it takes; none drops nobody.

    Returns:
        One standing for each entrant, in their order.

    Raises:
        UsageError: a model takes another, fixed batch.
        ValueError: no entrants, or two of one name.
    """
    names = [entrant.name for entrant in entrants]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"expected entrants with names of their own, found {names}")
    track = _Track(entrants, pixels, settings, clock)
    end_ns = clock() + int(settings.seconds * 1e9)
    with no_garbage_collection():
        for heat in range(1, settings.heats + 1):
            track.run_heat()
            progress.update("tune", heat, settings.heats)
            if heat in looks:
                track.drop_losers(looks[heat])
            if heat >= MIN_PAIRS and (clock() >= end_ns or (looks and track.is_decided())):
                break
    return track.standings()


class _Opened:
    """A session of one heat."""

    def __init__(self, entrant: Entrant, pixels: NDArray[np.uint8], settings: RaceSettings, clock: Clock) -> None:
        self.name, self._clock = entrant.name, clock
        session = entrant.open()
        self._call = bind(session, feed_batch(session, pixels, settings.batch), "run")
        self._time(1)  # the first call allocates
        pilot_us = max(float(np.median(self._time(3))), 0.1)
        self._calls = max(1, round(settings.block_us / pilot_us))
        self._warmup = max(1, round(settings.warmup_us / pilot_us))
        self.medians_us: list[float] = []

    def time_block(self) -> None:
        """Warm up, and time one block."""
        self._time(self._warmup)
        self.medians_us.append(float(np.median(self._time(self._calls))))

    def _time(self, calls: int) -> Times:
        return time_calls(self._call, calls, clock=self._clock)


@dataclass
class _Track:
    """A race under way: ``costs`` is microseconds by name, one a heat, all from the first heat on."""

    entrants: Sequence[Entrant]
    pixels: NDArray[np.uint8]
    settings: RaceSettings
    clock: Clock
    costs: dict[str, list[float]] = field(init=False)
    running: list[Entrant] = field(init=False)
    dropped: dict[str, tuple[int, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.costs = {entrant.name: [] for entrant in self.entrants}
        self.running = list(self.entrants)
        self._order = np.random.default_rng(self.settings.seed)

    def run_heat(self) -> None:
        """Open everyone anew, time blocks in random order, and add one cost for each."""
        opened = [_Opened(entrant, self.pixels, self.settings, self.clock) for entrant in self.running]
        for _ in range(self.settings.turns):
            for index in self._order.permutation(len(opened)):
                opened[index].time_block()
        for each in opened:
            self.costs[each.name].append(float(np.median(each.medians_us)))

    def drop_losers(self, confidence: float) -> None:
        """Drop whose interval of the ratio to its leader lies wholly above 1; never the reference."""
        for entrant in self._others():
            leader = self._leader(entrant.group)
            if entrant.name != leader and self._ratio(entrant.name, leader, confidence).low > 1:
                self.running.remove(entrant)
                self.dropped[entrant.name] = (len(self.costs[entrant.name]), leader)

    def is_decided(self) -> bool:
        """Tell whether nobody is left who could be dropped."""
        return all(entrant.name == self._leader(entrant.group) for entrant in self._others())

    def standings(self) -> tuple[Standing, ...]:
        """Return how everyone did."""
        return tuple(self._standing(entrant) for entrant in self.entrants)

    def _others(self) -> list[Entrant]:
        return [entrant for entrant in self.running if entrant is not self.entrants[0]]

    def _standing(self, entrant: Entrant) -> Standing:
        name = entrant.name
        after, winner = self.dropped.get(name, (None, None))
        return Standing(
            name=name,
            costs=tuple(self.costs[name]),
            against_reference=self._ratio(name, self.entrants[0].name),
            dropped_after=after,
            dropped_for=winner,
        )

    def _leader(self, group: str) -> str:
        """Return who of a group is fastest by median; the earlier entrant of two that are equal."""
        names = [entrant.name for entrant in self.running if entrant.group == group]
        return min(names, key=lambda name: float(np.median(self.costs[name])))

    def _ratio(self, name: str, other: str, confidence: float = CONFIDENCE) -> Comparison:
        return cost_ratio(self.costs[name], self.costs[other], confidence=confidence)


def cost_ratio(costs: Sequence[float], others: Sequence[float], *, confidence: float = CONFIDENCE) -> Comparison:
    """Return one model's cost divided by another's, over the heats that both ran: whoever was dropped ran the first."""
    shared = min(len(costs), len(others))
    return median_ratio(np.array(costs[:shared]), np.array(others[:shared]), confidence=confidence)
