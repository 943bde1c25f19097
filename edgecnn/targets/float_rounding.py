"""Roundings to integers written with operators in float, for a provider that cannot make integers.

::

    x -> QuantizeLinear -> DequantizeLinear -> y      y = (clip(round(x / scale) + zero_point, low, high) - zero_point) * scale
    x -> Div -> Round -> Clip -> Mul -> y             y = clip(round(x / scale), low - zero_point, high - zero_point) * scale
"""  # noqa: E501 - the drawing

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import NodeProto, TensorProto


def round_in_float(model: bytes) -> bytes:
    """Return a model in which pairs of QuantizeLinear and DequantizeLinear are drawn as above.

    Both round half to even and both are exact where division is; what is quantized along an axis, or read as an
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
    return proto.SerializeToString()


def _is_pair(node: "NodeProto", followers: "list[NodeProto]", constants: dict[str, NDArray[Any]]) -> bool:
    return (
        bool(followers)
        and len(node.input) == 3
        and all(name in constants and constants[name].size == 1 for name in node.input[1:])
        and all(each.op_type == "DequantizeLinear" and each.input[1:] == node.input[1:] for each in followers)
    )


def _in_float(
    node: "NodeProto", followers: "list[NodeProto]", constants: dict[str, NDArray[Any]]
) -> "tuple[list[NodeProto], list[TensorProto]]":
    from onnx import helper, numpy_helper

    own = node.output[0]
    zero_point = constants[node.input[2]]
    limits = np.iinfo(zero_point.dtype)
    bounds = {f"{own}_{word}": np.float32(getattr(limits, word) - int(zero_point.item())) for word in ("min", "max")}
    written = [
        helper.make_node("Div", [node.input[0], node.input[1]], [f"{own}_divided"], name=f"{own}_Div"),
        helper.make_node("Round", [f"{own}_divided"], [f"{own}_rounded"], name=f"{own}_Round"),
        helper.make_node("Clip", [f"{own}_rounded", *bounds], [f"{own}_clipped"], name=f"{own}_Clip"),
        *(
            helper.make_node("Mul", [f"{own}_clipped", node.input[1]], [each.output[0]], name=f"{each.output[0]}_Mul")
            for each in followers
        ),
    ]
    return written, [numpy_helper.from_array(np.asarray(value), name) for name, value in bounds.items()]
