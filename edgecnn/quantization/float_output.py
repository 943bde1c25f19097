"""The answer of a quantized network, left in float: the last rounding to integers taken away."""

from typing import TYPE_CHECKING

from edgecnn.graph.remove_unused import remove_unused
from edgecnn.quantization.removable import REMOVABLE

if TYPE_CHECKING:
    from onnx import ModelProto

#: What may stand between the last layer and the output without computing anything that needs integers.
_AFTER_THE_LAST_LAYER = ("Flatten", "Identity", "Reshape", "Softmax", "LogSoftmax", "Squeeze", "Unsqueeze", "Transpose")


def keep_output_float(model: "ModelProto", last_ops: dict[str, str]) -> None:
    """Take the last quantize-dequantize pairs away::

        Gemm ──► Quantize ──► Dequantize ──► Softmax ──► ...      Gemm ──► Softmax ──► ...

    They would only round the answer to 8 bits: ties between classes where there were none. Not so after a Relu
    or Clip: the quantizer has taken that away, and the pair does its work.

    Args:
        model: the QDQ graph.
        last_ops: the operator that gave each tensor in the float graph.
    """
    for output in model.graph.output:
        name: str | None = output.name
        while name is not None:
            _remove_pair(model, name, last_ops)
            name = _behind(model, name)
    remove_unused(model)


def _behind(model: "ModelProto", name: str) -> str | None:
    """Return what an operator that only passes on or turns into probabilities reads; None if another made it."""
    producer = next((node for node in model.graph.node if name in node.output), None)
    if producer is None or producer.op_type not in _AFTER_THE_LAST_LAYER:
        return None
    return producer.input[0]


def _remove_pair(model: "ModelProto", name: str, last_ops: dict[str, str]) -> None:
    """Let what a tensor was quantized from take its place, if no layer reads the integers."""
    graph = model.graph
    producers = {output: node for node in graph.node for output in node.output}
    dequantize = producers.get(name)
    if dequantize is None or dequantize.op_type != "DequantizeLinear":
        return
    quantize = producers.get(dequantize.input[0])
    if quantize is None or quantize.op_type != "QuantizeLinear":
        return
    source = quantize.input[0]
    if last_ops.get(name) in REMOVABLE or last_ops.get(_plain(name)) in REMOVABLE or source not in producers:
        return
    if sum(source in node.input for node in graph.node) > 1:
        return
    # An answer that the network reads on, say features beside logits, stays integers for the layers that want them.
    if any(node.op_type not in _AFTER_THE_LAST_LAYER for node in graph.node if name in node.input):
        return
    producer = producers[source]
    producer.output[list(producer.output).index(source)] = name
    dequantize.output[0] = f"{name}.unused"


def _plain(name: str) -> str:
    """Return the float graph's name of a tensor that the quantizer put a pair behind."""
    return name.removesuffix("_DequantizeLinear_Output")
