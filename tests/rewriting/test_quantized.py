"""A layer between integers is told from all others, as ONNX Runtime tells it."""

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edgecnn.rewriting.editor import Editor
from edgecnn.rewriting.quantized import (
    QuantizedLayer,
    add_quantized_constant,
    has_signed_symmetric_weights,
    quantized_constant,
    quantized_layer,
    rounding_clips_as_much,
)
from tests.qdq_nets import QdqNet, session


def net(**how: Any) -> QdqNet:
    made = QdqNet((3, 6, 8), seed=1, dtype=how.pop("dtype", np.uint8))
    made.conv(4, **how)
    return made


def find(made: QdqNet) -> tuple[Editor, QuantizedLayer | None]:
    editor = Editor(made.model())
    conv = next(one for one in editor.nodes if one.op_type == "Conv")
    return editor, quantized_layer(editor, conv)


def layer(made: QdqNet) -> QuantizedLayer:
    found = find(made)[1]
    assert found is not None
    return found


def test_a_layer_knows_what_it_reads_and_gives() -> None:
    made = net(activation="Relu")
    found = layer(made)
    assert (found.source, found.result, found.node.name) == ("x_q", made.integers, "conv1")
    assert found.activation is not None
    assert found.bias is not None
    np.testing.assert_array_equal(found.weight.values, made.constants["conv1_w"])
    np.testing.assert_array_equal(found.weight.scale, made.constants["conv1_w_scale"])
    plain = layer(net(bias=False))
    assert (plain.bias, plain.activation) == (None, None)


@pytest.mark.parametrize(
    ("weights", "zero_point", "symmetric"),
    [(np.int8, 0, True), (np.int8, 1, False), (np.uint8, 0, False), (np.uint8, 128, False)],
)
def test_weights_are_signed_and_symmetric_or_not(weights: Any, zero_point: int, symmetric: bool) -> None:
    values = np.ones((4, 3, 3, 3), weights)
    found = layer(net(values=values, per_channel=False, weight_zero_point=weights(zero_point)))
    assert has_signed_symmetric_weights(found) is symmetric


def test_weights_without_a_zero_point_are_symmetric() -> None:
    made = net()
    next(one for one in made.nodes if one.output[0] == "conv1_w_dq").input.pop()
    assert has_signed_symmetric_weights(layer(made))


def change(made: QdqNet, output: str, place: int, name: str) -> QdqNet:
    """Let a node read another tensor."""
    next(one for one in made.nodes if one.output[0] == output).input[place] = name
    return made


def without_zero_point(made: QdqNet, output: str) -> QdqNet:
    next(one for one in made.nodes if one.output[0] == output).input.pop()
    return made


def per_channel(made: QdqNet, tensor: str, channels: int) -> QdqNet:
    """Give a tensor a scale and a zero point for each channel."""
    made.constants |= {
        f"{tensor}_scale": np.ones(channels, np.float32),
        f"{tensor}_zero_point": np.zeros(channels, "u1"),
    }
    return made


def with_computed_scale(made: QdqNet) -> QdqNet:
    made.nodes.insert(0, onnx.helper.make_node("Identity", ["conv1_scale"], ["computed"]))
    return change(made, "conv1_q", 1, "computed")


def with_float_weights(made: QdqNet) -> QdqNet:
    made.constants["float"] = np.ones((4, 3, 3, 3), np.float32)
    return change(made, "conv1", 1, "float")


@pytest.mark.parametrize(
    "made",
    [
        change(net(), "conv1", 0, "x"),
        without_zero_point(net(), "conv1_q"),
        without_zero_point(net(), "x_q_dq1"),
        per_channel(net(), "x", 3),
        per_channel(net(), "conv1", 4),
        with_float_weights(net()),
        with_computed_scale(net()),
    ],
    ids=[
        "in",
        "no zero point behind",
        "no zero point before",
        "a scale for each in",
        "for each out",
        "weights",
        "scale",
    ],
)
def test_a_layer_of_which_some_is_float_is_none(made: QdqNet) -> None:
    assert find(made)[1] is None


def test_scales_along_another_axis_than_the_outputs_are_none() -> None:
    made = net(values=np.ones((3, 3, 3, 3), np.int8), per_channel=False)
    reader = next(one for one in made.nodes if one.output[0] == "conv1_w_dq")
    for scale, axis, known in ((np.ones(3), 0, True), (np.ones(3), 1, False), (np.ones(1), 1, True)):
        made.constants |= {
            "conv1_w_scale": scale.astype(np.float32),
            "conv1_w_zero_point": np.zeros(scale.shape, np.int8),
        }
        reader.ClearField("attribute")
        reader.attribute.append(onnx.helper.make_attribute("axis", axis))
        assert (quantized_constant(Editor(made.model(answer=("N", 3, 4, 6))), "conv1_w_dq") is not None) is known


@pytest.mark.parametrize("place", [0, 1, 2])
def test_integers_of_which_some_is_computed_are_none(place: int) -> None:
    made = net(per_channel=False)
    name = next(one for one in made.nodes if one.output[0] == "conv1_w_dq").input[place]
    made.nodes.insert(0, onnx.helper.make_node("Identity", [name], ["computed"]))
    assert quantized_constant(Editor(change(made, "conv1_w_dq", place, "computed").model()), "conv1_w_dq") is None


