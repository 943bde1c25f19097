"""What ONNX Runtime makes of an int8 model when it opens it: the same answers, and which nodes stay float.

A QDQ model says in float what is to be computed in integers; ONNX Runtime fuses each operator with the pairs around it
when it opens the file. That may change the answers, and where a pattern does not fit it is left out without a word:
the operator then runs in float, between a dequantize and a quantize.
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgecnn.bundle.manifest import FusionRecord, UnfusedRecord
from edgecnn.data.images import Images
from edgecnn.errors import StageError
from edgecnn.graph import onnx_file
from edgecnn.quantization.prepare import WITH_WEIGHTS
from edgecnn.targets.native import CPU_PROVIDER, open_inference_session
from edgecnn.targets.ort_errors import ort_errors
from edgecnn.targets.session import feed

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

    from edgecnn.bundle.manifest import TensorSpec

#: Enough to meet every kernel; unfused they take ten times as long.
N_IMAGES = 256
BATCH_SIZE = 32
#: What has a kernel on integers, so that something else must be missing where it runs in float.
_HAS_INTEGER_KERNEL = (
    "Add",
    "AveragePool",
    "Concat",
    "Conv",
    "Gemm",
    "GlobalAveragePool",
    "LeakyRelu",
    "MatMul",
    "Split",
    "Where",
)
#: What has one and is left in float by the recipes: see ``QUANTIZED_OPS``.
_LEFT_IN_FLOAT = ("Mul", "Sigmoid", "Softmax")
#: What ONNX Runtime makes of integer weights before float activations.
_WEIGHTS_ALONE = ("MatMulNBits", "DynamicQuantizeMatMul")
_PAIR = ("QuantizeLinear", "DequantizeLinear")


def audit_fusion(data: bytes, images: Images, spec: "TensorSpec", *, name: str) -> FusionRecord:
    """Compare an int8 model's answers with and without ONNX Runtime's graph optimizations, and list what stays float.

    Args:
        data: the int8 ONNX file.
        images: of the model's size; the first :data:`N_IMAGES` are used.
        spec: the model's input.
        name: what to call the model in a message.

    Raises:
        ModelError: ONNX Runtime cannot load it.
        StageError: it gives NaN or infinite logits, or ONNX Runtime cannot write the graph that it runs.
    """
    few = images.take(np.arange(min(N_IMAGES, len(images))))
    fused, unfused = (_logits(data, few, spec, name, optimize=optimize) for optimize in (True, False))
    if not (np.isfinite(fused).all() and np.isfinite(unfused).all()):
        raise StageError(f"validate: {name} gives NaN or infinite logits.", next_step="edgecnn quantize --force")
    return FusionRecord(
        n=len(few),
        argmax_flips=int((fused.argmax(1) != unfused.argmax(1)).sum()),
        max_abs_logit_difference=float(np.abs(fused - unfused).max()),
        unfused=tuple(_unfused(_optimized(data, name))),
    )


def _logits(data: bytes, images: Images, spec: "TensorSpec", name: str, *, optimize: bool) -> NDArray[np.float32]:
    session = open_inference_session(data, model_name=name, provider=CPU_PROVIDER, threads=1, optimize=optimize)
    fixed = spec.shape[0] if isinstance(spec.shape[0], int) else None
    size, n = fixed or BATCH_SIZE, len(images)
    found = []
    for start in range(0, n, size):
        chosen = np.arange(start, start + size)
        new = int((chosen < n).sum())
        chosen = chosen % n if fixed else chosen[:new]
        found.append(session.run(None, {spec.name: feed(images.pixels[chosen], spec)})[0][:new])
    return np.concatenate(found)


def _optimized(data: bytes, name: str) -> "ModelProto":
    """Return the graph that ONNX Runtime runs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # All but changes of layout, which split and rename nodes as this machine's CPU wants them.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.intra_op_num_threads, options.log_severity_level = 1, 4  # fatal only: what goes wrong is raised
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "optimized.onnx")
        options.optimized_model_filepath = str(path)
        try:
            onnxruntime.InferenceSession(data, options, providers=[CPU_PROVIDER])
        except ort_errors() as error:
            raise StageError(
                f"{name}: ONNX Runtime could not write the graph that it runs to {folder} "
                f"({str(error).splitlines()[0]}).",
                next_step="free some space there, or name another folder with TMPDIR",
            ) from error
        return onnx_file.read(path.read_bytes(), f"{name}, as ONNX Runtime runs it")


def _unfused(model: "ModelProto") -> list[UnfusedRecord]:
    """Return the nodes that run in float although integers lie before or behind them, in the order of the graph."""
    integers_before = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    integers_behind = {node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    ends = {output.name for output in model.graph.output}
    weights = {tensor.name for tensor in model.graph.initializer if tensor.data_type == tensor.FLOAT}
    found = []
    for node in model.graph.node:
        if node.op_type in _PAIR:
            continue
        reads, makes = integers_before & set(node.input), integers_behind & set(node.output)
        if reads or makes:
            where = node.name or node.output[0]
            reason = _reason(node, bool(reads), ends=ends, weights=weights)
            found.append(UnfusedRecord(layer=where, op=node.op_type.removeprefix("Fused"), reason=reason))
    return found


def _reason(node: "NodeProto", reads_integers: bool, *, ends: set[str], weights: set[str]) -> str:
    if not reads_integers:
        return "its input is float: the network's own, or that of a layer that stays float"
    if node.op_type.removeprefix("Fused") in WITH_WEIGHTS and node.input[1] in weights:
        return "its weights are float: the recipe leaves it so"
    if ends & set(node.output):
        return "it gives the network's output, which stays float"
    if node.op_type in _WEIGHTS_ALONE:
        return "computed on integer weights and float activations"
    if node.op_type in _LEFT_IN_FLOAT:
        return "left in float on purpose: there it is faster and more exact"
    if node.op_type in _HAS_INTEGER_KERNEL:
        return "not all that it reads and gives is in integers of a kind that its kernel takes"
    return f"ONNX Runtime's CPU has no {node.op_type} on integers"
