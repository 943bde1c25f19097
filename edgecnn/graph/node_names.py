"""A name for every node, which ONNX does not ask for."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto


def with_node_names(model: "ModelProto") -> "ModelProto":
    """Return a model in which no node is without a name, or has that of an earlier one.

    Such a node gets the name of its first output, which no other node makes. The model itself is returned if nothing
    is missing; else a copy.
    """
    import onnx

    names = [node.name for node in model.graph.node]
    if all(names) and len(set(names)) == len(names):
        return model
    named = onnx.ModelProto()
    named.CopyFrom(model)
    taken = set(names)
    seen: set[str] = set()
    for node in named.graph.node:
        if not node.name or node.name in seen:
            node.name = _free(next(filter(None, node.output), node.op_type), taken)
            taken.add(node.name)
        seen.add(node.name)
    return named


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name
