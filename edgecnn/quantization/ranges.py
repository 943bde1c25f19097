"""Activation ranges, streamed: memory does not grow with the number of images.

The float graph is run batch by batch with its inner tensors as outputs; only a minimum, a maximum and,
for the methods that need one, a histogram of each tensor are kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.data.images import Images
from edgecnn.errors import DataError, StageError
from edgecnn.progress import Progress
from edgecnn.quantization.recipes import RangeMethod
from edgecnn.targets.native import CPU_PROVIDER, open_inference_session
from edgecnn.targets.ort_errors import ort_errors
from edgecnn.targets.session import Feed, feed

if TYPE_CHECKING:
    from onnx import ModelProto

    from edgecnn.bundle.manifest import TensorSpec

BATCH_SIZE = 32
N_BINS = 2048
LEVELS = 255
#: Candidate ranges, as fractions of the observed one.
CANDIDATES = np.linspace(1.0, 0.3, 141)

Histogram = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Range:
    """The values of one tensor that integers will stand for; zero is always among them."""

    low: float
    high: float


def activation_ranges(
    model: "ModelProto",
    tensors: list[str],
    images: Images,
    method: RangeMethod,
    *,
    input_spec: "TensorSpec",
    threads: int,
    progress: Progress,
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

    Raises:
        DataError: the images are not training images, or there are none.
        StageError: a tensor holds NaN or infinite values; it is named.
    """
    if images.split != "train":
        raise DataError(
            "quantize: calibration takes training images only, and was given test images.",
            next_step="calibrate on the training split",
        )
    if not len(images):
        raise DataError("quantize: there are no images to calibrate on.", next_step="--images 512")
    stream = _Stream(model, tensors, images, input_spec, threads)
    n_passes = 1 if method == "minmax" else 2
    observed = _observe(stream, _Counter(progress, len(images) * n_passes))
    if method == "minmax":
        return {name: Range(low=min(r.low, 0.0), high=max(r.high, 0.0)) for name, r in observed.items()}
    counter = _Counter(progress, len(images) * n_passes, done=len(images))
    histograms = _count(stream, observed, counter)
    return {name: least_squares_range(histograms[name], observed[name]) for name in tensors}


class _Counter:
    """Counts images for the progress bar."""

    def __init__(self, progress: Progress, total: int, done: int = 0) -> None:
        self._progress, self._total, self._done = progress, total, done

    def add(self, n: int) -> None:
        self._done += n
        self._progress.update("calibrate", self._done, self._total)


class _Stream:
    """Every batch's inner tensors, one batch at a time; as often as needed."""

    def __init__(
        self, model: "ModelProto", tensors: list[str], images: Images, input_spec: "TensorSpec", threads: int
    ) -> None:
        import onnx

        self.producers = {output: node.name or node.op_type for node in model.graph.node for output in node.output}
        self._images, self._input = images, input_spec
        fixed = input_spec.shape[0]
        self._batch_size = fixed if isinstance(fixed, int) else BATCH_SIZE
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
        n = len(self._images)
        for start in range(0, n, self._batch_size):
            chosen = np.arange(start, start + self._batch_size)
            if not isinstance(self._input.shape[0], int):
                chosen = chosen[chosen < n]
            batch = feed(self._images.pixels[chosen % n], self._input)  # a fixed batch is filled up from the start
            new = int((chosen < n).sum())
            values: dict[str, Any] = self._run(batch) | dict.fromkeys(self._fed, batch)
            yield new, {name: a[:new] if a.ndim and len(a) == len(batch) else a for name, a in values.items()}

    def _run(self, batch: Feed) -> dict[str, NDArray[np.float32]]:
        try:
            values = self._session.run(self._inner, {self._input.name: batch})
        except ort_errors() as error:
            raise StageError(
                f"quantize: ONNX Runtime failed while running the float model on {len(batch)} images ({error}).",
                next_step="export the model again, with a batch that may vary or is fixed throughout",
            ) from error
        return dict(zip(self._inner, values, strict=True))


def _observe(stream: _Stream, counter: _Counter) -> dict[str, Range]:
    seen: dict[str, Range] = {}
    for n, values in stream:
        for name, array in values.items():
            low, high = float(array.min()), float(array.max())
            if not np.isfinite(low) or not np.isfinite(high):  # NaN spreads to both
                raise StageError(
                    f"quantize: the layer {stream.producers.get(name, 'input')} gives NaN or infinite values "
                    f"(tensor {name}) on calibration images.",
                    next_step="look at the weights of that layer and before it; train the model again",
                )
            old = seen.get(name)
            seen[name] = Range(low=min(low, old.low) if old else low, high=max(high, old.high) if old else high)
        counter.add(n)
    return seen


def _count(stream: _Stream, observed: dict[str, Range], counter: _Counter) -> dict[str, Histogram]:
    histograms = {name: np.zeros(N_BINS, np.int64) for name in observed}
    for n, values in stream:
        for name, array in values.items():
            extent = (observed[name].low, observed[name].high)
            if extent[0] == extent[1]:  # no bins, but one value
                histograms[name][0] += array.size
                continue
            # In float32 the bins of a narrow range around a large value would have no width.
            histograms[name] += np.histogram(array.astype(np.float64), bins=N_BINS, range=extent)[0]
        counter.add(n)
    return histograms


def least_squares_range(histogram: Histogram, observed: Range) -> Range:
    """Return the range whose 8-bit grid has the least mean squared error on a histogram.

    Both ends are shrunk by the same factor, and zero stays inside. (Nagel et al. 2021, "A White Paper on
    Neural Network Quantization", section 3.1, MSE range setting, with a grid search.)

    Args:
        histogram: counts of :data:`N_BINS` equal bins over ``observed``.
        observed: smallest and largest value seen.
    """
    low, high = min(observed.low, 0.0), max(observed.high, 0.0)
    if high == low:
        return Range(low=low, high=high)
    edges = np.linspace(observed.low, observed.high, N_BINS + 1)
    centers = (edges[:-1] + edges[1:]) / 2
    best = min(CANDIDATES, key=lambda factor: _squared_error(histogram, centers, low * factor, high * factor))
    return Range(low=float(low * best), high=float(high * best))


def _squared_error(histogram: Histogram, centers: NDArray[np.float64], low: float, high: float) -> float:
    scale = (high - low) / LEVELS
    zero_point = np.rint(-low / scale)
    quantized = np.clip(np.rint(centers / scale) + zero_point, 0, LEVELS)
    error = (quantized - zero_point) * scale - centers
    return float(histogram @ np.square(error))
