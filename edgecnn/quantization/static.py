"""A float model to integers: ranges and refinements from here, the graph surgery from onnxruntime's quantizers."""

import contextlib
import logging
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecnn.data import Images
from edgecnn.errors import StorageError
from edgecnn.graph import onnx_file
from edgecnn.progress import Progress
from edgecnn.quantization.bias_correction import correct_biases
from edgecnn.quantization.float_output import keep_output_float
from edgecnn.quantization.prepare import WITH_WEIGHTS, Prepared, prepare, read_float_model
from edgecnn.quantization.recipes import Recipe
from edgecnn.quantization.removable import REMOVABLE, kept_activations
from edgecnn.quantization.rounding import round_weights

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

#: What is computed on integers. The activations and shape operators among them pass integers on; Add, Concat and the
#: pools have integer kernels on the CPU. What is not here stays float between a dequantize and a quantize. Mul is not:
#: as the gate of squeeze-and-excitation it was slower and less exact in integers (measured, docs/quantization.md).
QUANTIZED_OPS = (
    *WITH_WEIGHTS,
    *REMOVABLE,
    "Add",
    "AveragePool",
    "Concat",
    "Flatten",
    "GlobalAveragePool",
    "LeakyRelu",
    "MaxPool",
    "Pad",
    "Reshape",
    "Resize",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
)
#: Rounding and bias correction pass over the images once for each layer in depth, so at 224x224 they are given fewer.
N_REFINE_PIXELS, N_REFINE_IMAGES = 512 * 64 * 64, 64
#: A scale for each channel came with opset 13, QuantizeLinear itself with opset 10.
_OPSET_PER_CHANNEL, _OPSET = 13, 10
#: The first opset whose QuantizeLinear writes 16 bits; below it ONNX Runtime's own is used.
_OPSET_16_BITS = 21


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """A quantized model.

    Attributes:
        data: the ONNX file.
        float_layers: names of the convolutions and fully connected layers that stayed float.
    """

    data: bytes
    float_layers: tuple[str, ...]


def quantize_model(
    data: bytes, images: Images, recipe: Recipe, *, name: str, threads: int, progress: Progress
) -> bytes:
    """Quantize a float model and return the quantized model's bytes; the same input gives the same bytes.

    Args:
        data: the float ONNX file.
        images: training images that set the activation ranges.
        recipe: how.
        name: what to call the model in a message.
        threads: for running the float model.
        progress: told the calibration images done.

    Raises:
        ModelError: the model cannot be read, is quantized already, or has no layer to quantize.
        UsageError: the recipe names a layer that the model has not.
        DataError: the images are not training images, or of another size.
        StageError: a layer gives NaN or infinite values.
    """
    model = read_float_model(data, name, needs_opset=needed_opset(recipe))
    prepared = prepare(model, images, recipe, name=name, threads=threads, progress=progress)
    return quantize_prepared(prepared, images, recipe, threads=threads, progress=progress).data


def needed_opset(recipe: Recipe) -> int:
    """Return the oldest opset that can say what a recipe wants."""
    return _OPSET_PER_CHANNEL if recipe.per_channel else _OPSET


def quantize_prepared(
    prepared: Prepared, images: Images, recipe: Recipe, *, threads: int, progress: Progress
) -> Quantized:
    """Quantize a model whose activations have been looked at; see :func:`quantize_model`."""
    model = prepared.model
    last_ops = {output: node.op_type for node in model.graph.node for output in node.output}
    quantized = _insert_integers(prepared, recipe)
    if not recipe.quantized_output:
        keep_output_float(quantized, last_ops)
    few = images.take(np.arange(_enough_to_refine(images)))
    if recipe.adaptive_rounding:
        quantized = round_weights(model, quantized, few, threads=threads, progress=progress).model
    if recipe.correct_bias:
        quantized = correct_biases(model, quantized, few, threads=threads, progress=progress).model
    return Quantized(data=onnx_file.serialize(quantized), float_layers=_float_layers(quantized))


def _enough_to_refine(images: Images) -> int:
    """Return how many images rounding and bias correction look at: each pixel of a large one is a sample of its own."""
    height, width = images.pixels.shape[1:3]
    return min(len(images), max(N_REFINE_IMAGES, N_REFINE_PIXELS // int(height * width)))


def _insert_integers(prepared: Prepared, recipe: Recipe) -> "ModelProto":
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorData, TensorsData

    types = {
        "u8": QuantType.QUInt8,
        "s8": QuantType.QInt8,
        "u16": QuantType.QUInt16,
        "s16": QuantType.QInt16,
    }
    model = onnx.ModelProto()  # the quantizers change what they are given
    model.CopyFrom(prepared.model)
    ranges = prepared.ranges(recipe)
    observed = TensorsData(
        CalibrationMethod.MinMax,
        {
            name: TensorData(lowest=np.float32(range_.low), highest=np.float32(range_.high))
            for name, range_ in ranges.items()
        },
    )
    # A tensor without a range is of a type that cannot be told, and so is not float32 as far as anyone knows.
    untyped = [
        node.name
        for node in model.graph.node
        if node.op_type in QUANTIZED_OPS and not _has_ranges(node, ranges.keys(), model)
    ]
    kept = [node.name for node in kept_activations(model, qoperator=recipe.qoperator)]
    try:
        with _quiet():
            quantizer: Any = _quantizer(recipe)(
                model,
                per_channel=recipe.per_channel,
                reduce_range=recipe.reduced,
                weight_qType=types[recipe.weight],
                activation_qType=types[recipe.activation],
                tensors_range=observed,
                nodes_to_quantize=[],
                nodes_to_exclude=[*recipe.float_layers, *untyped, *kept],
                op_types_to_quantize=list(QUANTIZED_OPS),
                extra_options={
                    "ActivationSymmetric": recipe.symmetric,
                    "WeightSymmetric": recipe.weight == "s8",
                    "UseQDQContribOps": recipe.activation_bits == 16 and _opset(model) < _OPSET_16_BITS,
                },
            )
            quantizer.quantize_model()
    except OSError as error:  # it infers shapes by way of a file
        raise StorageError(
            f"quantize: ONNX Runtime could not write to the temporary folder {tempfile.gettempdir()} "
            f"({error.strerror}); nothing was changed.",
            next_step="free some space there, or name another folder with TMPDIR",
        ) from error
    quantizer.model.topological_sort()
    result: ModelProto = quantizer.model.model
    return result


def _quantizer(recipe: Recipe) -> Any:
    if not recipe.qoperator:
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        return QDQQuantizer
    from functools import partial

    from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
    from onnxruntime.quantization.quant_utils import QuantizationMode

    return partial(ONNXQuantizer, mode=QuantizationMode.QLinearOps, static=True)


def _opset(model: "ModelProto") -> int:
    return max(opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx"))


def _has_ranges(node: "NodeProto", ranged: Collection[str], model: "ModelProto") -> bool:
    """Tell whether what a node reads and makes was looked at."""
    constants = {tensor.name for tensor in model.graph.initializer}
    data = [name for name in (node.input[0], *node.output) if name and name not in constants]
    return all(name in ranged for name in data)


def _float_layers(model: "ModelProto") -> tuple[str, ...]:
    made = {output: node.op_type for node in model.graph.node for output in node.output}
    return tuple(
        node.name or node.output[0]
        for node in model.graph.node
        if node.op_type in WITH_WEIGHTS and any(made.get(name) != "DequantizeLinear" for name in node.input[:2])
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep onnxruntime's advice to preprocess (which the simplify stage has done) off the log."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
