"""Latency of two models, measured in turns so that a drifting machine drifts under both."""

import contextlib
import gc
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgecnn.bundle.manifest import Latency, Speedup
from edgecnn.errors import UsageError
from edgecnn.progress import Progress
from edgecnn.stats import MIN_PAIRS, median_ratio
from edgecnn.targets.session import Feed, Session, feed

Verdict = Literal["faster", "same", "slower"]
#: Microseconds of each call of a block.
Times = NDArray[np.float64]


def available_cpus() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """How latency is measured.

    Attributes:
        batch: images a call.
        threads: of ONNX Runtime; the process is pinned to as many CPUs where the system allows it.
        pairs: how often both models are opened anew; each pair gives one ratio.
        rounds: of each pair; a round times a block of float calls and a block of int8 calls, in random order.
        seconds: about how long the timed calls take in all; sets how many make a block.
        warmup: calls before each block that are not counted.
        seed: of the order within rounds.
    """

    batch: int = 1
    threads: int = 1
    pairs: int = 10
    rounds: int = 4
    seconds: float = 4.0
    warmup: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        cores = available_cpus()
        for name, value, least in (
            ("batch", self.batch, 1),
            ("threads", self.threads, 1),
            ("pairs", self.pairs, MIN_PAIRS),
            ("rounds", self.rounds, 1),
        ):
            if value < least:
                raise UsageError(
                    f"bench: --{name} must be at least {least}, found {value}.", next_step=f"--{name} {least}"
                )
        if not 0 < self.seconds < float("inf"):
            raise UsageError(
                f"bench: --seconds must be above 0 and finite, found {self.seconds}.", next_step="--seconds 4"
            )
        if self.threads > cores:
            raise UsageError(
                f"bench: --threads {self.threads} on a machine with {cores} CPUs measures the queue.",
                next_step=f"--threads {cores}",
            )


@dataclass(frozen=True, kw_only=True)
class PairedLatency:
    """Float and int8 latency from the same rounds."""

    float_latency: Latency
    int8_latency: Latency
    speedup: Speedup
    verdict: Verdict


def compare_latency(
    open_float: Callable[[], Session],
    open_int8: Callable[[], Session],
    pixels: NDArray[np.uint8],
    settings: BenchSettings,
    progress: Progress,
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

    Raises:
        UsageError: a session takes another, fixed batch.
    """
    order = np.random.default_rng(settings.seed)
    times: tuple[list[Times], list[Times]] = ([], [])
    medians: tuple[list[float], list[float]] = ([], [])
    with _no_garbage_collection():
        for done in range(1, settings.pairs + 1):
            blocks = _time_pair((open_float, open_int8), pixels, settings, order)
            for index in (0, 1):
                times[index].extend(blocks[index])
                medians[index].append(float(np.median([np.median(block) for block in blocks[index]])))
            progress.update("bench", done, settings.pairs)
    ratio = median_ratio(np.array(medians[0]), np.array(medians[1]))
    speedup = Speedup(median=ratio.delta, low=ratio.low, high=ratio.high)
    return PairedLatency(
        float_latency=_summary(np.concatenate(times[0])),
        int8_latency=_summary(np.concatenate(times[1])),
        speedup=speedup,
        verdict=judge(speedup),
    )


def _time_pair(
    openers: tuple[Callable[[], Session], Callable[[], Session]],
    pixels: NDArray[np.uint8],
    settings: BenchSettings,
    order: np.random.Generator,
) -> tuple[list[Times], list[Times]]:
    """Open both models anew and time blocks of calls in turns; return the blocks of each."""
    sessions = [openers[0](), openers[1]()]
    feeds = [_feed_batch(session, pixels, settings.batch) for session in sessions]
    counts = [_calls_per_block(session, batch, settings) for session, batch in zip(sessions, feeds, strict=True)]
    blocks: tuple[list[Times], list[Times]] = ([], [])
    for _ in range(settings.rounds):
        for index in order.permutation(2):
            blocks[index].append(_time_block(sessions[index], feeds[index], settings.warmup, counts[index]))
    return blocks


def judge(speedup: Speedup) -> Verdict:
    """Return a word for a ratio: a difference counts only if the whole interval is on one side of 1."""
    if speedup.low > 1:
        return "faster"
    return "slower" if speedup.high < 1 else "same"


def _feed_batch(session: Session, pixels: NDArray[np.uint8], batch: int) -> Feed:
    fixed = session.input.shape[0]
    if isinstance(fixed, int) and fixed != batch:
        raise UsageError(
            f"bench: the model has the fixed batch {fixed}; --batch {batch} cannot be measured.",
            next_step=f"--batch {fixed}, or export with a batch that may vary",
        )
    return feed(pixels[np.arange(batch) % len(pixels)], session.input)


def _calls_per_block(session: Session, batch: Feed, settings: BenchSettings) -> int:
    """Return how many calls make a block, so that all blocks together last about ``seconds``."""
    pilot = float(np.median(_time_block(session, batch, settings.warmup, 5)))
    block_us = settings.seconds * 1e6 / settings.pairs / settings.rounds / 2
    return max(3, int(block_us / pilot))


def _time_block(session: Session, batch: Feed, warmup: int, calls: int) -> Times:
    """Return the latency of each call in microseconds."""
    run, clock = session.run, time.perf_counter_ns
    for _ in range(warmup):
        run(batch)
    times_ns = np.empty(calls, np.int64)
    for call in range(calls):
        started = clock()
        run(batch)
        times_ns[call] = clock() - started
    return times_ns / 1e3


def _summary(times_us: Times) -> Latency:
    p50, p90, p99 = np.percentile(times_us, [50, 90, 99])
    return Latency(p50_us=float(p50), p90_us=float(p90), p99_us=float(p99), n=times_us.size)


@contextlib.contextmanager
def pinned(threads: int) -> Iterator[tuple[int, ...]]:
    """Keep the process on ``threads`` CPUs, the last ones: the first one serves interrupts.

    Open the sessions inside: the threads of ONNX Runtime's pool inherit what holds when they start.

    Yields:
        The CPUs, or nothing where the system does not allow pinning.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield ()
        return
    allowed = os.sched_getaffinity(0)
    chosen = tuple(sorted(allowed)[-threads:])
    os.sched_setaffinity(0, chosen)
    try:
        yield chosen
    finally:
        os.sched_setaffinity(0, allowed)


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
