"""The most activation memory that is alive at once, in the graph's own order."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgecnn.graph.tensors import Tensors

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

#: Operators that give the same bytes another name, or another shape.
_SAME_BYTES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout")


@dataclass(frozen=True, kw_only=True)
class Peak:
    """The largest sum of live activations in one call, and the node at which it occurs.

    Attributes:
        size_bytes: of what the node reads and writes, and of all that is kept for later.
        node: its name, or that of what it gives.
        op: its operator.
    """

    size_bytes: int
    node: str
    op: str


def peak_activation(model: "ModelProto", tensors: Tensors) -> Peak:
    """Return the peak while running node by node: a buffer lives from the node that fills it to its last reader.

    Weights are not counted, nor what a kernel needs for itself, such as an im2col buffer. A runtime that fuses nodes
    or writes over its input needs less. The image is there until it is last read.
    """
    flowing = [node for node in model.graph.node if tensors.flows(node)]
    buffers = _buffers(flowing, tensors, {value.name for value in model.graph.output})
    last = {buffers[tensors.image].name: 0}
    for index, node in enumerate(flowing):
        for name in (*tensors.flowing_inputs(node), *(output for output in node.output if output)):
            last[buffers[name].name] = index
    for value in model.graph.output:
        if value.name in buffers:
            last[buffers[value.name].name] = len(flowing)
    alive = {buffers[tensors.image].name: buffers[tensors.image].size_bytes}
    peak = Peak(size_bytes=sum(alive.values()), node=tensors.image, op="input")
    for index, node in enumerate(flowing):
        alive |= {buffers[name].name: buffers[name].size_bytes for name in node.output if name}
        if (total := sum(alive.values())) > peak.size_bytes:
            peak = Peak(size_bytes=total, node=node.name or node.output[0], op=node.op_type)
        for name in [name for name in alive if last[name] <= index]:
            del alive[name]
    return peak


@dataclass(frozen=True)
class _Buffer:
    """Memory that one tensor or several share, named after the first."""

    name: str
    size_bytes: int


def _buffers(flowing: "list[NodeProto]", tensors: Tensors, outputs: set[str]) -> dict[str, _Buffer]:
    """Return the memory of each tensor.

    What is quantized, dequantized, or only seen in another shape stays where it is, if it is as large there: runtimes
    fuse QuantizeLinear and DequantizeLinear with their neighbours.
    """
    found = {tensors.image: _Buffer(tensors.image, tensors.stored_bytes[tensors.image])}
    for node in flowing:
        for name in filter(None, node.output):
            found[name] = _Buffer(name, tensors.stored_bytes[name])
        source = found.get(node.input[0]) if node.input else None
        if source is None:
            continue
        fused = (node.op_type == "DequantizeLinear" and node.output[0] not in outputs) or (
            node.op_type == "QuantizeLinear" and found[node.output[0]].size_bytes == source.size_bytes
        )
        if fused or node.op_type in _SAME_BYTES:
            found[node.output[0]] = source
    return found
