"""Adaptive rounding: weights rounded up or down by what that does to the layer's output, not by what is nearer.

Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization", section 3: the nearest integer is
not the best one, for the errors of the weights of one output add up with the inputs' correlations. Here the quadratic
problem of section 3.2 is solved by descent, which needs no gradients, no learning rate and no torch, and is the same
each time.
"""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgecnn.data.images import Images
from edgecnn.errors import ModelError
from edgecnn.progress import Progress
from edgecnn.quantization.flip_descent import round_by_descent, squared_errors
from edgecnn.quantization.input_moments import InputMoments
from edgecnn.quantization.layer_pairs import LayerPair, match_layers
from edgecnn.quantization.scale_walk import float_constants
from edgecnn.quantization.tensor_stream import input_spec, require_training_images, stream
from edgecnn.quantization.weighted_layers import Layout, attribute, layout

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

    from edgecnn.bundle.manifest import TensorSpec

Float64 = NDArray[np.float64]
_TASK = "round weights"
#: Added to the second moments' diagonal, as a fraction of its mean: what a few hundred images say of thousands of
#: correlations is not to be believed to the last digit.
DAMPING = 0.05
#: Moments of more inputs than this would take gigabytes.
MAX_INPUTS = 6144


@dataclass(frozen=True, kw_only=True)
class RoundedLayer:
    """What was done to one layer.

    Attributes:
        layer: its name.
        n_weights: how many it has.
        n_changed: how many are no longer the nearest integer.
        noise_before: squared error of the outputs that rounding causes, as a fraction of the outputs' squares.
        noise_after: the same afterwards.
    """

    layer: str
    n_weights: int
    n_changed: int
    noise_before: float
    noise_after: float


@dataclass(frozen=True, kw_only=True)
class Rounding:
    """A QDQ model with other integers.

    Attributes:
        model: a copy.
        layers: what was rounded, in topological order.
        skipped: names of layers left as they were, with the reason.
    """

    model: "ModelProto"
    layers: tuple[RoundedLayer, ...]
    skipped: tuple[tuple[str, str], ...]


def round_weights(
    float_model: "ModelProto",
    quantized: "ModelProto",
    images: Images,
    *,
    threads: int,
    seed: int = 0,
    progress: Progress,
) -> Rounding:
    """Round the weights of a copy of a QDQ model anew.

    No integer leaves the range that the layer's integers had, so 7-bit weights stay 7-bit. Scales stay as they are.
    One pass over the images for each layer on the longest way through the network; memory does not grow with the
    number of images.

    Args:
        float_model: the model that was quantized.
        quantized: its QDQ model.
        images: training images.
        threads: for ONNX Runtime.
        seed: of the choice of patches.
        progress: told the layers done.

    Raises:
        DataError: the images are not training images, or there are none.
        ModelError: the models do not belong together.
        StageError: a layer's input holds NaN or infinite values.
    """
    from onnx import ModelProto

    require_training_images(images, _TASK)
    model = ModelProto()
    model.CopyFrom(quantized)
    pairs = match_layers(float_model, model)
    work = _Work(model, float_constants(float_model), pairs)
    spec = input_spec(float_model)
    layers: list[RoundedLayer] = []
    for depth in sorted({pair.depth for pair in work.pairs}):
        here = [pair for pair in work.pairs if pair.depth == depth]
        moments = _observe(model, here, images, spec, threads, seed)
        for pair in here:
            layers.append(work.round(pair, moments[pair.name].value()))
            progress.update(_TASK, len(layers), len(work.pairs), pair.name)
    return Rounding(model=model, layers=tuple(layers), skipped=tuple(work.skipped.items()))


def _observe(
    model: "ModelProto", pairs: list[LayerPair], images: Images, spec: "TensorSpec", threads: int, seed: int
) -> dict[str, InputMoments]:
    moments = {pair.name: InputMoments(pair.node, pair.weight.integers.shape, seed) for pair in pairs}
    tensors = [name for pair in pairs for name in (pair.node.input[0], pair.node.output[0])]
    for values in stream(model, tensors, images, spec=spec, threads=threads):
        for pair in pairs:
            moments[pair.name].add(values[pair.node.input[0]], values[pair.node.output[0]].shape)
    return moments


