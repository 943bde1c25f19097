"""Warm-up that ends when a session has settled, not after a fixed number of calls."""

from dataclasses import dataclass

import numpy as np

from edgecnn.measure.stopwatch import Call, now_us, time_calls

#: A session has settled when the medians of this many blocks in a row ...
BLOCKS = 3
#: ... lie within this fraction of the smallest.
TOLERANCE = 0.01
#: Stop then, settled or not, but not before there are :data:`BLOCKS` blocks.
LIMIT_US = 100_000.0
#: A block lasts about so long: shorter ones differ by the clock and by chance ...
_BLOCK_US = 1000.0
#: ... but is no fewer calls and no more than this.
_CALLS = (3, 50)


@dataclass(frozen=True, kw_only=True)
class Warmup:
    """How a session was warmed up.

    Attributes:
        calls: how many it took.
        settled: whether it settled before the limit.
        call_us: median of its last block.
    """

    calls: int
    settled: bool
    call_us: float


def warm_up(call: Call) -> Warmup:
    """Call until the medians of successive short blocks agree, or :data:`LIMIT_US` are over."""
    started = now_us()
    first = float(time_calls(call, 1)[0])
    size = int(np.clip(_BLOCK_US / max(first, 1e-3), *_CALLS))
    medians: list[float] = []
    while True:
        medians.append(float(np.median(time_calls(call, size))))
        last = medians[-BLOCKS:]
        settled = len(last) == BLOCKS and max(last) - min(last) <= TOLERANCE * min(last)
        if settled or (len(last) == BLOCKS and now_us() - started >= LIMIT_US):
            return Warmup(calls=1 + size * len(medians), settled=settled, call_us=medians[-1])
