"""The measuring rules of MLPerf Tiny (Banbury et al. 2021, "MLPerf Tiny Benchmark", and its benchmark runner).

Performance: five windows of at least ten seconds and ten inferences each, at batch 1, each on one image; the figure is
the median of the windows' inferences a second. Accuracy: on 200 images, and here on all test images as well.
"""

from collections.abc import Sequence

import numpy as np

from edgecnn.bundle.latency import Through
from edgecnn.data import Images
from edgecnn.measure.cpus import no_garbage_collection
from edgecnn.measure.noise import NoiseWatch
from edgecnn.measure.stopwatch import Call, now_us
from edgecnn.measure.turns import bind, feed_batch
from edgecnn.measure.warmup import warm_up
from edgecnn.progress import Progress
from edgecnn.targets.session import Session

WINDOWS = 5
WINDOW_SECONDS = 10.0
MIN_INFERENCES = 10
ACCURACY_IMAGES = 200
#: The clock is read so often, lest reading it be what is measured.
_CHUNK_US = 10_000.0


def balanced_indices(labels: Sequence[int] | np.ndarray, *, n_classes: int) -> list[int]:
    """Return the first images of each class, as many of each as make :data:`ACCURACY_IMAGES`, in the order they are.

    A class that has fewer gives all it has.
    """
    per_class = ACCURACY_IMAGES // n_classes
    taken = dict.fromkeys(range(n_classes), 0)
    chosen = []
    for index, label in enumerate(labels):
        if taken[int(label)] < per_class:
            taken[int(label)] += 1
            chosen.append(index)
    return chosen


def departures(images: Images, chosen: Sequence[int], window_seconds: float) -> list[str]:
    """Return where a measurement does not follow the protocol."""
    found = []
    if window_seconds < WINDOW_SECONDS:
        found.append(f"windows of {window_seconds:g} s; the protocol asks for {WINDOW_SECONDS:g} s")
    if len(chosen) != ACCURACY_IMAGES:
        found.append(
            f"{len(chosen)} images for the small accuracy test; the protocol asks for {ACCURACY_IMAGES}, "
            f"as many of each of the {len(images.classes)} classes"
        )
    return found


def time_windows(
    sessions: Sequence[Session],
    images: Images,
    *,
    seconds: float,
    through: Through,
    seed: int,
    watch: NoiseWatch,
    progress: Progress,
) -> tuple[list[list[float]], int]:
    """Return the inferences a second of each session in each window, and how many sessions had not settled.

    The sessions take turns from window to window, in random order; window ``k`` is on image ``k``.

    Args:
        sessions: opened models.
        images: at least one; those fed are the first :data:`WINDOWS`.
        seconds: that each window lasts at least.
        through: how a session is called.
        seed: of the order.
        watch: looks at the machine between windows.
        progress: told the windows done.
    """
    order = np.random.default_rng(seed)
    found: list[list[float]] = [[] for _ in sessions]
    unsettled = 0
    with no_garbage_collection():
        for window in range(WINDOWS):
            pixels = images.pixels[[window % len(images)]]
            for index in order.permutation(len(sessions)):
                watch.sample()
                call = bind(sessions[index], feed_batch(sessions[index], pixels, 1), through)
                warmup = warm_up(call)
                unsettled += not warmup.settled
                found[index].append(_time_window(call, warmup.call_us, seconds))
                progress.update("mlperf-tiny", sum(map(len, found)), WINDOWS * len(sessions))
    return found, unsettled


def _time_window(call: Call, call_us: float, seconds: float) -> float:
    """Return inferences a second over at least ``seconds`` and :data:`MIN_INFERENCES`."""
    chunk = max(1, int(_CHUNK_US / call_us))
    calls, started = 0, now_us()
    while (elapsed := now_us() - started) < seconds * 1e6 or calls < MIN_INFERENCES:
        for _ in range(chunk):
            call()
        calls += chunk
    return calls / elapsed * 1e6
