"""Empirical bias correction: the mean that rounding shifts is given back by the bias.

Rounded weights give outputs whose mean differs from float's by E[W x] - E[W' x'], for each output channel the same
on all images; adding that to the bias costs nothing at run time (Nagel et al. 2019, "Data-Free Quantization Through
Weight Equalization and Bias Correction", section 4.2, measured on real images in place of the analytic expectation).
Layers are corrected in order, each with those before it corrected.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.data.images import Images
from edgecnn.graph.remove_unused import remove_unused
from edgecnn.progress import Progress
from edgecnn.quantization.layer_pairs import ConstantReader, LayerPair, match_layers
from edgecnn.quantization.tensor_stream import input_spec, require_training_images, stream
from edgecnn.quantization.weighted_layers import attribute

if TYPE_CHECKING:
    from onnx import ModelProto

    from edgecnn.bundle.manifest import TensorSpec

Float64 = NDArray[np.float64]
_INT32 = np.iinfo(np.int32)
_TASK = "correct biases"


@dataclass(frozen=True, kw_only=True)
class CorrectedLayer:
    """What was done to one layer.

    Attributes:
        layer: its name.
        n_channels: how many biases it has.
        largest_shift: the largest mean difference that was given back, in the layer's own units.
        n_limited: biases that met the end of int32.
    """

    layer: str
    n_channels: int
    largest_shift: float
    n_limited: int


@dataclass(frozen=True, kw_only=True)
class BiasCorrection:
    """A QDQ model with corrected biases.

    Attributes:
        model: a copy.
        layers: what was corrected, in topological order.
        skipped: names of layers left as they were, with the reason.
    """

    model: "ModelProto"
    layers: tuple[CorrectedLayer, ...]
    skipped: tuple[tuple[str, str], ...]


def correct_biases(
    float_model: "ModelProto", quantized: "ModelProto", images: Images, *, threads: int, progress: Progress
) -> BiasCorrection:
    """Correct the biases of a copy of a QDQ model.

    One pass over the images runs the float model; then one for each layer on the longest way through the network
    runs the QDQ model up to there. Memory does not grow with the number of images.

    Args:
        float_model: the model that was quantized.
        quantized: its QDQ model.
        images: training images.
        threads: for ONNX Runtime.
        progress: told the passes done.

    Raises:
        DataError: the images are not training images, or there are none.
        ModelError: the models do not belong together.
        StageError: a layer gives NaN or infinite values.
    """
    from onnx import ModelProto

    require_training_images(images, _TASK)
    model = ModelProto()
    model.CopyFrom(quantized)
    pairs = match_layers(float_model, model)
    spec = input_spec(float_model)
    means = _Means(images, spec, threads)
    depths = sorted({pair.depth for pair in pairs})
    wanted = means(float_model, {pair.name: pair.float_node.output[0] for pair in pairs}, pairs)
    progress.update(_TASK, 1, len(depths) + 1)
    corrected: list[CorrectedLayer] = []
    skipped: list[tuple[str, str]] = []
    for done, depth in enumerate(depths, start=2):
        here = [pair for pair in pairs if pair.depth == depth]
        found = means(model, {pair.name: pair.node.output[0] for pair in here}, here)
        for pair in here:
            outcome = _Bias(model, pair).add(wanted[pair.name] - found[pair.name])
            if isinstance(outcome, str):
                skipped.append((pair.name, outcome))
            else:
                corrected.append(outcome)
        progress.update(_TASK, done, len(depths) + 1)
    remove_unused(model)
    return BiasCorrection(model=model, layers=tuple(corrected), skipped=tuple(skipped))


class _Means:
    """Means of layers' outputs over all images and positions, one for each channel."""

    def __init__(self, images: Images, spec: "TensorSpec", threads: int) -> None:
        self._images, self._spec, self._threads = images, spec, threads

    def __call__(self, model: "ModelProto", outputs: dict[str, str], pairs: list[LayerPair]) -> dict[str, Float64]:
        """Return float64 [channels] for each layer.

        Args:
            model: float or QDQ.
            outputs: the tensor of each layer's output.
            pairs: the layers.
        """
        axes = {pair.name: -1 if pair.node.op_type in ("Gemm", "MatMul") else 1 for pair in pairs}
        sums: dict[str, Any] = dict.fromkeys(outputs, 0.0)
        counts = dict.fromkeys(outputs, 0)
        for values in stream(model, list(outputs.values()), self._images, spec=self._spec, threads=self._threads):
            for layer, tensor in outputs.items():
                by_channel = np.moveaxis(values[tensor], axes[layer], -1)
                by_channel = by_channel.reshape(-1, by_channel.shape[-1])
                sums[layer] = sums[layer] + by_channel.sum(0, dtype=np.float64)
                counts[layer] += len(by_channel)
        return {layer: sums[layer] / counts[layer] for layer in outputs}


