"""Latency of two models, measured in turns so that a drifting machine drifts under both."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgecnn.bundle.latency import MAX_PAIRS, Latency, Precision, Speedup
from edgecnn.measure.bench_settings import BenchSettings as BenchSettings
from edgecnn.measure.cpus import available_cpus as available_cpus
from edgecnn.measure.cpus import no_garbage_collection
from edgecnn.measure.cpus import pinned as pinned
from edgecnn.measure.stopwatch import Times, now_us
from edgecnn.measure.turns import Opener, Turns, time_in_turns
from edgecnn.progress import Progress
from edgecnn.stats import MIN_PAIRS, median_ratio

Verdict = Literal["faster", "same", "slower"]
#: Each look at the interval could stop by luck: the number of pairs grows by this factor from look to look.
LOOK_FACTOR = 1.5


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelTimes:
    """Everything timed of one model.

    Attributes:
        latency: of all timed calls together.
        medians_us: float64 ``[pairs]``, one median a fresh session, in order.
        load_us: median over the sessions of opening one.
        first_us: median over the sessions of the first call.
        unsettled: how many of the sessions were still changing when their warm-up was cut off.
    """

    latency: Latency
    medians_us: NDArray[np.float64]
    load_us: float
    first_us: float
    unsettled: int


@dataclass(frozen=True, kw_only=True, eq=False)
class PairedLatency:
    """Float and int8 from the same rounds; ``precision`` says whether a wanted one was reached."""

    of_float: ModelTimes
    of_int8: ModelTimes
    speedup: Speedup
    verdict: Verdict
    precision: Precision | None

    @property
    def float_latency(self) -> Latency:
        """Latency of the reference."""
        return self.of_float.latency

    @property
    def int8_latency(self) -> Latency:
        """Latency of the candidate."""
        return self.of_int8.latency

    @property
    def pairs(self) -> int:
        """How many pairs of sessions were measured."""
        return self.of_float.medians_us.size


@dataclass(kw_only=True, eq=False)
class _Pairs:
    """What was measured so far, and when it began."""

    turns: tuple[list[Turns], list[Turns]] = field(default_factory=lambda: ([], []))
    started_us: float = field(default_factory=now_us)

    def speedup(self) -> Speedup:
        ratio = median_ratio(*(np.array([each.median_us for each in turns]) for turns in self.turns))
        return Speedup(median=ratio.delta, low=ratio.low, high=ratio.high)

    def seconds(self) -> float:
        return (now_us() - self.started_us) / 1e6


def compare_latency(
    open_float: Opener,
    open_int8: Opener,
    pixels: NDArray[np.uint8],
    settings: BenchSettings,
    progress: Progress,
    *,
    between: Callable[[], None] = lambda: None,
) -> PairedLatency:
    """Time float and int8 on the same images, in turns, in several fresh pairs of sessions.

    Two sessions of one and the same model differ by up to two percent, by where their memory happens to lie, and
    keep that difference for as long as they live. So each pair of sessions gives one ratio, and the interval is over
    the pairs: rounds within one pair are not independent.

    Args:
        open_float: opens the reference.
        open_int8: opens the candidate.
        pixels: uint8 ``[N, H, W, 3]``; the first ``batch`` of them are fed, repeated if there are fewer.
        settings: how.
        progress: told the pairs done.
        between: called before each pair, as by who watches the machine.

    Raises:
        UsageError: a session takes another, fixed batch.
    """
    order = np.random.default_rng(settings.seed)
    pairs = _Pairs()
    planned = settings.pairs
    with no_garbage_collection():
        while True:
            for done in range(len(pairs.turns[0]) + 1, planned + 1):
                between()
                for kept, turn in zip(
                    pairs.turns, time_in_turns((open_float, open_int8), pixels, settings, order), strict=True
                ):
                    kept.append(turn)
                progress.update("bench", done, planned)
                if settings.until is not None and done >= MIN_PAIRS and pairs.seconds() >= settings.max_seconds:
                    return _conclude(pairs, settings)
            narrow = settings.until is None or pairs.speedup().relative_width <= settings.until
            if narrow or planned == MAX_PAIRS:
                return _conclude(pairs, settings)
            planned = min(MAX_PAIRS, int(np.ceil(planned * LOOK_FACTOR)))


def judge(speedup: Speedup) -> Verdict:
    """Return a word for a ratio: a difference counts only if the whole interval is on one side of 1."""
    if speedup.low > 1:
        return "faster"
    return "slower" if speedup.high < 1 else "same"


def _conclude(pairs: _Pairs, settings: BenchSettings) -> PairedLatency:
    speedup = pairs.speedup()
    precision = None
    if settings.until is not None:
        width = speedup.relative_width
        precision = Precision(
            asked=settings.until, found=width, met=width <= settings.until, max_seconds=settings.max_seconds
        )
    of_float, of_int8 = (_summary(turns, settings.batch) for turns in pairs.turns)
    return PairedLatency(
        of_float=of_float, of_int8=of_int8, speedup=speedup, verdict=judge(speedup), precision=precision
    )


def _summary(turns: list[Turns], batch: int) -> ModelTimes:
    return ModelTimes(
        latency=summarize(np.concatenate([block for each in turns for block in each.blocks]), batch),
        medians_us=np.array([each.median_us for each in turns]),
        load_us=float(np.median([each.load_us for each in turns])),
        first_us=float(np.median([each.first_us for each in turns])),
        unsettled=sum(not each.warmup.settled for each in turns),
    )


def summarize(times_us: Times, batch: int) -> Latency:
    """Return percentiles and throughput of calls with ``batch`` images each."""
    p50, p90, p99 = np.percentile(times_us, [50, 90, 99])
    return Latency(
        p50_us=float(p50),
        p90_us=float(p90),
        p99_us=float(p99),
        max_us=float(times_us.max()),
        images_per_second=float(batch * times_us.size / times_us.sum() * 1e6),
        n=times_us.size,
    )
