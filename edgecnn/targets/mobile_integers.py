"""Which quantized nodes NNAPI leaves although it knows their operator: it wants u8 activations.

From onnxruntime's NNAPI provider (``nnapi_builtin/builders``, ``IsQuantizedIOSupported``): inputs and outputs are uint8
but for the weights of a convolution or fully connected layer, which may be int8; a MatMul's weights have one scale. An
operator between quantize and dequantize is taken with them or not at all.
"""

from typing import TYPE_CHECKING

from onnx import TensorProto

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

_WEIGHT_TYPES = (TensorProto.UINT8, TensorProto.INT8, TensorProto.INT32)
_QDQ = ("QuantizeLinear", "DequantizeLinear")


def refused_integers(graph: "GraphProto") -> dict[str, str]:
    """Return the nodes that NNAPI leaves, by first output, each with the reason."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    types = {node.output[0]: _integer_type(node, constants) for node in graph.node if node.op_type in _QDQ}
    refused = {
        node.output[0]: reason
        for node in graph.node
        if node.op_type in _QDQ and (reason := _wrong_type(node, types[node.output[0]], constants))
    }
    scales = {node.output[0]: constants.get(node.input[1]) for node in graph.node if node.op_type in _QDQ}
    for node in graph.node:
        if node.op_type not in _QDQ and (reason := _wrong_group(node, refused, scales)):
            refused |= {name: reason for name in (node.output[0], *node.input) if name in {*types, node.output[0]}}
    return refused


def open_groups(graph: "GraphProto") -> list[str]:
    """Return the layers with s8 weights that no quantize follows, which NNAPI may leave, by node name."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    signed = {
        node.output[0]
        for node in graph.node
        if node.op_type == "DequantizeLinear"
        and node.input[0] in constants
        and constants[node.input[0]].data_type == TensorProto.INT8
    }
    closed = {node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    return [
        node.name or node.output[0]
        for node in graph.node
        if signed.intersection(node.input) and not closed.intersection(node.output)
    ]


def _integer_type(node: "NodeProto", constants: dict[str, TensorProto]) -> int:
    """Return the type of a QuantizeLinear's output or a DequantizeLinear's input; uint8 unless said."""
    zero_point = constants.get(node.input[2]) if len(node.input) > 2 else None
    if zero_point is not None:
        return int(zero_point.data_type)
    held = constants.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
    return int(held.data_type) if held is not None else TensorProto.UINT8


def _wrong_type(node: "NodeProto", found: int, constants: dict[str, TensorProto]) -> str | None:
    holds_weights = node.op_type == "DequantizeLinear" and node.input[0] in constants
    if found in _WEIGHT_TYPES if holds_weights else found == TensorProto.UINT8:
        return None
    what = "weights" if holds_weights else "activations"
    return f"{what} are {TensorProto.DataType.Name(found).lower()}; NNAPI takes u8 activations with u8 or s8 weights"


def _wrong_group(node: "NodeProto", refused: dict[str, str], scales: dict[str, TensorProto | None]) -> str | None:
    """Return why an operator between dequantize and quantize is left, or None if it is taken."""
    for name in node.input:
        if name in refused and name in scales:
            return refused[name]
    weights = scales.get(node.input[1]) if node.op_type == "MatMul" and len(node.input) > 1 else None
    if weights is not None and sum(weights.dims) > 1:
        return "its weights have a scale for each channel; NNAPI's MatMul takes one"
    return None
