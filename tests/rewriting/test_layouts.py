"""Transpositions and reshapes that undo each other go, and no others."""

from typing import Any

import numpy as np
import onnx
import pytest

from edgecnn.rewriting.editor import Editor
from edgecnn.rewriting.layouts import cancel_layouts
from tests.graphs import Array, evaluate, make_model, node

LAST, FIRST = [0, 2, 3, 1], [0, 3, 1, 2]
X = np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5)


def chain(*steps: tuple[str, Any], outputs: tuple[str, ...] = ()) -> onnx.ModelProto:
    """Return a model of transpositions and reshapes one behind the other, and a Relu behind them."""
    nodes, constants, last = [], {}, "x"
    for index, (op, value) in enumerate(steps):
        inputs, how = ([last], {"perm": value}) if op == "Transpose" else ([last, f"s{index}"], {})
        if op == "Reshape":
            constants[f"s{index}"] = np.array(value, np.int64)
        last = f"t{index}"
        nodes.append(node(op, inputs, [last], **how))
    nodes.append(node("Relu", [last], ["y"]))
    names = ("y", *outputs)
    shapes = {name: tuple(f"{name}{axis}" for axis in range(len(steps[-1][1]))) for name in names}
    return make_model(nodes, constants, inputs={"x": ("N", 3, 4, 5)}, outputs=shapes)


def cancelled(model: onnx.ModelProto) -> tuple[list[str], list[Array]]:
    """Return the operators that are left, and what they compute."""
    editor = Editor(model)
    sites = cancel_layouts(editor)
    assert all(site.applied and site.rewrite == "layouts" for site in sites)
    made = editor.finish()
    return [one.op_type for one in made.graph.node], evaluate(made, {"x": X})


@pytest.mark.parametrize(
    ("steps", "left"),
    [
        ([("Transpose", LAST), ("Transpose", FIRST)], 0),
        ([("Transpose", LAST), ("Transpose", LAST)], 2),
        ([("Transpose", LAST), ("Transpose", FIRST), ("Transpose", LAST), ("Transpose", FIRST)], 0),
        ([("Transpose", FIRST), ("Transpose", LAST), ("Transpose", LAST)], 1),
        ([("Transpose", LAST), ("Transpose", LAST), ("Transpose", FIRST), ("Transpose", FIRST)], 0),
        ([("Reshape", (-1, 60)), ("Reshape", (-1, 4, 15))], 1),
        ([("Reshape", (-1, 60)), ("Reshape", (-1, 30)), ("Reshape", (-1, 20))], 1),
        ([("Reshape", (2, -1)), ("Reshape", (0, 4, 15))], 2),
        ([("Reshape", (-1, 4, 15)), ("Reshape", (0, 60))], 2),
        ([("Transpose", LAST), ("Reshape", (-1, 5, 4, 3)), ("Transpose", FIRST)], 3),
    ],
)
def test_what_undoes_the_one_before_goes(steps: list[tuple[str, Any]], left: int) -> None:
    model = chain(*steps)
    ops, values = cancelled(model)
    assert len(ops) == left + 1
    np.testing.assert_array_equal(values[0], evaluate(model, {"x": X})[0])


def test_an_output_of_the_graph_keeps_its_maker() -> None:
    model = chain(("Transpose", LAST), ("Transpose", FIRST), outputs=("t1",))
    ops, values = cancelled(model)
    assert ops == ["Transpose", "Transpose", "Relu"]
    np.testing.assert_array_equal(values[1], X)


def test_a_transposition_that_another_reads_stays_for_that_one() -> None:
    model = chain(("Transpose", LAST), ("Transpose", FIRST), outputs=("t0",))
    ops, values = cancelled(model)
    assert ops == ["Transpose", "Relu"]
    np.testing.assert_array_equal(values[1], X.transpose(LAST))


def test_a_transposition_without_an_order_of_its_own_turns_all_axes_and_stays() -> None:
    model = chain(("Transpose", [3, 2, 1, 0]), ("Transpose", [3, 2, 1, 0]))
    for item in model.graph.node[:2]:
        item.ClearField("attribute")
    assert cancelled(model)[0] == ["Transpose", "Transpose", "Relu"]


def test_sizes_that_are_computed_keep_the_reshape_before() -> None:
    model = chain(("Reshape", (-1, 60)), ("Reshape", (-1, 4, 15)))
    model.graph.node.insert(0, node("Identity", ["s1"], ["computed"]))
    model.graph.node[2].input[1] = "computed"
    assert cancelled(model)[0] == ["Identity", "Reshape", "Reshape", "Relu"]
