"""Activation ranges, streamed: memory does not grow with the number of images.

The float graph is run once, batch by batch, with its inner tensors as outputs; only extremes and, for the methods that
need one, a histogram of each tensor are kept. What is found does not depend on how the images fall into batches.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.data.images import Images
from edgecnn.errors import DataError, StageError
from edgecnn.progress import Progress
from edgecnn.quantization.histogram import Histogram
from edgecnn.quantization.range_methods import RANGE_METHODS, Observed, Range, RangeMethod, choose_range
from edgecnn.quantization.removable import REMOVABLE
from edgecnn.targets.native import CPU_PROVIDER, open_inference_session
from edgecnn.targets.ort_errors import ort_errors
from edgecnn.targets.session import Feed, feed

if TYPE_CHECKING:
    from onnx import ModelProto

    from edgecnn.bundle.manifest import TensorSpec

__all__ = ["Range", "RangeMethod", "activation_ranges", "observe_activations"]

#: Images a batch at most; fewer where the tensors of so many would take more than this much memory.
BATCH_SIZE = 32
BATCH_BYTES = 96 * 2**20


def activation_ranges(
    model: "ModelProto",
    tensors: Sequence[str],
    images: Images,
    method: RangeMethod,
    *,
    input_spec: "TensorSpec",
    threads: int,
    progress: Progress,
    methods: Mapping[str, RangeMethod] | None = None,
    steps: int = 255,
) -> dict[str, Range]:
    """Return the range of each tensor over the calibration images.

    Args:
        model: the float graph.
        tensors: names of float tensors of the graph, its input included.
        images: training images; test images are refused.
        method: how a range follows from the values seen.
        input_spec: the graph's input.
        threads: for ONNX Runtime.
        progress: told the images done.
        methods: of single tensors, where it is another.
        steps: between the integers' ends: 255 for 8 bits.

    Raises:
        DataError: the images are not training images, or there are none.
        StageError: a tensor holds NaN or infinite values; the layer it comes from is named.
    """
    chosen = {name: (methods or {}).get(name, method) for name in tensors}
    counted = [name for name in tensors if RANGE_METHODS[chosen[name]].needs_histogram]
    observed = observe_activations(
        model, tensors, images, counted=counted, input_spec=input_spec, threads=threads, progress=progress
    )
    return {name: choose_range(chosen[name], observed[name], steps) for name in tensors}


def observe_activations(
    model: "ModelProto",
    tensors: Sequence[str],
    images: Images,
    *,
    counted: Sequence[str],
    input_spec: "TensorSpec",
    threads: int,
    progress: Progress,
) -> dict[str, Observed]:
    """Return what is seen of each tensor over the calibration images: see :func:`activation_ranges`.

    Args:
        model: the float graph.
        tensors: names of float tensors of the graph, its input included.
        images: training images; test images are refused.
        counted: those of the tensors that get a histogram.
        input_spec: the graph's input.
        threads: for ONNX Runtime.
        progress: told the images done.
    """
    if images.split != "train":
        raise DataError(
            "quantize: calibration takes training images only, and was given test images.",
            next_step="calibrate on the training split",
        )
    if not len(images):
        raise DataError("quantize: there are no images to calibrate on.", next_step="--images 512")
    stream = _Stream(model, tensors, images, input_spec, threads)
    seen = {name: _Tally(histogram=Histogram() if name in set(counted) else None) for name in tensors}
    done = 0
    for n, values in stream:
        for name, array in values.items():
            _require_finite(array, name, stream)
            seen[name].add(array)
        done += n
        progress.update("calibrate", done, len(images))
    return {name: tally.observed() for name, tally in seen.items()}


class _Tally:
    """Extremes of one tensor, their sums over the images, and its histogram."""

    def __init__(self, histogram: Histogram | None) -> None:
        self._histogram = histogram
        self._n = 0
        self._low, self._high = math.inf, -math.inf
        self._sums = np.zeros((2, 1), np.float64)

    def add(self, values: NDArray[np.float32]) -> None:
        by_image = values.reshape(len(values), -1) if values.ndim else values.reshape(1, 1)
        extremes = np.stack([by_image.min(1), by_image.max(1)]).astype(np.float64)
        self._n += len(by_image)
        self._low, self._high = min(self._low, float(extremes[0].min())), max(self._high, float(extremes[1].max()))
        # One after the other, so that the sum is the same however the images fall into batches.
        self._sums = np.cumsum(np.hstack([self._sums, extremes]), axis=1)[:, -1:]
        if self._histogram is not None:
            self._histogram.add(values)

    def observed(self) -> Observed:
        mean_low, mean_high = (self._sums[:, 0] / self._n).tolist()
        return Observed(
            low=self._low,
            high=self._high,
            mean_low=mean_low,
            mean_high=mean_high,
            histogram=self._histogram,
        )


def _require_finite(array: NDArray[np.float32], name: str, stream: "_Stream") -> None:
    if not np.isfinite(array.min()) or not np.isfinite(array.max()):  # NaN spreads to both
        raise StageError(
            f"quantize: the layer {stream.producers.get(name, 'input')} gives NaN or infinite values "
            f"(tensor {name}) on calibration images.",
            next_step="look at the weights of that layer and before it; train the model again",
        )


class _Stream:
    """Every batch's inner tensors, one batch at a time."""

    def __init__(
        self, model: "ModelProto", tensors: Sequence[str], images: Images, input_spec: "TensorSpec", threads: int
    ) -> None:
        import onnx

        self.producers: dict[str, str] = {}
        for node in model.graph.node:
            # What is not finite behind a Relu or Clip was not finite before it.
            before = self.producers.get(node.input[0]) if node.op_type in REMOVABLE else None
            self.producers |= dict.fromkeys(node.output, before or node.name or node.op_type)
        self._images, self._input = images, input_spec
        fixed = input_spec.shape[0]
        self._fixed = fixed if isinstance(fixed, int) else None
        inputs = {value.name for value in model.graph.input}
        self._inner = [name for name in tensors if name not in inputs]
        self._fed = [name for name in tensors if name in inputs]
        watched = onnx.ModelProto()
        watched.CopyFrom(model)
        del watched.graph.output[:]
        watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in self._inner)
        self._session: Any = open_inference_session(
            watched.SerializeToString(), model_name="the float model", provider=CPU_PROVIDER, threads=threads
        )

    def __iter__(self) -> Iterator[tuple[int, dict[str, NDArray[np.float32]]]]:
        """Yield the number of new images and the values of each tensor."""
        n, start = len(self._images), 0
        size = self._fixed or 1  # the first image tells how much memory more of them take
        while start < n:
            chosen = np.arange(start, start + size)
            if self._fixed is None:
                chosen = chosen[chosen < n]
            batch = feed(self._images.pixels[chosen % n], self._input)  # a fixed batch is filled up from the start
            new = int((chosen < n).sum())
            values: dict[str, Any] = self._run(batch) | dict.fromkeys(self._fed, batch)
            yield new, {name: a[:new] if a.ndim and len(a) == len(batch) else a for name, a in values.items()}
            start += size
            if start == 1 and self._fixed is None:
                size = max(1, min(BATCH_SIZE, BATCH_BYTES // max(1, sum(a.nbytes for a in values.values()))))

    def _run(self, batch: Feed) -> dict[str, NDArray[np.float32]]:
        if not self._inner:
            return {}
        try:
            values = self._session.run(self._inner, {self._input.name: batch})
        except ort_errors() as error:
            raise StageError(
                f"quantize: ONNX Runtime failed while running the float model on {len(batch)} images ({error}).",
                next_step="export the model again, with a batch that may vary or is fixed throughout",
            ) from error
        return dict(zip(self._inner, values, strict=True))
