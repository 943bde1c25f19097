"""What only moves integers about works on them, to the last bit, where the scales allow it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto

from edgecnn.rewriting.editor import Editor
from edgecnn.rewriting.integer_chain import MOVERS, RESHAPERS
from tests.graphs import node
from tests.qdq_nets import QdqNet, answers, finished
from tests.rewrites import applied, apply, assert_same_answers, ops, refusals

SHAPE = (4, 6, 8)
SAME = st.booleans()
DTYPES: st.SearchStrategy[Any] = st.sampled_from([np.uint8, np.int8])
BATCHES: st.SearchStrategy[int | str] = st.sampled_from(["N", 1, 3])


def moved(op: str, *, same: bool = True, **how: Any) -> tuple[QdqNet, str]:
    """Return a convolution and a mover behind it, and the mover's name."""
    net = QdqNet((3, *SHAPE[1:]), seed=2, **how)
    net.conv(4, (1, 1))
    net.constants |= {"sizes": np.array([0, 4, -1], np.int64), "last": np.array([1], np.int64)}
    match op:
        case "MaxPool":
            name = net.move(op, shape=(4, 3, 4), same=same, kernel_shape=[2, 2], strides=[2, 2])
        case "Reshape":
            name = net.move(op, "sizes", shape=(4, 48), same=same)
        case "Flatten":
            name = net.move(op, shape=(192,), same=same)
        case "Transpose":
            name = net.move(op, shape=(6, 8, 4), same=same, perm=[0, 2, 3, 1])
        case "Unsqueeze":
            name = net.move(op, "last", shape=(1, *SHAPE), same=same)
        case "Squeeze":
            net.move("Unsqueeze", "last", shape=(1, *SHAPE))
            name = net.move(op, "last", shape=SHAPE, same=same)
        case "Concat":
            name = net.move(op, net.read(), shape=(8, 6, 8), same=same, axis=1)
        case _:
            name = net.move(op, shape=SHAPE, same=same)
    return net, name


@pytest.mark.parametrize("op", MOVERS)
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_every_mover_works_on_integers(op: str, dtype: Any) -> None:
    net, name = moved(op, dtype=dtype)
    found = assert_same_answers(net, "integer-chain")
    assert ("integer-chain", name) in applied(found)
    assert ops(found.data).count("QuantizeLinear") == 2, "the image's and the convolution's"


@pytest.mark.parametrize("op", MOVERS)
def test_two_scales_are_not_one(op: str) -> None:
    net, _ = moved(op, same=False)
    found = assert_same_answers(net, "integer-chain")
    assert refusals(found) == ["its two sides have scales of their own"]


@pytest.mark.parametrize("op", RESHAPERS)
def test_rounding_goes_before_what_only_reshapes(op: str) -> None:
    net, name = moved(op)
    mover = next(one for one in net.nodes if one.name == name)
    unrounded = node("AveragePool", ["conv1_q_far"], ["mean"], kernel_shape=[1, 1])
    reader = next(one for one in net.nodes if one.output[0] == mover.input[0])
    if op == "Squeeze":
        unrounded = node("Softplus", ["conv1_q_far"], ["mean"])
    reader.output[0], mover.input[0] = "conv1_q_far", "mean"
    net.nodes.insert(net.nodes.index(mover), unrounded)
    model = net.model()
    found = apply(model, "integer-chain")
    assert found.sites[-1].reason == "what it reads is rounded first"
    assert ops(found.data).index("QuantizeLinear", 5) < ops(found.data).index(op, 5)
    images = net.images()
    np.testing.assert_array_equal(answers(found.data, images), answers(model.SerializeToString(), images))


@settings(max_examples=40)
@given(data=st.data())
def test_chains_of_movers_give_the_same_answers(data: st.DataObject) -> None:
    net = QdqNet((3, 8, 8), seed=data.draw(st.integers(0, 9)), dtype=data.draw(DTYPES))
    for _ in range(data.draw(st.integers(1, 3))):
        height, width = net.shape[1:]
        match data.draw(st.sampled_from(["conv", "pool", "turn", "join"])):
            case "conv":
                net.conv(data.draw(st.integers(1, 5)), (1, 1), bias=data.draw(st.booleans()))
            case "pool" if min(height, width) > 1:
                net.pool()
            case "turn":
                net.move("Transpose", shape=(net.shape[0], width, height), perm=[0, 1, 3, 2], same=data.draw(SAME))
            case _:
                shape = (2 * net.shape[0], height, width)
                net.move("Concat", net.read(), shape=shape, axis=1, same=data.draw(SAME))
    assert_same_answers(net, "integer-chain", batch=data.draw(BATCHES))


def test_pools_of_old_opsets_take_no_integers() -> None:
    net = QdqNet(SHAPE)
    name = net.pool()
    assert apply(net.model(opset=11), "integer-chain").sites == ()
    assert applied(apply(net.model(opset=12), "integer-chain")) == [("integer-chain", name)]


