"""Roundings to integers written with operators in float, for a provider that has none for integers.

::

    x -> QuantizeLinear -> layout -> DequantizeLinear -> y    (clip(round(x / scale) + zero_point, low, high) - zero_point) * scale
    x -> Div -> Clip -> Add -> Sub -> layout -> Mul -> y      ((clip(x / scale, low - zero_point, high - zero_point) + M) - M) * scale

Adding and taking away ``M = 1.5 * 2**23`` rounds a float32 of less than 2**22 to the nearest integer, half to even, as
QuantizeLinear does; ONNX Runtime's WebGPU provider has no Round either. ``layout`` is nothing, or operators that move
integers or choose among them, as a layer that was blocked by ``edgecnn tune`` has: the float32 in their place are the
same whole numbers, less the zero point, in the same order.
"""  # noqa: E501 - the drawing

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.targets.float_layers import remove_unread

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, TensorProto

_MAGIC = 1.5 * 2**23
#: Of which every value is less than 2**22.
_TYPES = (np.uint8, np.int8, np.uint16, np.int16)
#: What the first input's numbers pass unchanged.
_LAYOUT = ("Flatten", "MaxPool", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
_Readers = Mapping[str, "list[NodeProto]"]
_Constants = Mapping[str, NDArray[Any]]


def round_in_float(model: bytes) -> bytes:
    """Return a model in which QuantizeLinear, and each DequantizeLinear that reads it at last, are written as above.

    What is quantized along an axis, or read as an integer by anything else, stays as it is.

    Args:
        model: an ONNX file.
    """
    import onnx

    proto = onnx.load_model_from_string(model)
    graph = proto.graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    written: dict[str, list[NodeProto]] = {}
    for node, ends in _roundings(graph, constants):
        written[node.output[0]], tensors = _rounded(node, constants)
        written |= {end.output[0]: [_multiplied(end)] for end in ends}
        graph.initializer.extend(tensors)
    nodes = [each for node in graph.node for each in written.get(node.output[0], [node])]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]  # it calls integers what is float now; ONNX Runtime infers it again
    remove_unread(graph)
    return proto.SerializeToString()


def _roundings(graph: "GraphProto", constants: _Constants) -> "list[tuple[NodeProto, list[NodeProto]]]":
    """Return each QuantizeLinear that can be written in float, and where its integers become float again."""
    readers: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    readers |= {value.name: [] for value in graph.output}  # who runs the model reads it, as what it is
    found = []
    for node in graph.node:
        ends = _ends(node, readers) if node.op_type == "QuantizeLinear" else []
        if ends and all(_is_like(node, each, constants) for each in (node, *ends)):
            found.append((node, ends))
    return found


def _ends(node: "NodeProto", readers: _Readers) -> "list[NodeProto]":
    """Return every DequantizeLinear that reads a node's answers at last; none where something else reads them, too."""
    following = readers.get(node.output[0], []) if len(node.output) == 1 else []
    found = []
    for reader in following:
        is_end = reader.op_type == "DequantizeLinear"
        further = [reader] if is_end else _ends(reader, readers) if reader.op_type in _LAYOUT else []
        if not further:
            return []
        found += further
    return found


def _is_like(node: "NodeProto", other: "NodeProto", constants: _Constants) -> bool:
    """Tell whether ``other`` has one scale, and the zero point of ``node``."""
    if len(node.input) != 3 or len(other.input) != 3 or any(name not in constants for name in other.input[1:]):
        return False
    scale, zero_point = (constants[name] for name in other.input[1:])
    expected = constants[node.input[2]]
    return (
        scale.size == zero_point.size == 1
        and scale.dtype == np.float32
        and zero_point.dtype in _TYPES
        and zero_point.dtype == expected.dtype
        and zero_point.item() == expected.item()
    )


def _multiplied(node: "NodeProto") -> "NodeProto":
    from onnx import helper

    own = node.output[0]
    return helper.make_node("Mul", node.input[:2], [own], name=f"{own}_Mul")


def _rounded(node: "NodeProto", constants: _Constants) -> "tuple[list[NodeProto], list[TensorProto]]":
    """Return what answers, in float and by the same name, the integers of QuantizeLinear less their zero point."""
    from onnx import helper, numpy_helper

    own = node.output[0]
    zero_point = constants[node.input[2]]
    limits = np.iinfo(zero_point.dtype)
    bounds = [f"{own}_low", f"{own}_high"]
    values = [limits.min - int(zero_point.item()), limits.max - int(zero_point.item()), _MAGIC]
    steps = (
        ("Div", [node.input[0], node.input[1]], f"{own}_Div"),
        ("Clip", [f"{own}_Div", *bounds], f"{own}_Clip"),
        ("Add", [f"{own}_Clip", f"{own}_magic"], f"{own}_Add"),
        ("Sub", [f"{own}_Add", f"{own}_magic"], own),
    )
    written = [helper.make_node(op, inputs, [output], name=f"{own}_{op}") for op, inputs, output in steps]
    names = [*bounds, f"{own}_magic"]
    return written, [numpy_helper.from_array(np.array(v, np.float32), n) for n, v in zip(names, values, strict=True)]