class _Work:
    """Rewrites the integers of layers.

    Attributes:
        pairs: the layers that can be rounded.
        skipped: the others, with the reason.
    """

    def __init__(self, model: "ModelProto", weights: dict[str, NDArray[np.float32]], pairs: list[LayerPair]) -> None:
        self._weights = weights
        self._tensors: dict[str, TensorProto] = {tensor.name: tensor for tensor in model.graph.initializer}
        readers = Counter(pair.weight.dequantize.input[0] for pair in pairs)
        obstacles = {pair.name: _obstacle(pair, readers[pair.weight.dequantize.input[0]]) for pair in pairs}
        self.skipped = {name: reason for name, reason in obstacles.items() if reason is not None}
        self.pairs = [pair for pair in pairs if pair.name not in self.skipped]

    def round(self, pair: LayerPair, gram: Float64) -> RoundedLayer:
        """Round one layer's weights."""
        from onnx import numpy_helper

        weight, form = pair.weight, layout(pair.node)
        exact = self._exact(pair, form)
        damped = _damp(gram)
        before = _rows(form, weight.integers)
        limits = float(before.min()), float(before.max())
        after = round_by_descent(exact, damped, *limits)
        blocks = form.to_blocks(weight.integers)
        stored = form.from_blocks(after.reshape(blocks.shape), weight.integers.shape).astype(weight.integers.dtype)
        name = weight.dequantize.input[0]
        self._tensors[name].CopyFrom(numpy_helper.from_array(stored, name))
        scale = _rows(form, np.broadcast_to(weight.along_axis(weight.scale), weight.integers.shape))
        zero = _rows(form, np.broadcast_to(weight.along_axis(weight.zero_point), weight.integers.shape))
        power = squared_errors((exact - zero) * scale, gram).sum()
        noise = [squared_errors((rounded - exact) * scale, gram).sum() for rounded in (before, after)]
        return RoundedLayer(
            layer=pair.name,
            n_weights=weight.integers.size,
            n_changed=int((before != after).sum()),
            noise_before=float(noise[0] / power) if power else 0.0,
            noise_after=float(noise[1] / power) if power else 0.0,
        )

    def _exact(self, pair: LayerPair, form: Layout) -> Float64:
        """Return the float weights in units of their scales, zero point included, [groups, outputs, n]."""
        weight, name = pair.weight, pair.float_node.input[1]
        original = self._weights.get(name)
        if original is None or original.shape != weight.integers.shape:
            raise ModelError(
                f"the float model's weights {name} are computed, or have another shape than the layer {pair.name} has "
                "in the quantized model.",
                next_step="quantize the float model again, and give both files of the same run",
            )
        scale = weight.along_axis(weight.scale).astype(np.float64)
        zero_point = weight.along_axis(weight.zero_point).astype(np.float64)
        return _rows(form, original.astype(np.float64) / scale + zero_point)


def _obstacle(pair: LayerPair, n_readers: int) -> str | None:
    """Return why a layer cannot be rounded, if so."""
    if pair.node.op_type == "ConvTranspose":
        return "ConvTranspose is not rounded"
    if attribute(pair.node, "transA", 0):
        return "it transposes its input"
    if n_readers > 1:
        return "its weights are another layer's as well"
    _, _, inputs, kernel = layout(pair.node).to_blocks(pair.weight.integers).shape
    if inputs * kernel > MAX_INPUTS:
        return f"each of its outputs has {inputs * kernel} weights, more than {MAX_INPUTS}"
    return None


def _rows(form: Layout, weight: NDArray[np.generic]) -> Float64:
    """Return weights as float64 [groups, outputs, n], n of them for each output."""
    blocks = form.to_blocks(weight)
    return blocks.reshape(*blocks.shape[:2], -1).astype(np.float64)


def _damp(gram: Float64) -> Float64:
    """Return second moments that are positive definite, also where all inputs are 0."""
    mean = np.einsum("gnn->g", gram) / gram.shape[1]
    return gram + np.where(mean > 0, DAMPING * mean, 1.0)[:, None, None] * np.eye(gram.shape[1])
