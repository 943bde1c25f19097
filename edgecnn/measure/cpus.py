"""The CPUs that a measurement has to itself, as far as the system allows it."""

import contextlib
import gc
import os
from collections.abc import Iterator


def available_cpus() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
def no_garbage_collection() -> Iterator[None]:
    """Collect no garbage meanwhile."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
