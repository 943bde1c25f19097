"""Folding the normalization into the first convolution: exact where it is done, left alone where it is not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from onnx import ModelProto, NodeProto, TensorProto, helper

from edgecnn.graph.fold_normalization import fold_normalization
from tests.graphs import Array, Shape, copy, evaluate, make_model, node, weights

RANDOM = np.random.default_rng(0)
MEAN, STD = np.array([0.5, 0.4, 0.3]).reshape(3, 1, 1), np.array([0.2, 0.3, 0.25]).reshape(1, 3, 1, 1)
WEIGHT, BIAS = RANDOM.normal(size=(4, 3, 3, 3)), RANDOM.normal(size=4)
CONSTANTS: dict[str, ArrayLike] = {"mean": MEAN, "std": STD, "w": WEIGHT, "b": BIAS, "two": 2.0}
X = {"x": RANDOM.random((2, 3, 8, 8)).astype(np.float32)}
NORMALIZE = [node("Sub", ["x", "mean"], ["centred"]), node("Div", ["centred", "std"], ["normal"])]
IMAGE = ("N", "C", "H", "W")


def network(nodes: Sequence[NodeProto], *, outputs: Sequence[str] = ("y",), **changes: Any) -> ModelProto:
    """Return a model of these nodes with the constants above, as far as they are used."""
    used = {name for item in nodes for name in item.input}
    constants = {name: value for name, value in CONSTANTS.items() if name in used} | changes.pop("constants", {})
    return make_model(nodes, constants, outputs=dict.fromkeys(outputs, IMAGE), **changes)


def ops(model: ModelProto) -> list[str]:
    return [item.op_type for item in model.graph.node]


def folded(model: ModelProto, feeds: Mapping[str, Array] = X) -> ModelProto:
    """Fold, and require that it was done and that the function is the same."""
    after = copy(model)
    assert fold_normalization(after)
    for expected, found in zip(evaluate(model, feeds), evaluate(after, feeds), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())
    return after


def left_alone(model: ModelProto) -> None:
    """Require that nothing was folded, and nothing changed."""
    after = copy(model)
    assert not fold_normalization(after)
    assert after.SerializeToString() == model.SerializeToString()


@dataclass(frozen=True)
class Step:
    op: str
    value: Array
    constant_first: bool

    def apply(self, x: Array) -> Array:
        left, right = (self.value, x) if self.constant_first else (x, self.value)
        operation = {"Sub": np.subtract, "Add": np.add, "Mul": np.multiply, "Div": np.divide}[self.op]
        return np.asarray(operation(left, right))


@dataclass(frozen=True)
class Case:
    chain: list[Step]
    weight: Array
    bias: Array | None
    attributes: dict[str, list[int] | int]

    @property
    def model(self) -> ModelProto:
        nodes, constants, last = [], dict[str, ArrayLike](w=self.weight), "x"
        for index, step in enumerate(self.chain):
            constants[f"c{index}"] = step.value
            operands = [f"c{index}", last] if step.constant_first else [last, f"c{index}"]
            last = f"t{index}"
            nodes.append(node(step.op, operands, [last]))
        if self.bias is not None:
            constants["b"] = self.bias
        nodes.append(node("Conv", [last, "w", *(["b"] if self.bias is not None else [])], ["y"], **self.attributes))
        channels = self.weight.shape[1] * int(np.asarray(self.attributes["group"]))
        return make_model(nodes, constants, inputs={"x": ("N", channels, 8, 9)}, outputs={"y": IMAGE})


@st.composite
def steps(draw: st.DrawFn, channels: int) -> Step:
    op = draw(st.sampled_from(["Sub", "Add", "Mul", "Div"]))
    shape = draw(st.sampled_from([(), (1,), (1, 1, 1, 1), (channels, 1, 1), (1, channels, 1, 1)]))
    sizes = st.floats(0.25, 4, width=32)
    values = [draw(sizes) * draw(st.sampled_from([1, -1])) for _ in range(int(np.prod(shape)))]
    return Step(
        op=op,
        value=np.array(values, np.float32).reshape(shape),
        constant_first=op != "Div" and draw(st.booleans()),
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    channels = draw(st.integers(1, 4))
    group = draw(st.sampled_from([1, 1, 1, channels]))
    filters = group * draw(st.integers(1, 3))
    kernel = [draw(st.integers(1, 3)), draw(st.integers(1, 3))]
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    pads = draw(st.one_of(st.just([0, 0, 0, 0]), st.lists(st.integers(0, 2), min_size=4, max_size=4)))
    return Case(
        chain=draw(st.lists(steps(channels), max_size=4)),
        weight=random.normal(size=(filters, channels // group, *kernel)).astype(np.float32),
        bias=random.normal(size=filters).astype(np.float32) if draw(st.booleans()) else None,
        attributes={
            "strides": [draw(st.integers(1, 3)), draw(st.integers(1, 3))],
            "dilations": [draw(st.integers(1, 2)), draw(st.integers(1, 2))],
            "pads": pads,
            "group": group,
        },
    )


@settings(max_examples=300)
@given(cases(), st.integers(0, 2**32 - 1))
def test_any_chain_before_any_convolution_is_folded_exactly_or_left_alone(case: Case, seed: int) -> None:
    model = case.model
    channels = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    at_zero, at_one = np.zeros((1, channels, 1, 1)), np.ones((1, channels, 1, 1))
    for step in case.chain:
        at_zero, at_one = step.apply(at_zero), step.apply(at_one)
    exact = not (at_zero.any() and np.any(case.attributes["pads"]))
    after = copy(model)
    assert fold_normalization(after) == (bool(case.chain) and case.attributes["group"] == 1 and exact)
    assert ops(after) == ["Conv"] if exact and case.attributes["group"] == 1 else ops(after) == ops(model)
    x = {"x": np.random.default_rng(seed).random((2, channels, 8, 9), np.float32)}
    largest = np.abs(case.weight).sum((1, 2, 3)).max() * (np.abs(at_zero) + np.abs(at_one)).max() + 4
    np.testing.assert_allclose(evaluate(after, x)[0], evaluate(model, x)[0], rtol=0, atol=1e-5 * largest)


def test_the_usual_normalization_disappears() -> None:
    after = folded(network([*NORMALIZE, node("Conv", ["normal", "w", "b"], ["y"])]))
    assert ops(after) == ["Conv"]
    assert sorted(weights(after)) == ["w.folded", "w.folded_bias"]


def test_the_new_weights_are_those_of_the_formula() -> None:
    after = weights(folded(network([*NORMALIZE, node("Conv", ["normal", "w", "b"], ["y"])])))
    mean, std = MEAN.astype(np.float32).astype(float), STD.astype(np.float32).astype(float)
    weight, bias = WEIGHT.astype(np.float32).astype(float), BIAS.astype(np.float32).astype(float)
    np.testing.assert_array_equal(after["w.folded"], (weight / std).astype(np.float32))
    expected = bias - np.einsum("oihw,i->o", weight, (mean.reshape(3) / std.reshape(3)))
    np.testing.assert_allclose(after["w.folded_bias"], expected, rtol=1e-6)


def test_a_convolution_without_a_bias_gets_one() -> None:
    assert "w.folded_bias" in weights(folded(network([*NORMALIZE, node("Conv", ["normal", "w"], ["y"])])))


def test_bytes_in_other_order_are_scaled_in_the_convolution() -> None:
    model = network(
        [
            node("Transpose", ["x"], ["nchw"], perm=[0, 3, 1, 2]),
            node("Cast", ["nchw"], ["float"], to=TensorProto.FLOAT),
            node("Div", ["float", "levels"], ["unit"]),
            node("Sub", ["unit", "mean"], ["centred"]),
            node("Div", ["centred", "std"], ["normal"]),
            node("Conv", ["normal", "w", "b"], ["y"]),
        ],
        inputs={"x": ("N", 8, 8, 3)},
        input_type=TensorProto.UINT8,
        constants={"levels": 255.0},
    )
    after = folded(model, {"x": RANDOM.integers(0, 256, (2, 8, 8, 3), np.uint8)})
    assert ops(after) == ["Transpose", "Cast", "Conv"]


def test_a_picture_that_is_resized_first_is_normalized_in_the_convolution() -> None:
    resize = node("Resize", ["x", "", "", "size"], ["resized"], mode="linear")
    model = network(
        [
            resize,
            node("Sub", ["resized", "mean"], ["centred"]),
            node("Div", ["centred", "std"], ["normal"]),
            node("Conv", ["normal", "w", "b"], ["y"]),
        ],
        inputs={"x": (2, 3, 6, 5)},
        constants={"size": np.array([2, 3, 8, 8])},
    )
    after = folded(model, {"x": RANDOM.random((2, 3, 6, 5)).astype(np.float32)})
    assert ops(after) == ["Resize", "Conv"]


@pytest.mark.parametrize("padding", [{"pads": [1, 1, 1, 1]}, {"pads": [0, 0, 0, 1]}, {"auto_pad": "SAME_UPPER"}])
def test_a_shift_before_a_padded_convolution_is_left_alone(padding: dict[str, Any]) -> None:
    left_alone(network([*NORMALIZE, node("Conv", ["normal", "w", "b"], ["y"], **padding)]))


@pytest.mark.parametrize("padding", [{"pads": [1, 1, 1, 1]}, {"auto_pad": "SAME_LOWER"}])
def test_a_pure_scale_before_a_padded_convolution_is_folded(padding: dict[str, Any]) -> None:
    after = folded(network([node("Div", ["x", "std"], ["a"]), node("Conv", ["a", "w", "b"], ["y"], **padding)]))
    assert ops(after) == ["Conv"]


def test_shifts_that_cancel_before_a_padded_convolution_are_folded() -> None:
    chain = [node("Add", ["x", "two"], ["a"]), node("Mul", ["std", "a"], ["c"]), node("Sub", ["c", "back"], ["d"])]
    model = network([*chain, node("Conv", ["d", "w"], ["y"], pads=[1] * 4)], constants={"back": 2 * STD})
    assert ops(folded(model)) == ["Conv"]


def test_auto_pad_valid_is_no_padding() -> None:
    folded(network([*NORMALIZE, node("Conv", ["normal", "w"], ["y"], auto_pad="VALID")]))


def test_a_grouped_convolution_is_left_alone() -> None:
    weight = {"w": RANDOM.normal(size=(6, 1, 3, 3))}
    left_alone(network([*NORMALIZE, node("Conv", ["normal", "w"], ["y"], group=3)], constants=weight))


def test_a_tensor_of_the_chain_that_someone_else_reads_is_kept() -> None:
    nodes = [*NORMALIZE, node("Conv", ["normal", "w"], ["conv"]), node("Conv", ["centred", "w2"], ["other"])]
    model = network([*nodes, node("Add", ["conv", "other"], ["y"])], constants={"w2": WEIGHT})
    after = folded(model)
    assert ops(after) == ["Sub", "Conv", "Conv", "Add"]


@pytest.mark.parametrize("tensor", ["centred", "normal"])
def test_a_tensor_of_the_chain_that_the_graph_gives_out_is_kept(tensor: str) -> None:
    model = network([*NORMALIZE, node("Conv", ["normal", "w"], ["y"])], outputs=["y", tensor])
    assert "Sub" in ops(folded(model))


def test_two_convolutions_behind_one_chain_stay_right() -> None:
    nodes = [*NORMALIZE, node("Conv", ["normal", "w", "b"], ["y"]), node("Conv", ["normal", "w", "b"], ["z"])]
    after = folded(network(nodes, outputs=["y", "z"]))
    assert ops(after) == ["Sub", "Div", "Conv", "Conv"]


def test_weights_shared_with_another_convolution_are_not_changed_under_it() -> None:
    weight = RANDOM.normal(size=(3, 3, 3, 3))
    nodes = [*NORMALIZE, node("Conv", ["normal", "w"], ["first"]), node("Conv", ["first", "w"], ["y"])]
    after = folded(network(nodes, constants={"w": weight}))
    np.testing.assert_array_equal(weights(after)["w"], weight.astype(np.float32))


def test_channels_in_another_order_are_normalized_in_the_convolution() -> None:
    swap = node("Gather", ["x", "order"], ["bgr"], axis=1)
    nodes = [swap, node("Sub", ["bgr", "mean"], ["centred"]), node("Conv", ["centred", "w"], ["y"])]
    assert ops(folded(network(nodes, constants={"order": np.array([2, 1, 0])}))) == ["Gather", "Conv"]


def test_a_number_that_a_constant_node_gives_is_folded() -> None:
    number = node("Constant", [], ["number"], value=helper.make_tensor("number", TensorProto.FLOAT, [], [1 / 255]))
    model = network([number, node("Mul", ["x", "number"], ["unit"]), node("Conv", ["unit", "w"], ["y"], pads=[1] * 4)])
    assert ops(folded(model)) == ["Conv"]


def test_a_constant_used_twice_in_the_chain_is_used_twice() -> None:
    chain = [node("Sub", ["x", "std"], ["a"]), node("Div", ["a", "std"], ["c"])]
    assert ops(folded(network([*chain, node("Conv", ["c", "w"], ["y"])]))) == ["Conv"]


@pytest.mark.parametrize(
    ("name", "shape", "other"), [("w", (4, 3, 3, 3), -WEIGHT), ("b", (4,), -BIAS), ("mean", (3, 1, 1), -MEAN)]
)
def test_a_constant_that_the_caller_may_replace_is_left_alone(name: str, shape: Shape, other: Array) -> None:
    model = network([*NORMALIZE, node("Conv", ["normal", "w", "b"], ["y"])], inputs={"x": ("N", 3, 8, 8), name: shape})
    replaced = {**X, name: other.astype(np.float32)}
    assert not np.allclose(evaluate(model, replaced)[0], evaluate(model, X)[0])
    left_alone(model)


def test_weights_that_a_node_computes_are_left_alone() -> None:
    left_alone(network([*NORMALIZE, node("Neg", ["w"], ["nw"]), node("Conv", ["normal", "nw"], ["y"])]))


def test_a_bias_that_a_node_computes_is_left_alone() -> None:
    left_alone(network([*NORMALIZE, node("Neg", ["b"], ["nb"]), node("Conv", ["normal", "w", "nb"], ["y"])]))


@pytest.mark.parametrize("shape", [(8,), (3, 8, 8), (1, 1, 8), (2, 3, 1, 1)])
def test_a_constant_that_is_not_one_value_a_channel_is_left_alone(shape: tuple[int, ...]) -> None:
    nodes = [node("Sub", ["x", "picture"], ["a"]), node("Conv", ["a", "w"], ["y"])]
    left_alone(network(nodes, constants={"picture": RANDOM.random(shape)}))


def test_a_constant_that_makes_three_channels_of_one_is_left_alone() -> None:
    grey = {"x": ("N", 1, 8, 8)}
    left_alone(network([*NORMALIZE, node("Conv", ["normal", "w"], ["y"])], inputs=grey))


def test_one_constant_for_all_channels_of_a_grey_picture_is_folded() -> None:
    nodes = [node("Mul", ["x", "two"], ["a"]), node("Conv", ["a", "w"], ["y"])]
    model = network(nodes, inputs={"x": ("N", 1, 8, 8)}, constants={"w": RANDOM.normal(size=(2, 1, 3, 3))})
    folded(model, {"x": X["x"][:, :1]})


@pytest.mark.parametrize("rank", [1, 3])
def test_a_convolution_that_is_not_of_pictures_is_left_alone(rank: int) -> None:
    nodes = [node("Mul", ["x", "two"], ["a"]), node("Conv", ["a", "w"], ["y"])]
    weight = RANDOM.normal(size=(4, 3, *[2] * rank))
    left_alone(
        make_model(
            nodes,
            {"two": 2.0, "w": weight},
            inputs={"x": ("N", 3, *[8] * rank)},
            outputs={"y": ("N", 4, *["S"] * rank)},
        )
    )


def test_a_convolution_of_doubles_is_left_alone() -> None:
    nodes = [node("Mul", ["x", "two"], ["a"]), node("Conv", ["a", "w"], ["y"])]
    model = network(nodes, input_type=TensorProto.DOUBLE)
    for tensor in model.graph.initializer:
        values = weights(model)[tensor.name].astype(np.float64)
        tensor.data_type, tensor.raw_data = TensorProto.DOUBLE, values.tobytes()
    left_alone(model)


def test_an_affine_layer_further_in_is_not_taken_for_the_normalization() -> None:
    nodes = [*NORMALIZE, node("AveragePool", ["normal"], ["pool"], kernel_shape=[2, 2])]
    left_alone(network([*nodes, node("Mul", ["pool", "two"], ["a"]), node("Conv", ["a", "w"], ["y"])]))


def test_a_tensor_combined_with_itself_is_no_constant() -> None:
    left_alone(network([node("Mul", ["x", "x"], ["a"]), node("Conv", ["a", "w"], ["y"])]))


def test_a_constant_divided_by_the_picture_is_left_alone() -> None:
    left_alone(network([node("Div", ["two", "x"], ["a"]), node("Conv", ["a", "w"], ["y"])]))


def test_a_constant_divided_by_a_constant_is_left_alone() -> None:
    nodes = [node("Div", ["std", "mean"], ["a"]), node("Conv", ["a", "w1"], ["c"]), node("Add", ["x", "c"], ["y"])]
    left_alone(network(nodes, constants={"w1": RANDOM.normal(size=(1, 3, 1, 1))}))


def test_a_convolution_of_the_picture_itself_is_left_alone() -> None:
    left_alone(network([node("Conv", ["x", "w", "b"], ["y"])]))
