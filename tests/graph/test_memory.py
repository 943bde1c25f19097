"""Peak activation memory, against a simulation that asks for every step which tensors are still needed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto

from edgecnn.graph.memory import Peak, peak_activation
from edgecnn.graph.tensors import read_tensors
from tests.graphs import make_model, node, small_cnn
from tests.nets import Array, everything, networks


def peak(model: ModelProto) -> Peak:
    return peak_activation(model, read_tensors(model, "net.onnx"))


def simulated(model: ModelProto, sizes: dict[str, int]) -> int:
    """Return the peak by brute force: at each step, everything made before and needed now or later."""
    (image,) = (value.name for value in model.graph.input)
    alias = {image: image}
    for one in model.graph.node:
        same = one.op_type in ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout")
        alias |= {name: alias[one.input[0]] if same else name for name in one.output}
    steps = list(model.graph.node)
    outputs = [value.name for value in model.graph.output]
    worst = 0
    for now, step in enumerate(steps):
        made = {image, *(name for one in steps[: now + 1] for name in one.output)}
        needed = {*outputs, *step.output, *(name for one in steps[now:] for name in one.input)}
        worst = max(worst, sum(sizes[name] for name in {alias[name] for name in made & needed}))
    return worst


@settings(max_examples=150)
@given(networks())
def test_the_peak_is_that_of_a_simulation(model: ModelProto) -> None:
    image = np.ones((1, 3, 9, 8), np.float32)
    sizes = {name: values.nbytes for name, values in everything(model, image).items()} | {"x": image.nbytes}
    assert peak(model).size_bytes == simulated(model, sizes)


OPS = st.sampled_from(["Relu", "Add", "Concat", "Reshape", "Identity"])


@settings(max_examples=150)
@given(st.lists(st.tuples(OPS, st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=9))
def test_the_peak_of_graphs_with_long_branches(steps: list[tuple[str, int, int]]) -> None:
    names, rows = ["x"], {"x": 2}
    nodes: list[NodeProto] = []
    constants: dict[str, Array] = {}
    for index, (op, first, second) in enumerate(steps):
        left = names[first % len(names)]
        same = [name for name in names if rows[name] == rows[left]]
        right, name = same[second % len(same)], f"t{index}"
        if op == "Reshape":
            constants[f"s{index}"] = np.array([1, rows[left], 4])
            nodes.append(node(op, [left, f"s{index}"], [name]))
        else:
            axis = {"axis": 1} if op == "Concat" else {}
            nodes.append(node(op, [left, right] if op in ("Add", "Concat") else [left], [name], **axis))
        rows[name] = rows[left] * (2 if op == "Concat" else 1)
        names.append(name)
    model = make_model(nodes, constants, inputs={"x": (1, 2, 4)}, outputs={names[-1]: (1, rows[names[-1]], 4)})
    assert peak(model).size_bytes == simulated(model, {name: 16 * rows[name] for name in names})


def test_the_node_at_which_it_occurs_is_named() -> None:
    image, convolved = 4 * 3 * 64, 4 * 4 * 36
    assert peak(small_cnn()) == Peak(size_bytes=image + convolved, node="conv", op="Conv")


def test_what_is_kept_for_a_shortcut_counts() -> None:
    nodes = [
        node("Relu", ["x"], ["a"]),
        node("Relu", ["a"], ["b"]),
        node("Add", ["x", "b"], ["y"], name="join"),
    ]
    model = make_model(nodes, {}, inputs={"x": (1, 100)})
    assert peak(model) == Peak(size_bytes=1200, node="make_b", op="Relu")


def test_a_batch_counts_as_a_whole() -> None:
    assert peak(small_cnn(batch=8)).size_bytes == 8 * peak(small_cnn()).size_bytes


QUANTIZED = [
    node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
    node("DequantizeLinear", ["xq", "s", "z"], ["xf"]),
    node("Relu", ["xf"], ["r"]),
    node("QuantizeLinear", ["r", "s", "z"], ["rq"]),
    node("DequantizeLinear", ["rq", "s", "z"], ["rf"]),
]


def quantized(nodes: list[NodeProto], *, outputs: list[str]) -> ModelProto:
    return make_model(
        nodes,
        {"s": np.array(0.1), "z": np.array(0, np.uint8)},
        inputs={"x": (1, 100)},
        outputs=dict.fromkeys(outputs, (1, 100)),
    )


def test_a_quantized_tensor_takes_one_byte_a_value_and_lies_in_one_place() -> None:
    # first the float image and its integers; then integers in and out: 200; then integers in and floats out: 500
    model = quantized([*QUANTIZED, node("Relu", ["rf"], ["y"])], outputs=["y"])
    assert peak(model) == Peak(size_bytes=500, node="make_xq", op="QuantizeLinear")
    # with the integers of x kept to the end, the last step has both of them and the floats
    late = [*QUANTIZED, node("Add", ["rf", "xf"], ["y"])]
    assert peak(quantized(late, outputs=["y"])) == Peak(size_bytes=600, node="make_y", op="Add")


def test_what_is_dequantized_to_be_given_back_takes_its_own_memory() -> None:
    late = [*QUANTIZED, node("Relu", ["xf"], ["y"])]
    assert peak(quantized(late, outputs=["rf", "y"])).size_bytes == 100 + 400 + 400


@pytest.mark.parametrize("op", ["Relu", "Flatten"])
def test_an_output_that_nobody_reads_is_kept_to_the_end(op: str) -> None:
    nodes = [node(op, ["x"], ["early"]), node("Relu", ["x"], ["a"]), node("Relu", ["a"], ["y"])]
    model = make_model(nodes, {}, inputs={"x": (1, 100)}, outputs={"early": (1, 100), "y": (1, 100)})
    assert peak(model).size_bytes == 1200
