"""A convolution against a fully connected layer that would do the same, layer by layer.

Without torch: what is timed and what is not is decided here, and a stopwatch does the timing.
"""

from collections.abc import Sequence
from typing import Protocol

from edgecnn.bundle.profile import Convolution, LayerTiming, Timing
from edgecnn.progress import Progress


class Stopwatch(Protocol):
    """Times layers; see :mod:`edgecnn.measure.torch_stopwatch`."""

    def convolution(self, layer: Convolution) -> Timing:
        """Time a convolution."""

    def dense(self, layer: Convolution) -> Timing:
        """Time the fully connected layer in its place."""


def compare_dense(
    layers: Sequence[Convolution], stopwatch: Stopwatch, *, max_bytes: int, progress: Progress
) -> list[LayerTiming]:
    """Time each convolution and then its dense twin.

    Args:
        layers: what to time.
        stopwatch: does it.
        max_bytes: a fully connected layer with larger weights is not made, and its record says so.
        progress: told the layers done.
    """
    timings = []
    for done, layer in enumerate(layers, start=1):
        fits = layer.dense_bytes <= max_bytes
        timings.append(
            LayerTiming(
                layer=layer,
                convolution=stopwatch.convolution(layer),
                dense=stopwatch.dense(layer) if fits else None,
                skipped=None if fits else f"its weights take {layer.dense_bytes} bytes, above {max_bytes}",
            )
        )
        progress.update("profile", done, len(layers), layer.name)
    return timings
