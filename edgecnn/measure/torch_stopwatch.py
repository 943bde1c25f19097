"""Layers timed with ``torch.utils.benchmark``, on one thread, in float32.

The weights are all the same number: the time of a convolution or product does not depend on what is multiplied. They
are written, and not only asked for, since memory that was never written costs nothing to read.
"""

import logging
from math import prod

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from edgecnn.bundle.profile import Convolution, Timing
from edgecnn.errors import StageError

THREADS = 1
#: Fewer have no quartiles worth the name.
MIN_BLOCKS = 10
_VALUE = 0.01
_CONVOLVE = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


class TorchStopwatch:
    """Times layers for about ``seconds`` each, and for at least ten blocks of calls."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def convolution(self, layer: Convolution) -> Timing:
        """Time a convolution as PyTorch runs it; one-sided padding is added beforehand."""
        image, padding = _image(layer)
        return self._time(
            "convolve(x, weight, bias, stride, padding, dilation, groups)",
            {
                "convolve": _CONVOLVE[len(layer.kernel)],
                "x": image,
                "weight": torch.full((layer.output[0], layer.source[0] // layer.groups, *layer.kernel), _VALUE),
                "bias": torch.full((layer.output[0],), _VALUE) if layer.bias else None,
                "stride": layer.stride,
                "padding": padding,
                "dilation": layer.dilation,
                "groups": layer.groups,
            },
        )

    def dense(self, layer: Convolution) -> Timing:
        """Time a fully connected layer from all of the convolution's inputs to all of its outputs.

        Raises:
            StageError: there is not so much memory.
        """
        inputs, outputs = prod(layer.source), prod(layer.output)
        try:
            weight = torch.full((outputs, inputs), _VALUE)
        except RuntimeError as error:
            raise StageError(
                f"profile: {layer.name} as a fully connected layer takes {layer.dense_bytes:,} bytes, "
                "which this machine does not give.",
                next_step="a smaller --max-memory, such as 500MB",
            ) from error
        return self._time(
            "linear(x, weight, bias)",
            {
                "linear": functional.linear,
                "x": torch.full((layer.batch, inputs), _VALUE),
                "weight": weight,
                "bias": torch.full((outputs,), _VALUE) if layer.bias else None,
            },
        )

    def _time(self, statement: str, names: dict[str, object]) -> Timing:
        logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it speaks of a GPU nobody asked for
        from torch.utils.benchmark import Timer

        timer = Timer(statement, globals=names, num_threads=THREADS)
        with torch.inference_mode():
            measured = timer.blocked_autorange(min_run_time=self.seconds)
            times = list(measured.times)
            while len(times) < MIN_BLOCKS:
                times += timer.timeit(measured.number_per_run).times
        low, median, high = (float(value) * 1e6 for value in np.percentile(times, [25, 50, 75]))
        return Timing(
            median_us=median, iqr_us=high - low, blocks=len(times), calls=len(times) * measured.number_per_run
        )


def _image(layer: Convolution) -> tuple[Tensor, tuple[int, ...]]:
    """Return an image and the padding to convolve it with: none if the padding is one-sided and already there."""
    if layer.pads_before == layer.pads_after:
        return torch.full((layer.batch, *layer.source), _VALUE), layer.pads_before
    sides = zip(layer.source[1:], layer.pads_before, layer.pads_after, strict=True)
    sizes = [size + before + after for size, before, after in sides]
    return torch.full((layer.batch, layer.source[0], *sizes), _VALUE), (0,) * len(sizes)
