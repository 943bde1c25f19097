"""The QDQ graph: ranges from here, the graph surgery from onnxruntime's ``QDQQuantizer``."""

import contextlib
import logging
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecnn.data import Images
from edgecnn.errors import ModelError, StorageError
from edgecnn.graph import onnx_file
from edgecnn.graph.remove_unused import remove_unused
from edgecnn.progress import Progress
from edgecnn.quantization.ranges import Range, activation_ranges
from edgecnn.quantization.recipes import Recipe
from edgecnn.targets import reference_session

if TYPE_CHECKING:
    from onnx import ModelProto

_WITH_WEIGHTS = ("Conv", "Gemm", "MatMul", "ConvTranspose")
#: What the quantizer leaves out because the range of the integers after it does the same.
_REMOVABLE = ("Relu", "Clip")


def quantize_model(
    data: bytes, images: Images, recipe: Recipe, *, name: str, threads: int, progress: Progress
) -> bytes:
    """Quantize a float model and return the QDQ model's bytes; the same input gives the same bytes.

    Args:
        data: the float ONNX file.
        images: training images that set the activation ranges.
        recipe: how.
        name: what to call the model in a message.
        threads: for running the float model.
        progress: told the calibration images done.

    Raises:
        ModelError: the model cannot be read, is quantized already, or has no layer to quantize.
        DataError: the images are not training images, or of another size.
        StageError: a layer gives NaN or infinite values.
    """
    import onnx

    model = onnx_file.parse(data, name)
    if onnx_file.is_quantized(model):
        raise ModelError(
            f"{name}: is quantized already; expected a float model.",
            next_step="give the float model: float.onnx",
        )
    if not any(node.op_type in _WITH_WEIGHTS for node in model.graph.node):
        raise ModelError(
            f"{name}: has no convolution or fully connected layer to quantize.",
            next_step="give a convolutional network",
        )
    _require_opset(model, recipe, name)
    spec = reference_session(data, model_name=name).input
    model = onnx.shape_inference.infer_shapes(model)
    tensors = _float_activations(model)
    ranges = activation_ranges(
        model, tensors, images, recipe.ranges, input_spec=spec, threads=threads, progress=progress
    )
    last_ops = {output: node.op_type for node in model.graph.node for output in node.output}
    quantized = _insert_qdq(model, ranges, recipe)
    _keep_output_float(quantized, last_ops)
    return onnx_file.serialize(quantized)


def _require_opset(model: "ModelProto", recipe: Recipe, name: str) -> None:
    """A scale for each channel came with opset 13, QuantizeLinear itself with opset 10."""
    least = 13 if recipe.per_channel else 10
    found = max((opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")), default=0)
    if found < least:
        raise ModelError(
            f"{name}: is of opset {found}; {recipe.name} needs opset {least} or newer.",
            next_step=f"convert it with onnx.version_converter.convert_version(model, {least}), or export it anew",
        )


def _float_activations(model: "ModelProto") -> list[str]:
    """Return the float32 tensors that flow between nodes, the graph's input and output included."""
    from onnx import TensorProto

    graph = model.graph
    typed = {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.output, *graph.value_info)}
    constants = {tensor.name for tensor in graph.initializer}
    flowing = [value.name for value in graph.input] + [name for node in graph.node for name in node.output]
    return [name for name in flowing if name not in constants and typed.get(name) == TensorProto.FLOAT]


def _insert_qdq(model: "ModelProto", ranges: dict[str, Range], recipe: Recipe) -> "ModelProto":
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.registry import QDQRegistry

    types = {"u8": QuantType.QUInt8, "s8": QuantType.QInt8}
    observed = TensorsData(
        CalibrationMethod.MinMax,
        {
            name: TensorData(lowest=np.float32(range_.low), highest=np.float32(range_.high))
            for name, range_ in ranges.items()
        },
    )
    try:
        with _quiet():
            quantizer: Any = QDQQuantizer(
                model,
                recipe.per_channel,
                recipe.reduced,
                weight_qType=types[recipe.weight],
                activation_qType=types[recipe.activation],
                tensors_range=observed,
                nodes_to_quantize=[],
                nodes_to_exclude=[],
                op_types_to_quantize=list(QDQRegistry),
                extra_options={"ActivationSymmetric": False, "WeightSymmetric": recipe.weight == "s8"},
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


def _keep_output_float(model: "ModelProto", last_ops: dict[str, str]) -> None:
    """Take the last quantize-dequantize pair away::

        Gemm ──► Quantize ──► Dequantize ──► logits        Gemm ──► logits

    It would only round the answer to 8 bits: ties between classes where there were none. Not so after a Relu
    or Clip: the quantizer has taken that away, and the pair does its work.

    Args:
        model: the QDQ graph.
        last_ops: the operator that gave each tensor in the float graph.
    """
    graph = model.graph
    producers = {output: node for node in graph.node for output in node.output}
    for output in graph.output:
        dequantize = producers.get(output.name)
        if dequantize is None or dequantize.op_type != "DequantizeLinear":
            continue
        if last_ops.get(output.name) in _REMOVABLE:
            continue
        quantize = producers.get(dequantize.input[0])
        if quantize is None or quantize.op_type != "QuantizeLinear":
            continue
        source = quantize.input[0]
        readers = [node for node in graph.node if source in node.input]
        if len(readers) > 1 or source not in producers:
            continue
        producer = producers[source]
        producer.output[list(producer.output).index(source)] = output.name
        dequantize.output[0] = f"{output.name}.unused"
    remove_unused(model)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep onnxruntime's advice to preprocess (which the simplify stage has done) off the log."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
