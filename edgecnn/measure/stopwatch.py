"""The one place that looks at the clock."""

import time
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Call = Callable[[], object]
#: Nanoseconds since some moment.
Clock = Callable[[], int]


@runtime_checkable
class SelfTimed(Protocol):
    """A call that is timed where it runs: what lies between here and there must not count."""

    def __call__(self) -> object:
        """Call once."""

    def time(self, calls: int) -> "Times":
        """Return the microseconds of each of some calls."""


#: Microseconds of each call of a block.
Times = NDArray[np.float64]


def now_us() -> float:
    """Return microseconds since some moment, by a clock that never goes back."""
    return time.perf_counter_ns() / 1e3


def time_calls(call: Call, calls: int, *, clock: Clock | None = None) -> Times:
    """Return the microseconds of each of ``calls`` calls; ``clock`` is another one, for tests."""
    if isinstance(call, SelfTimed):
        return call.time(calls)
    clock = clock or time.perf_counter_ns
    times_ns = np.empty(calls, np.int64)
    for index in range(calls):
        started = clock()
        call()
        times_ns[index] = clock() - started
    return times_ns / 1e3
