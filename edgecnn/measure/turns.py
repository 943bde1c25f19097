"""Any number of candidates timed in turns, so that a drifting machine drifts under all of them."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from edgecnn.bundle.latency import Through
from edgecnn.errors import UsageError
from edgecnn.measure.bench_settings import BenchSettings
from edgecnn.measure.stopwatch import Call, Times, now_us, time_calls
from edgecnn.measure.warmup import Warmup, warm_up
from edgecnn.targets.session import BindableSession, Feed, Session, feed
from edgecnn.targets.worker_session import WorkerSession

Opener = Callable[[], Session]
#: The uncounted calls at the head of a block take no longer than about this, and are at least one.
REFILL_US = 20_000.0
#: A block is no fewer calls, however long they take.
MIN_CALLS = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Turns:
    """One candidate, freshly opened, and its blocks of timed calls.

    Attributes:
        load_us: opening the session.
        first_us: its first call.
        warmup: how it settled.
        blocks: one a round, float64 ``[calls]`` microseconds each.
    """

    load_us: float
    first_us: float
    warmup: Warmup
    blocks: tuple[Times, ...]

    @property
    def median_us(self) -> float:
        """The median of the blocks' medians: one disturbed round does not move it."""
        return float(np.median([np.median(block) for block in self.blocks]))


def time_in_turns(
    openers: Sequence[Opener], pixels: NDArray[np.uint8], settings: BenchSettings, order: np.random.Generator
) -> list[Turns]:
    """Open every candidate anew and time blocks of their calls in rounds, in an order that changes with each round.

    Which is opened and warmed up first is drawn as well.

    Two sessions of one and the same model differ by up to two percent, by where their memory happens to lie: call
    this several times and take one median of each. Call it inside :func:`edgecnn.measure.cpus.pinned` and
    :func:`edgecnn.measure.cpus.no_garbage_collection`.

    Args:
        openers: one a candidate, each opens a session.
        pixels: uint8 ``[N, H, W, 3]``; the first ``batch`` of them are fed, repeated if there are fewer.
        settings: how; ``pairs`` and ``seconds`` set how long a block is.
        order: draws every order.

    Raises:
        UsageError: a session takes another, fixed batch, or cannot be run through what was asked for.
    """
    with contextlib.ExitStack() as stack:
        opened = _open(openers, order, stack)
        return _time(opened, pixels, settings, order)


def _time(
    opened: Sequence[tuple[Session, float]],
    pixels: NDArray[np.uint8],
    settings: BenchSettings,
    order: np.random.Generator,
) -> list[Turns]:
    feeds = [feed_batch(session, pixels, settings.batch) for session, _ in opened]
    firsts, calls, warmups = {}, {}, {}
    for index in order.permutation(len(opened)):
        session, batch = opened[index][0], feeds[index]
        firsts[index] = float(time_calls(bind(session, batch, "run"), 1)[0])
        calls[index] = bind(session, batch, settings.through)
        warmups[index] = warm_up(calls[index])
    blocks: list[list[Times]] = [[] for _ in opened]
    for _ in range(settings.rounds):
        for index in order.permutation(len(opened)):
            blocks[index].append(_time_block(calls[index], warmups[index].call_us, settings, len(opened)))
    return [
        Turns(load_us=opened[index][1], first_us=firsts[index], warmup=warmups[index], blocks=tuple(blocks[index]))
        for index in range(len(opened))
    ]


def _open(
    openers: Sequence[Opener], order: np.random.Generator, stack: contextlib.ExitStack
) -> list[tuple[Session, float]]:
    """Open every candidate, and return it with the microseconds that took; the stack ends its worker.

    In random order, for one that is opened after another finds other memory, and warmer files and code.
    """
    found = {}
    for index in order.permutation(len(openers)):
        started = now_us()
        session = openers[index]()
        found[index] = (session, _load_us(session, now_us() - started))
        if isinstance(session, WorkerSession):
            stack.enter_context(session)
    return [found[index] for index in range(len(openers))]


def _load_us(session: Session, elapsed_us: float) -> float:
    """Return how long opening took: what a worker says of itself leaves its start out."""
    own = session.load_us if isinstance(session, WorkerSession) else None
    return elapsed_us if own is None else own


def feed_batch(session: Session, pixels: NDArray[np.uint8], batch: int) -> Feed:
    """Return ``batch`` images as a session takes them.

    Raises:
        UsageError: it takes another, fixed batch.
    """
    fixed = session.input.shape[0]
    if isinstance(fixed, int) and fixed != batch:
        raise UsageError(
            f"the model has the fixed batch {fixed}; --batch {batch} cannot be measured.",
            next_step=f"--batch {fixed}, or export with a batch that may vary",
        )
    return feed(pixels[np.arange(batch) % len(pixels)], session.input)


def bind(session: Session, batch: Feed, through: Through) -> Call:
    """Return what is timed: a call with arrays, or on buffers that are bound beforehand.

    Raises:
        UsageError: the session has no buffers to bind.
    """
    if through == "run":
        return session.timed(batch) if isinstance(session, WorkerSession) else partial(session.run, batch)
    if not isinstance(session, BindableSession):
        raise UsageError(
            f"bench: --through {through} needs a session of the onnxruntime installed here; this one is another.",
            next_step="--through run",
        )
    return session.bind(batch)


def _time_block(call: Call, call_us: float, settings: BenchSettings, candidates: int) -> Times:
    """Fill the caches again, then time so many calls that all blocks together last about ``seconds``."""
    for _ in range(_refill_calls(call_us, settings.warmup)):
        call()
    block_us = settings.seconds * 1e6 / settings.pairs / settings.rounds / candidates
    return time_calls(call, max(MIN_CALLS, int(block_us / call_us)))


def _refill_calls(call_us: float, most: int) -> int:
    return min(most, max(1, int(REFILL_US / call_us)))
