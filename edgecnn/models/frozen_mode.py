"""Networks that were recorded in training mode: what dropout and batch norm do there is fixed in their graph.

A Python module is put into evaluation mode by ``eval()``. A graph of ``torch.export`` or a TorchScript trace has the
mode in it as a constant, which no call changes; exported as it is, it would be the training function.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn
    from torch.fx import GraphModule, Node

#: Operators of TorchScript that ask for the mode, the index of that argument, and of the running mean.
_MODE_ARGUMENT = {
    "aten::dropout": 2,
    "aten::dropout_": 2,
    "aten::feature_dropout": 2,
    "aten::feature_dropout_": 2,
    "aten::alpha_dropout": 2,
    "aten::feature_alpha_dropout": 2,
    "aten::batch_norm": 5,
}
_RUNNING_MEAN = 3


def in_training_mode(module: "nn.Module") -> tuple[str, ...]:
    """Return the operators that are fixed in training mode, each once: of a graph, none for any other module."""
    import torch
    from torch.fx import GraphModule

    if isinstance(module, torch.jit.ScriptModule):
        return tuple(dict.fromkeys(_in_script(module.inlined_graph)))
    graphs = [part for part in module.modules() if isinstance(part, GraphModule)]
    return tuple(dict.fromkeys(name for graph in graphs for name in _in_graph(graph)))


def _in_graph(graph: "GraphModule") -> Iterator[str]:
    for node in graph.graph.nodes:
        arguments = _arguments(node)
        if not (arguments.get("training") is True or arguments.get("train") is True):
            continue
        without_statistics = "running_mean" in arguments and arguments["running_mean"] is None
        if not without_statistics and arguments.get("p") != 0:  # neither is different in evaluation mode
            yield str(node.target).split(".")[1]


def _arguments(node: "Node") -> dict[str, Any]:
    """Return the arguments of a call by name; none where it is not of an operator with a schema."""
    schema = getattr(node.target, "_schema", None)
    if node.op != "call_function" or schema is None:
        return {}
    given = dict(zip((argument.name for argument in schema.arguments), node.args, strict=False))
    return given | dict(node.kwargs)


def _in_script(graph: Any) -> Iterator[str]:
    for node in graph.nodes():
        for block in node.blocks():
            yield from _in_script(block)
        index = _MODE_ARGUMENT.get(node.kind())
        if index is None or node.inputsAt(index).toIValue() is not True:
            continue
        if node.kind() == "aten::batch_norm" and node.inputsAt(_RUNNING_MEAN).node().mustBeNone():
            continue
        yield node.kind().removeprefix("aten::")