def test_what_is_made_by_another_operator_is_none() -> None:
    made = net()
    made.nodes.append(onnx.helper.make_node("Mul", ["conv1_b_scale", "conv1_w_scale"], ["product"]))
    made.nodes.append(onnx.helper.make_node("Relu", ["product"], ["unread"]))
    assert quantized_constant(Editor(made.model()), "product") is None
    assert quantized_constant(Editor(made.model()), "nowhere") is None


def test_a_bias_scaled_in_blocks_is_none() -> None:
    made = net()
    made.constants |= {"conv1_b_scale": np.ones(2, np.float32), "conv1_b_zero_point": np.zeros(2, np.int32)}
    reader = next(one for one in made.nodes if one.output[0] == "conv1_b_dq")
    reader.attribute.append(onnx.helper.make_attribute("block_size", 2))
    editor = Editor(made.model(opset=21))
    assert quantized_constant(editor, "conv1_b_dq") is None
    assert quantized_constant(editor, "conv1_w_dq") is not None


@pytest.mark.parametrize("opset", [13, 21])
def test_a_constant_that_is_added_reads_as_the_one_it_was_made_of(opset: int) -> None:
    made = net()
    editor = Editor(made.model(opset=opset))
    given = quantized_constant(editor, "conv1_w_dq")
    assert given is not None
    found = quantized_constant(editor, add_quantized_constant(editor, "copy", given))
    assert found is not None
    for field in ("values", "scale", "zero_point"):
        np.testing.assert_array_equal(getattr(found, field), getattr(given, field), strict=True)


def has_integer_kernel(made: QdqNet, folder: Any) -> bool:
    path = folder / "optimized.onnx"
    session(made.model().SerializeToString(), optimized_to=str(path))
    return any(one.op_type == "QLinearConv" for one in onnx.load(path).graph.node)


@settings(max_examples=40)
@given(
    dtype=st.sampled_from([np.uint8, np.int8]),
    zero=st.integers(0, 255),
    low=st.one_of(st.floats(-2, 2), st.just(-1e9), st.floats(-300, 300)),
    high=st.one_of(st.floats(-2, 2), st.just(1e9), st.floats(-300, 300)),
)
@example(dtype=np.uint8, zero=0, low=0.0, high=0.0)  # Clip(0, 6) as quantizers leave it
@example(dtype=np.int8, zero=0, low=0.2, high=-0.2)
@example(dtype=np.uint8, zero=7, low=0.7, high=0.0)
@example(dtype=np.uint8, zero=7, low=0.0, high=-0.7)
def test_an_activation_is_said_to_be_replaced_only_where_onnxruntime_takes_it_away(
    tmp_path_factory: pytest.TempPathFactory, dtype: Any, zero: int, low: float, high: float
) -> None:
    """Bounds are in steps from the ends of the integers."""
    limits = np.iinfo(dtype)
    zero += int(limits.min)
    made = net(dtype=dtype, activation="Clip", zero_point=zero)
    scale = float(made.scale)
    bounds = (scale * (limits.min - zero + low), scale * (limits.max - zero + high))
    made.constants |= {"conv1_low": np.float32(bounds[0]), "conv1_high": np.float32(bounds[1])}
    editor, found = find(made)
    assert found is not None
    said = rounding_clips_as_much(editor, found)
    assert said == (low <= 0.25 and high >= -0.25) or min(abs(low - 0.25), abs(high + 0.25)) < 1e-3
    if said:
        assert has_integer_kernel(made, tmp_path_factory.mktemp("optimized"))


@pytest.mark.parametrize(("zero_point", "replaced"), [(-128, True), (-127, False), (0, False)])
def test_a_relu_is_replaced_if_the_integers_begin_at_zero(zero_point: int, replaced: bool, tmp_path: Any) -> None:
    made = net(dtype=np.int8, activation="Relu", zero_point=zero_point)
    editor, found = find(made)
    assert found is not None
    assert rounding_clips_as_much(editor, found) is replaced
    assert has_integer_kernel(made, tmp_path) is replaced


@pytest.mark.parametrize(
    ("attributes", "replaced"),
    [({}, True), ({"min": 0.0}, False), ({"max": 1.0}, False), ({"min": -1e9, "max": 1e9}, True)],
)
def test_a_clip_of_old_opsets_has_its_bounds_in_attributes(attributes: dict[str, float], replaced: bool) -> None:
    made = net(activation="Clip", zero_point=9, per_channel=False)
    clip = next(one for one in made.nodes if one.op_type == "Clip")
    del clip.input[1:]
    clip.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in attributes.items())
    editor = Editor(made.model(opset=10))
    found = quantized_layer(editor, next(one for one in editor.nodes if one.op_type == "Conv"))
    assert found is not None
    assert rounding_clips_as_much(editor, found) is replaced


def test_a_bound_that_is_computed_is_not_relied_upon() -> None:
    made = net(activation="Clip", zero_point=9)
    made.constants |= {"conv1_low": np.float32(-1e9), "conv1_high": np.float32(1e9)}
    clip = next(one for one in made.nodes if one.op_type == "Clip")
    made.nodes.insert(0, onnx.helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0))
    clip.input[2] = "largest"
    editor, found = find(made)
    assert found is not None
    assert not rounding_clips_as_much(editor, found)
