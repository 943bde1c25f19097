"""Drop what no output of a graph depends on."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import ModelProto, NodeProto


def remove_unused(model: "ModelProto") -> None:
    """Remove, in place, the nodes, initializers and value infos that no output depends on."""
    graph = model.graph
    producers = {output: node for node in graph.node for output in node.output}
    needed: set[str] = set()
    waiting = [output.name for output in graph.output]
    while waiting:
        name = waiting.pop()
        if name in needed or not name:  # an optional input that is left out has no name
            continue
        needed.add(name)
        if name in producers:
            waiting.extend(_reads(producers[name]))
    nodes = [node for node in graph.node if needed & set(node.output)]
    initializers = [tensor for tensor in graph.initializer if tensor.name in needed]
    infos = [info for info in graph.value_info if info.name in needed and info.name in producers]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(initializers)
    graph.value_info.extend(infos)


def _reads(node: "NodeProto") -> "Iterator[str]":
    """Yield the inputs of a node, and what its branches and loop bodies may read from the graph around them."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from _reads(inner)
