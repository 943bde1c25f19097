"""Roundings to integers written with operators in float, for a provider that has none for integers.

::

    x -> QuantizeLinear -> DequantizeLinear -> y    (clip(round(x / scale) + zero_point, low, high) - zero_point) * scale
    x -> Div -> Clip -> Add -> Sub -> Mul -> y      ((clip(x / scale, low - zero_point, high - zero_point) + M) - M) * scale

Adding and taking away ``M = 1.5 * 2**23`` rounds a float32 of less than 2**22 to the nearest integer, half to even, as
QuantizeLinear does; ONNX Runtime's WebGPU provider has no Round either.
"""  # noqa: E501 - the drawing

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.targets.float_layers import remove_unread

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto

_MAGIC = 1.5 * 2**23
#: Of which every value is less than 2**22.
_TYPES = (np.uint8, np.int8, np.uint16, np.int16)


def round_in_float(model: bytes) -> bytes:
    """Return a model in which pairs of QuantizeLinear and DequantizeLinear are written as above.

    What is quantized along an axis, or read as an
    integer by anything else, stays as it is.

    Args:
        model: an ONNX file.
    """
    import onnx

    proto = onnx.load_model_from_string(model)
    graph = proto.graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {value.name for value in graph.output}
    nodes: list[NodeProto] = []
    gone: set[str] = set()
    for node in graph.node:
        followers = readers.get(node.output[0], []) if node.op_type == "QuantizeLinear" else []
        if _is_pair(node, followers, constants) and node.output[0] not in outputs:
            written, tensors = _in_float(node, followers, constants)
            nodes += written
            graph.initializer.extend(tensors)
            gone |= {follower.output[0] for follower in followers}
        elif node.output[0] not in gone:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    remove_unread(graph)
    return proto.SerializeToString()


def _is_pair(node: "NodeProto", followers: "list[NodeProto]", constants: dict[str, NDArray[Any]]) -> bool:
    return (
        bool(followers)
        and len(node.input) == 3
        and all(name in constants and constants[name].size == 1 for name in node.input[1:])
        and constants[node.input[2]].dtype in _TYPES
        and all(each.op_type == "DequantizeLinear" and each.input[1:] == node.input[1:] for each in followers)
    )


def _in_float(
    node: "NodeProto", followers: "list[NodeProto]", constants: dict[str, NDArray[Any]]
) -> "tuple[list[NodeProto], list[TensorProto]]":
    from onnx import helper, numpy_helper

    own = node.output[0]
    zero_point = constants[node.input[2]]
    limits = np.iinfo(zero_point.dtype)
    bounds = [f"{own}_low", f"{own}_high"]
    values = [limits.min - int(zero_point.item()), limits.max - int(zero_point.item()), _MAGIC]
    steps = (
        ("Div", [node.input[0], node.input[1]]),
        ("Clip", [f"{own}_Div", *bounds]),
        ("Add", [f"{own}_Clip", f"{own}_magic"]),
        ("Sub", [f"{own}_Add", f"{own}_magic"]),
    )
    written = [helper.make_node(op, inputs, [f"{own}_{op}"], name=f"{own}_{op}") for op, inputs in steps]
    for each in followers:
        name = each.output[0]
        written.append(helper.make_node("Mul", [f"{own}_Sub", node.input[1]], [name], name=f"{name}_Mul"))
    names = [*bounds, f"{own}_magic"]
    return written, [numpy_helper.from_array(np.array(v, np.float32), n) for n, v in zip(names, values, strict=True)]