class _Bias:
    """The bias of one layer of a QDQ graph, made if it has none."""

    def __init__(self, model: "ModelProto", pair: LayerPair) -> None:
        self._graph, self._pair, self._reader = model.graph, pair, ConstantReader(model)

    def add(self, shift: Float64) -> CorrectedLayer | str:
        """Add to the bias, float64 [channels], or return why that cannot be done."""
        node = self._pair.node
        factor = attribute(node, "beta", 1.0) if node.op_type == "Gemm" else 1.0
        if node.op_type == "MatMul":
            return "MatMul has no bias"
        if factor == 0:
            return "its bias is multiplied by 0"
        name = node.input[2] if len(node.input) > 2 else ""
        if name and self._reader.dequantized(name) is None:
            return "its bias is not quantized"
        scale = self._scale(name)
        if scale is None or (scale == 0).any():
            return "its input is not quantized"
        old = self._integers(name, len(shift))
        exact = old + np.rint(shift / factor / scale)
        new = np.clip(exact, _INT32.min, _INT32.max)
        self._write(new.astype(np.int32), scale)
        return CorrectedLayer(
            layer=self._pair.name,
            n_channels=len(shift),
            largest_shift=float(np.abs(shift).max()),
            n_limited=int((exact != new).sum()),
        )

    def _integers(self, name: str, n_channels: int) -> Float64:
        found = self._reader.dequantized(name) if name else None
        return (
            np.zeros(n_channels)
            if found is None
            else np.broadcast_to(found.integers.reshape(-1), n_channels).astype(np.float64)
        )

    def _scale(self, name: str) -> NDArray[np.float32] | None:
        """Return the scale of the bias: that of the products it is added to (ONNX Runtime demands no other)."""
        found = self._reader.dequantized(name) if name else None
        if found is not None:
            return found.scale
        activation = self._reader.scale(self._pair.node.input[0])
        if activation is None:
            return None
        product: NDArray[np.float32] = activation * self._pair.weight.scale
        return product

    def _write(self, integers: NDArray[np.int32], scale: NDArray[np.float32]) -> None:
        """Give the layer a bias of its own, for another layer may read the same."""
        from onnx import helper, numpy_helper

        node = self._pair.node
        base = f"{node.output[0]}.corrected_bias"
        zero_point = np.zeros(scale.shape, np.int32)
        for suffix, array in (("_quantized", integers), ("_scale", scale), ("_zero_point", zero_point)):
            self._graph.initializer.append(numpy_helper.from_array(array, base + suffix))
        dequantize = helper.make_node(
            "DequantizeLinear",
            [base + "_quantized", base + "_scale", base + "_zero_point"],
            [base],
            name=base + "_DequantizeLinear",
        )
        if scale.ndim:
            dequantize.attribute.append(helper.make_attribute("axis", 0))
        del node.input[2:]
        node.input.append(base)
        place = next(index for index, one in enumerate(self._graph.node) if base in one.input)
        self._graph.node.insert(place, dequantize)
