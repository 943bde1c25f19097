"""What no output depends on goes; everything else stays as it was."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from edgecnn.graph.remove_unused import remove_unused
from tests.graphs import copy, evaluate, make_model, node

SHAPE = ("N", 3, 8, 8)


def made(model: ModelProto) -> list[str]:
    return [name for item in model.graph.node for name in item.output]


def constants(model: ModelProto) -> list[str]:
    return [tensor.name for tensor in model.graph.initializer]


def identity_branch(name: str, inner: list[NodeProto] | None = None) -> GraphProto:
    nodes = inner or [node("Relu", [name], ["out"])]
    return helper.make_graph(nodes, "branch", [], [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)])


def test_a_chain_that_leads_nowhere_goes_with_its_constants() -> None:
    model = make_model(
        [
            node("Mul", ["x", "two"], ["dead"]),
            node("Add", ["x", "one"], ["alive"]),
            node("Relu", ["dead"], ["deader"]),
            node("Relu", ["alive"], ["y"]),
        ],
        {"two": 2.0, "one": 1.0, "nobodys": 3.0},
        outputs={"y": SHAPE},
    )
    model.graph.value_info.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in ("dead", "alive", "gone")
    )
    remove_unused(model)
    assert made(model) == ["alive", "y"]
    assert constants(model) == ["one"]
    assert [info.name for info in model.graph.value_info] == ["alive"]


def test_a_node_stays_whole_if_one_of_its_outputs_is_used() -> None:
    model = make_model(
        [node("Split", ["x"], ["left", "right"], axis=3, num_outputs=2), node("Relu", ["left"], ["y"])],
        {},
        outputs={"y": ("N", 3, 8, 4)},
    )
    remove_unused(model)
    assert made(model) == ["left", "right", "y"]


def test_every_output_of_the_graph_counts() -> None:
    model = make_model([node("Relu", ["x"], ["y"]), node("Neg", ["x"], ["z"])], {}, outputs={"y": SHAPE, "z": SHAPE})
    remove_unused(model)
    assert made(model) == ["y", "z"]


def test_the_inputs_of_the_graph_stay_even_if_unread() -> None:
    model = make_model([node("Relu", ["x"], ["y"])], {}, inputs={"x": SHAPE, "unread": SHAPE}, outputs={"y": SHAPE})
    remove_unused(model)
    assert [value.name for value in model.graph.input] == ["x", "unread"]


def test_what_a_branch_reads_from_around_it_stays() -> None:
    inner = helper.make_node(
        "If", ["yes"], ["out"], then_branch=identity_branch("deep"), else_branch=identity_branch("deep")
    )
    model = make_model(
        [
            node("Mul", ["x", "two"], ["captured"]),
            node("Add", ["x", "one"], ["deep"]),
            node(
                "If",
                ["yes"],
                ["y"],
                then_branch=identity_branch("captured"),
                else_branch=identity_branch("", [inner]),
            ),
        ],
        {"two": 2.0, "one": 1.0, "yes": np.array(True)},
        outputs={"y": SHAPE},
    )
    before = copy(model)
    remove_unused(model)
    assert made(model) == ["captured", "deep", "y"]
    assert constants(model) == ["two", "one", "yes"]
    x = np.ones((1, 3, 8, 8), np.float32)
    np.testing.assert_array_equal(evaluate(model, {"x": x})[0], evaluate(before, {"x": x})[0])


def test_an_input_left_out_is_not_taken_for_an_output_left_out() -> None:
    model = make_model(
        [
            node("Dropout", ["x"], ["dead", ""]),
            node("Clip", ["x", "", "six"], ["y"]),
        ],
        {"six": 6.0},
        outputs={"y": SHAPE},
    )
    remove_unused(model)
    assert made(model) == ["y"]


@given(st.data())
def test_what_stays_is_what_the_outputs_can_reach(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 8))
    tensors = ["x"]
    nodes, parents = [], {}
    for index in range(n):
        left, right = data.draw(st.sampled_from(tensors)), data.draw(st.sampled_from(tensors))
        name = f"t{index}"
        nodes.append(node("Add", [left, right], [name]))
        parents[name] = {left, right}
        tensors.append(name)
    outputs = data.draw(st.lists(st.sampled_from(tensors[1:]), min_size=1, max_size=2, unique=True))
    model = make_model(nodes, {}, outputs=dict.fromkeys(outputs, SHAPE))

    def ancestors(name: str) -> set[str]:
        return {name}.union(*(ancestors(parent) for parent in parents.get(name, ())))

    reachable = set().union(*(ancestors(name) for name in outputs))
    remove_unused(model)
    assert made(model) == [name for name in tensors[1:] if name in reachable]
    remove_unused(model)
    assert made(model) == [name for name in tensors[1:] if name in reachable]
