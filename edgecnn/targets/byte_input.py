"""Pixels that come in as bytes, made float as a provider can: the same numbers, by another operator or order.

Seen with onnxruntime-qnn 2.7.0 and onnxruntime-ep-webgpu 0.4.0, on models of ``edgecnn export --input-type uint8``.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

#: What moves values and computes none: floats as it moves bytes. The first input is what is moved.
_MOVERS = ("Transpose", "Gather", "Reshape", "Slice", "Squeeze", "Unsqueeze")


def dequantize_bytes(model: bytes) -> bytes:
    """Return a model in which bytes become float by DequantizeLinear, with a scale of 1 and a zero point of 0.

    QNN's HTP answers wrong, and without a word, where Cast makes float of the bytes that come in.

    Args:
        model: an ONNX file; one without such a Cast is returned as it is.
    """
    import numpy as np
    from onnx import helper, load_model_from_string, numpy_helper

    proto = load_model_from_string(model)
    casts = _casts_of_bytes(proto)
    if not casts:
        return model
    scale, zero_point = (f"{casts[0].output[0]}_{what}" for what in ("scale", "zero_point"))
    for cast in casts:
        inputs = [cast.input[0], scale, zero_point]
        cast.CopyFrom(helper.make_node("DequantizeLinear", inputs, list(cast.output), name=cast.name))
    one, zero = np.array(1, np.float32), np.array(0, np.uint8)
    proto.graph.initializer.extend((numpy_helper.from_array(one, scale), numpy_helper.from_array(zero, zero_point)))
    return proto.SerializeToString()


def cast_bytes_first(model: bytes) -> bytes:
    """Return a model that makes bytes float before it moves them: WebGPU moves no bytes.

    Args:
        model: an ONNX file; one that does so already, or reads its bytes otherwise too, is returned as it is.
    """
    from onnx import helper, load_model_from_string

    proto = load_model_from_string(model)
    moved = [(cast, movers) for cast in _casts_of_bytes(proto) if (movers := _movers_before(cast, proto.graph))]
    if not moved:
        return model
    for cast, movers in moved:
        fed, answer = movers[0].input[0], cast.output[0]
        at = list(proto.graph.node).index(movers[0])
        first = helper.make_node("Cast", [fed], [f"{fed}_float"], name=f"{fed}_Cast", to=_to(cast))
        proto.graph.node.remove(cast)
        movers[0].input[0], movers[-1].output[0] = first.output[0], answer
        proto.graph.node.insert(at, first)
    del proto.graph.value_info[:]  # it calls bytes what is float now; ONNX Runtime infers it again
    return proto.SerializeToString()


def _casts_of_bytes(proto: "ModelProto") -> "list[NodeProto]":
    """Return each Cast to float of bytes that come in, be they moved before."""
    from onnx import TensorProto

    inputs = proto.graph.input
    of_bytes = {value.name for value in inputs if value.type.tensor_type.elem_type == TensorProto.UINT8}
    found = []
    for node in proto.graph.node:
        if not node.input or node.input[0] not in of_bytes:
            continue
        if node.op_type in _MOVERS:
            of_bytes.add(node.output[0])
        elif node.op_type == "Cast" and _to(node) == TensorProto.FLOAT:
            found.append(node)
    return found


def _movers_before(cast: "NodeProto", graph: "GraphProto") -> "list[NodeProto]":
    """Return what moves the bytes from the graph's input to ``cast``, in order; none if others read them on the way."""
    made = {name: node for node in graph.node for name in node.output}
    read = [name for node in graph.node for name in node.input] + [value.name for value in graph.output]
    movers: list[NodeProto] = []
    name = cast.input[0]
    while name in made:
        if read.count(name) != 1:
            return []
        movers.insert(0, made[name])
        name = made[name].input[0]
    return movers


def _to(cast: "NodeProto") -> int:
    return next(int(attribute.i) for attribute in cast.attribute if attribute.name == "to")