def test_what_only_reshapes_takes_integers_in_any_opset() -> None:
    net = QdqNet(SHAPE)
    name = net.flatten()
    assert applied(apply(net.model(opset=10), "integer-chain")) == [("integer-chain", name)]


@pytest.mark.parametrize("op", MOVERS)
def test_sixteen_bits_are_left_alone(op: str) -> None:
    net, _ = moved(op, dtype=np.uint16)
    assert apply(net.model(opset=21), "integer-chain").sites == ()


def bare(before: str, after: str, *, zero_points: bool) -> Any:
    """Return integers, read and rounded again behind a Flatten, with or without zero points of their types."""
    types = {"int8": TensorProto.INT8, "uint8": TensorProto.UINT8}
    names = (["before"], ["after"]) if zero_points else ([], [])
    return finished(
        [
            node("DequantizeLinear", ["x", "scale", *names[0]], ["real"]),
            node("Flatten", ["real"], ["flat"]),
            node("QuantizeLinear", ["flat", "scale", *names[1]], ["y"]),
        ],
        {"scale": np.float32(1), "before": np.dtype(before).type(0), "after": np.dtype(after).type(0)},
        {"y": (types[after], ("N", 192))},
        input_type=types[before],
    )


@pytest.mark.parametrize(
    ("before", "after", "zero_points", "chained"),
    [("int8", "int8", True, True), ("int8", "uint8", True, False), ("int8", "uint8", False, False)],
)
def test_signed_integers_are_not_unsigned_ones(before: str, after: str, zero_points: bool, chained: bool) -> None:
    model = bare(before, after, zero_points=zero_points)
    found = apply(model, "integer-chain")
    assert bool(applied(found)) is chained
    images = np.arange(-96, 96).astype(np.int8).reshape(1, 3, 8, 8)
    np.testing.assert_array_equal(answers(found.data, images), answers(model.SerializeToString(), images))


def test_a_zero_point_that_only_one_side_names_is_not_the_same() -> None:
    model = bare("uint8", "uint8", zero_points=True)
    model.graph.node[0].input.pop()
    assert refusals(apply(model, "integer-chain")) == ["its two sides have scales of their own"]


def test_what_another_reads_unrounded_is_not_rounded_first() -> None:
    net = QdqNet(SHAPE)
    net.nodes += [node("Softplus", [net.read()], ["soft"]), node("Flatten", ["soft"], ["flat"], name="flat")]
    net.nodes.append(node("Flatten", ["soft"], ["aside"], axis=2))
    net.integers = net.round("flat", net._parameters)
    outputs = {net.integers: (TensorProto.UINT8, ("N", 192)), "aside": (TensorProto.FLOAT, (None, None))}
    assert apply(net.model(outputs=outputs), "integer-chain").sites == ()


def test_what_is_read_elsewhere_or_leaves_the_graph_stays_float() -> None:
    net, name = moved("MaxPool")
    outputs = {name: (TensorProto.FLOAT, ("N", 4, 3, 4)), net.integers: (TensorProto.UINT8, ("N", 4, 3, 4))}
    assert apply(net.model(outputs=outputs), "integer-chain").sites == ()


def test_the_image_itself_is_not_rounded_before_it_is_reshaped() -> None:
    net = QdqNet(SHAPE)
    net.nodes.insert(0, node("Flatten", ["x"], ["flat"], name="flat"))
    net.nodes[1].input[0] = "flat"
    assert apply(net.model(answer=("N", 192)), "integer-chain").sites == ()


def test_another_zero_point_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    net, _ = moved("MaxPool", same=False)
    monkeypatch.setattr("edgecnn.rewriting.integer_chain._same", lambda before, after: True)
    with pytest.raises(AssertionError, match="Mismatched elements"):
        assert_same_answers(net, "integer-chain")


def test_rounding_by_another_scale_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    add = Editor.add

    def spoiled(self: Editor, op: str, inputs: list[str], *rest: Any) -> str:
        return add(self, op, [inputs[0], "x_scale", inputs[2]] if op == "QuantizeLinear" else inputs, *rest)

    net = QdqNet(SHAPE)
    net.nodes += [node("Softplus", [net.read()], ["soft"]), node("Flatten", ["soft"], ["flat"], name="flat")]
    net.scale, net.shape = np.float32(0.02), (192,)
    net._parameters = net.parameters("flat", net.scale)
    net.integers = net.round("flat", net._parameters)
    assert applied(assert_same_answers(net, "integer-chain")) == [("integer-chain", "flat")]
    monkeypatch.setattr(Editor, "add", spoiled)
    with pytest.raises(AssertionError, match="Mismatched elements"):
        assert_same_answers(net, "integer-chain")
