"""Layers of an integer model that answer in float, written as float layers: their weights dequantized beforehand."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

#: What stands between a layer and the rounding of its answers, and is fused with it.
_ACTIVATIONS = ("Relu", "Clip")
_INTEGERS = (np.int8, np.uint8, np.int16, np.uint16, np.int32)


def dequantize_float_layers(model: bytes) -> bytes:
    """Return a model in which constants of layers whose answers are not rounded are float.

    QNN's HTP takes a layer in integers only if its answers are integers; a last layer that answers in float has
    integers for weights nevertheless. Multiplied out, ``(q - zero_point) * scale``, as DequantizeLinear does it, they
    are the same numbers, and the layer is one in float.

    Args:
        model: an ONNX file with QuantizeLinear and DequantizeLinear.
    """
    import onnx

    proto = onnx.load_model_from_string(model)
    graph = proto.graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for node in list(graph.node):
        if _is_foldable(node, constants) and not any(_rounds(each, readers) for each in readers[node.output[0]]):
            values = _dequantized(node, constants)
            graph.initializer.append(onnx.numpy_helper.from_array(values, node.output[0]))
            graph.node.remove(node)
    remove_unread(graph)
    return proto.SerializeToString()


def _is_foldable(node: "NodeProto", constants: dict[str, NDArray[Any]]) -> bool:
    return (
        node.op_type == "DequantizeLinear"
        and all(name in constants for name in node.input)
        and constants[node.input[0]].dtype in _INTEGERS
        and not any(attribute.name == "block_size" and attribute.i for attribute in node.attribute)
    )


def _rounds(layer: "NodeProto", readers: "dict[str, list[NodeProto]]") -> bool:
    """Tell whether a layer's answers are read as integers only, perhaps after an activation."""
    found = [each for name in layer.output for each in readers.get(name, [])]
    if len(found) == 1 and found[0].op_type in _ACTIVATIONS:
        return _rounds(found[0], readers)
    return bool(found) and all(each.op_type == "QuantizeLinear" for each in found)


def _dequantized(node: "NodeProto", constants: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
    integers, scale = constants[node.input[0]], constants[node.input[1]]
    zero_point = constants[node.input[2]] if len(node.input) > 2 else np.zeros_like(scale, integers.dtype)
    if scale.ndim:
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1) % integers.ndim
        along = [-1 if index == axis else 1 for index in range(integers.ndim)]
        scale, zero_point = scale.reshape(along), zero_point.reshape(along)
    values: NDArray[np.float32] = (integers.astype(np.int64) - zero_point).astype(np.float32) * scale
    return values


def remove_unread(graph: "GraphProto") -> None:
    """Take constants out that no node reads: ONNX Runtime warns of each."""
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
