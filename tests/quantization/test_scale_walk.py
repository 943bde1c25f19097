"""What the walk knows of a graph: its constants, and what a node reads."""

import numpy as np
import onnx
from onnx import helper

from edgecnn.quantization.equalization import equalize
from edgecnn.quantization.scale_walk import float_constants, reads
from tests.graphs import constant, make_model, node
from tests.unbalanced import CHANNELS, require_same_function, sandwich


def test_constants_go_by_every_name_they_have() -> None:
    model = make_model(
        [
            node("Constant", [], ["inline"], value=constant("", np.array([2.0]))),
            node("Identity", ["stored"], ["again"]),
            node("Identity", ["again"], ["once_more"]),
            node("Identity", ["x"], ["y"]),
        ],
        {"stored": np.array([1.0]), "whole": np.array([1])},
    )
    found = float_constants(model)
    assert {name: array.tolist() for name, array in found.items()} == {
        "stored": [1.0],
        "inline": [2.0],
        "again": [1.0],
        "once_more": [1.0],
    }


def test_what_a_caller_may_set_is_no_constant() -> None:
    model = make_model([node("Identity", ["x"], ["y"])], {"w": np.ones(1)})
    model.graph.input.append(helper.make_tensor_value_info("w", 1, [1]))
    assert float_constants(model) == {}


def branch(reads_from_outside: str, output: str) -> onnx.GraphProto:
    return helper.make_graph(
        [node("Relu", [reads_from_outside], [output])],
        "branch",
        [],
        [helper.make_tensor_value_info(output, 1, [1, CHANNELS, 8, 8])],
    )


def conditional() -> onnx.ModelProto:
    """Return a network in which ``a`` is read by both branches of an If, and by a convolution beside it."""
    choice = node("If", ["yes"], ["c"], name="choice", then_branch=branch("a", "t"), else_branch=branch("a", "e"))
    nodes = [choice, node("Conv", ["a", "w"], ["d"], name="beside"), node("Add", ["c", "d"], ["b"])]
    weight = np.random.default_rng(0).normal(size=(CHANNELS, CHANNELS, 1, 1))
    return sandwich(nodes, {"yes": np.array(True), "w": weight})


def test_a_node_reads_what_its_branches_read() -> None:
    assert set(reads(conditional().graph.node[1])) == {"yes", "a"}


def test_a_branch_that_reads_a_tensor_is_a_barrier() -> None:
    model = conditional()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    result = equalize(model)
    assert result.groups == ()
    assert "If choice does not keep a factor" in result.unscaled[0].reason
    require_same_function(model, result.model, np.ones((1, 3, 8, 8), np.float32))
