"""Drop what no output of a graph depends on."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto


def remove_unused(model: "ModelProto") -> None:
    """Remove, in place, the nodes, initializers and value infos that no output depends on."""
    graph = model.graph
    producers = {output: node for node in graph.node for output in node.output}
    needed: set[str] = set()
    waiting = [output.name for output in graph.output]
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        needed.add(name)
        if name in producers:
            waiting.extend(producers[name].input)
    nodes = [node for node in graph.node if needed & set(node.output)]
    initializers = [tensor for tensor in graph.initializer if tensor.name in needed]
    infos = [info for info in graph.value_info if info.name in needed and info.name in producers]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(initializers)
    graph.value_info.extend(infos)
