"""What each operator does to a factor: passed on with the same bits in the end, or stopped with a reason."""

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import ArrayLike
from onnx import NodeProto

from edgecnn.quantization.equalization import ChannelRange, equalize
from edgecnn.quantization.scale_rules import RULES
from tests.graphs import Array, evaluate, node, weights
from tests.unbalanced import CHANNELS, X, require_same_function, require_untouched, sandwich

Constants = dict[str, ArrayLike]


def one(op: str, *constants: str, **attributes: Any) -> list[NodeProto]:
    return [node(op, ["a", *constants], ["b"], name="middle", **attributes)]


def whole(*values: int) -> Array:
    return np.array(values, np.int64)


SLOPES = np.array([0.1, -0.3, 0.25, 2.0]).reshape(4, 1, 1)
#: Name, nodes from ``a`` to ``b``, their constants.
PASSING: list[tuple[str, list[NodeProto], Constants]] = [
    ("Relu", one("Relu"), {}),
    ("LeakyRelu", one("LeakyRelu", alpha=0.3), {}),
    ("PRelu with a slope a channel", one("PRelu", "slope"), {"slope": SLOPES}),
    ("PRelu with one slope", one("PRelu", "slope"), {"slope": np.array([0.2])}),
    ("Abs", one("Abs"), {}),
    ("Neg", one("Neg"), {}),
    ("Identity", one("Identity"), {}),
    ("Dropout", one("Dropout"), {}),
    ("BatchNormalization", one("BatchNormalization", "gain", "shift", "mean", "variance", epsilon=1e-3),
     {"gain": np.array([1.5, -0.3, 1, 2]), "shift": np.array([0.5, 3, -1, 0.1]), "mean": np.array([9.0, 0.1, 1, -2]),
      "variance": np.array([4.0, 0.5, 1, 100])}),
    ("Clip that is a Relu", one("Clip", "zero"), {"zero": np.array(0.0)}),
    ("MaxPool", one("MaxPool", kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2]), {}),
    ("MaxPool that tells places", [node("MaxPool", ["a"], ["b", "places"], kernel_shape=[2, 2])], {}),
    ("AveragePool", one("AveragePool", kernel_shape=[2, 2], strides=[2, 2]), {}),
    ("AveragePool over padding", one("AveragePool", kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1), {}),
    ("LpPool", one("LpPool", kernel_shape=[2, 2]), {}),
    ("GlobalAveragePool", one("GlobalAveragePool"), {}),
    ("GlobalMaxPool", one("GlobalMaxPool"), {}),
    ("Resize", one("Resize", "", "sizes", mode="linear"), {"sizes": np.array([1, 1, 2, 2], np.float32)}),
    ("Max with zero", one("Max", "zero"), {"zero": np.array(0.0)}),
    ("Mul by a constant", one("Mul", "slope"), {"slope": SLOPES}),
    ("Div by a constant", one("Div", "slope"), {"slope": SLOPES}),
    ("Mul of a constant", [node("Mul", ["slope", "a"], ["b"])], {"slope": SLOPES}),
    ("Add of a constant a channel", one("Add", "slope"), {"slope": SLOPES}),
    ("Add of one constant", one("Add", "one"), {"one": np.array(1.0)}),
    ("Sub from a constant", [node("Sub", ["slope", "a"], ["b"])], {"slope": SLOPES}),
]  # fmt: skip
each_passing = pytest.mark.parametrize(
    ("nodes", "constants"), [row[1:] for row in PASSING], ids=[r[0] for r in PASSING]
)


@each_passing
def test_a_factor_passes_and_the_function_keeps_its_bits(nodes: list[NodeProto], constants: Constants) -> None:
    model = sandwich(nodes, constants)
    result = equalize(model)
    (group,) = result.groups
    assert (group.producers, group.consumers, group.n_channels) == (("first",), ("last",), CHANNELS)
    assert group.scale_high > 16 * group.scale_low
    assert (weights(result.model)["last_w"] != weights(model)["last_w"]).any()
    require_same_function(model, result.model)


#: Name, nodes, constants, and what the record says.
STOPPING: list[tuple[str, list[NodeProto], Constants, str]] = [
    ("Sigmoid", one("Sigmoid"), {}, "Sigmoid middle does not keep a factor"),
    ("HardSwish", one("HardSwish"), {}, "HardSwish middle does not keep a factor"),
    ("Elu", one("Elu"), {}, "Elu middle does not keep a factor"),
    ("Softmax", one("Softmax", axis=1), {}, "Softmax middle does not keep a factor"),
    ("Clip to 6", one("Clip", "zero", "six"), {"zero": np.array(0.0), "six": np.array(6.0)}, "[0, 6], and no ranges"),
    ("Max with one", one("Max", "one"), {"one": np.array(1.0)}, "compares with a constant other than 0"),
    ("Mul of two activations", [node("Neg", ["a"], ["n"]), node("Mul", ["a", "n"], ["b"])], {}, "multiplies two"),
    ("Div by an activation", [node("Abs", ["a"], ["n"]), node("Div", ["a", "n"], ["b"])], {}, "Div make_b multiplies"),
    ("Div of a constant", [node("Div", ["one", "a"], ["b"])], {"one": np.array(1.0)}, "divides by what depends"),
    ("PRelu with a computed slope", [node("Sigmoid", ["x"], ["s"]), node("ReduceMean", ["s"], ["m"]),
                                     node("PRelu", ["a", "m"], ["b"], name="middle")],
     {}, "PRelu middle has parameters"),
    ("Clip from below", one("Clip", "low"), {"low": np.array(-1.0)}, "clips to [-1, inf], and no ranges tell"),
    ("Clip with computed bounds", [node("ReduceMax", ["x"], ["m"], keepdims=0), node("Clip", ["a", "", "m"], ["b"])],
     {}, "Clip make_b has bounds that are computed"),
    ("Resize that fills in", one("Resize", "roi", "sizes", mode="linear",
                                 coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=1.0),
     {"roi": np.array([0, 0, -0.5, -0.5, 1, 1, 1.5, 1.5], np.float32), "sizes": np.array([1, 1, 2, 2], np.float32)},
     "Resize middle may fill in a constant"),
    ("Resize of the channels", [node("Resize", ["a", "", "more"], ["r"], mode="nearest", name="middle"),
                                node("Slice", ["r", "start", "end", "start"], ["s"]),
                                node("Split", ["r"], ["b", "rest"], axis=1, num_outputs=2)],
     {"more": np.array([1, 2, 1, 1], np.float32), "start": whole(1), "end": whole(4)}, "Resize middle mixes"),
    ("Cast", [node("Cast", ["a"], ["d"], to=11), node("Cast", ["d"], ["b"], to=1)], {}, "Cast make_d does not keep"),
]  # fmt: skip
each_stopping = pytest.mark.parametrize(
    ("nodes", "constants", "words"), [row[1:] for row in STOPPING], ids=[row[0] for row in STOPPING]
)


@each_stopping
def test_a_barrier_leaves_everything_as_it_was_and_says_why(
    nodes: list[NodeProto], constants: Constants, words: str
) -> None:
    model = sandwich(nodes, constants)
    result = equalize(model)
    require_untouched(model, result)
    (first,) = (record for record in result.unscaled if record.layer == "first")
    assert first.n_channels == CHANNELS
    assert words in first.reason


def fixed_batch(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    return model


def test_a_constant_whose_slope_is_an_activation_is_a_barrier() -> None:
    model = sandwich([node("PRelu", ["fixed", "a"], ["b"], name="middle")], {"fixed": -np.ones((1, CHANNELS, 8, 8))})
    result = equalize(fixed_batch(model, 1))
    require_untouched(model, result)
    assert "PRelu middle has parameters that depend on the image" in result.unscaled[0].reason


def test_a_gemm_that_transposes_its_input_is_no_layer() -> None:
    model = sandwich(
        [node("GlobalAveragePool", ["a"], ["g"]), node("Flatten", ["g"], ["b"])], last="Gemm", read=CHANNELS
    )
    model.graph.node[-1].attribute.append(onnx.helper.make_attribute("transA", 1))
    result = equalize(fixed_batch(model, CHANNELS))  # as many images as channels, so that the shapes fit
    require_untouched(model, result)
    assert "Gemm last is not a layer" in result.unscaled[0].reason


def test_what_the_rules_call_passing_is_all_tested() -> None:
    shapes = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Concat", "Split", "Slice", "Pad"}
    reductions = {name for name in RULES if name.startswith("Reduce")}
    here = {one.op_type for _, nodes, _ in PASSING for one in nodes}
    elsewhere = {"Conv", "ConvTranspose", "Gemm", "MatMul", "Sum", "Min", "GlobalLpPool", "Upsample"}
    assert set(RULES) == here | shapes | reductions | elsewhere


@pytest.mark.parametrize("op", ["Add", "Sub", "Sum", "Max", "Min"])
def test_what_is_added_or_compared_shares_a_scale(op: str) -> None:
    random = np.random.default_rng(0)
    model = sandwich(
        [node("Relu", ["a"], ["r"]), node("Conv", ["x", "side_w"], ["s"], name="side"), node(op, ["r", "s"], ["b"])],
        {"side_w": random.normal(size=(CHANNELS, 3, 1, 1))},
    )
    result = equalize(model)
    (group,) = result.groups
    assert (group.producers, group.consumers) == (("first", "side"), ("last",))
    require_same_function(model, result.model)


def test_a_sum_with_what_cannot_be_scaled_cannot_be_scaled() -> None:
    model = sandwich([node("Sigmoid", ["a"], ["s"]), node("Conv", ["x", "w"], ["c"], name="side"),
                      node("Add", ["s", "c"], ["b"])], {"w": np.ones((CHANNELS, 3, 1, 1))})  # fmt: skip
    result = equalize(model)
    require_untouched(model, result)
    assert {(record.layer, record.reason) for record in result.unscaled if record.layer == "side"} == {
        ("side", "Sigmoid make_s does not keep a factor of its input")
    }


def gated() -> onnx.ModelProto:
    """Return Conv, a squeeze-and-excitation gate, and another Conv."""
    random = np.random.default_rng(0)
    return sandwich(
        [
            node("Relu", ["a"], ["r"]),
            node("GlobalAveragePool", ["r"], ["mean"]),
            node("Conv", ["mean", "down_w"], ["down"], name="down"),
            node("Relu", ["down"], ["inner"]),
            node("Conv", ["inner", "up_w"], ["up"], name="up"),
            node("HardSigmoid", ["up"], ["gate"]),
            node("Mul", ["r", "gate"], ["b"]),
        ],
        {"down_w": random.normal(size=(2, CHANNELS, 1, 1)) * [[[[9.0]]], [[[0.1]]]],
         "up_w": random.normal(size=(CHANNELS, 2, 1, 1))},
    )  # fmt: skip


def test_what_a_gate_multiplies_is_scaled_and_the_gate_is_not() -> None:
    result = equalize(gated())
    sides = {(group.producers, group.consumers) for group in result.groups}
    assert sides == {(("first",), ("down", "last")), (("down",), ("up",))}
    assert [record.layer for record in result.unscaled] == ["up", "last"]
    assert "HardSigmoid" in result.unscaled[0].reason
    require_same_function(gated(), result.model)


def test_the_gate_may_stand_first() -> None:
    model = gated()
    model.graph.node[-2].input[:] = ["gate", "r"]
    result = equalize(model)
    assert (("first",), ("down", "last")) in {(group.producers, group.consumers) for group in result.groups}
    require_same_function(model, result.model)


CLIP = one("Clip", "zero", "six")
BOUNDS: Constants = {"zero": np.array(0.0), "six": np.array(6.0)}


def seen(model: onnx.ModelProto, x: Array) -> ChannelRange:
    """Return the range of each channel of ``a``."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("a", 1, ["N", CHANNELS, 8, 8]))
    (values,) = evaluate(watched, {"x": x})
    return ChannelRange(low=values.min((0, 2, 3)), high=values.max((0, 2, 3)))


def test_a_relu6_that_nothing_reaches_is_passed_and_still_is_not_reached() -> None:
    model, x = sandwich(CLIP, BOUNDS), (X / 8).astype(np.float32)
    ranges = seen(model, x)
    reached = ranges.high >= 6
    assert 0 < reached.sum() < CHANNELS  # one channel is clipped, others have room
    result = equalize(model, ranges={"a": ranges})
    (group,) = result.groups
    assert group.n_channels == CHANNELS - reached.sum()
    assert group.scale_high > 1
    assert any(record.layer == "first" and record.reason == "Clip middle clips it" for record in result.unscaled)
    np.testing.assert_array_equal(evaluate(result.model, {"x": x})[0], evaluate(model, {"x": x})[0])
    after = seen(result.model, x)
    assert (after.high[~reached] <= 6).all()
    np.testing.assert_array_equal(after.high[reached], ranges.high[reached])


def test_the_room_under_a_clip_bounds_the_scale() -> None:
    model = sandwich(CLIP, BOUNDS)
    free = equalize(sandwich(one("Relu"))).groups[0]
    tight = ChannelRange(low=np.zeros(CHANNELS), high=np.full(CHANNELS, 3.5))  # only a factor of 1 is left, in powers
    result = equalize(model, ranges={"a": tight})
    assert free.scale_high > 1
    assert result.groups[0].scale_high == 1


def test_a_lower_bound_counts_as_well() -> None:
    model = sandwich(one("Clip", "low", "six"), {"low": np.array(-6.0), "six": np.array(6.0)})
    below = ChannelRange(low=np.array([-7.0, 0, 0, 0]), high=np.full(CHANNELS, 1e-3))
    result = equalize(model, ranges={"a": below})
    assert result.groups[0].n_channels == CHANNELS - 1


def test_a_clip_that_no_zero_comes_through_is_always_met() -> None:
    model = sandwich(one("Clip", "low", "six"), {"low": np.array(1.0), "six": np.array(6.0)})
    result = equalize(model, ranges={"a": ChannelRange(low=np.full(CHANNELS, 2.0), high=np.full(CHANNELS, 3.0))})
    require_untouched(model, result)
    assert result.unscaled[0].reason == "Clip middle clips it"


def test_ranges_of_another_number_of_channels_are_of_no_use() -> None:
    model = sandwich(CLIP, BOUNDS)
    result = equalize(model, ranges={"a": ChannelRange(low=np.zeros(1), high=np.zeros(1))})
    require_untouched(model, result)
    assert "clips what is not one range a channel" in result.unscaled[0].reason


def test_bounds_may_be_attributes_as_they_were_before_opset_11() -> None:
    largest = float(np.finfo(np.float32).max)
    relu = sandwich(one("Clip", min=0.0, max=largest), opset=10)
    assert equalize(relu).groups[0].n_channels == CHANNELS
    require_same_function(relu, equalize(relu).model)
    relu6 = sandwich(one("Clip", min=0.0, max=6.0), opset=10)
    assert "clips to [0, 6]" in equalize(relu6).unscaled[0].reason


def test_a_range_of_another_tensor_says_nothing() -> None:
    model = sandwich(CLIP, BOUNDS)
    result = equalize(model, ranges={"b": ChannelRange(low=np.zeros(CHANNELS), high=np.zeros(CHANNELS))})
    require_untouched(model, result)


@pytest.mark.parametrize("last", ["Gemm", "MatMul"])
def test_fully_connected_layers_take_up_scales_feature_by_feature(last: str) -> None:
    model = sandwich([node("Relu", ["a"], ["r"]), node("Flatten", ["r"], ["b"])], read=CHANNELS * 64, last=last)
    result = equalize(model)
    assert (result.groups[0].consumers, result.groups[0].n_channels) == (("last",), CHANNELS)
    require_same_function(model, result.model)


def test_weights_that_are_computed_are_left_alone() -> None:
    model = sandwich([node("Neg", ["other"], ["w"]), node("Conv", ["a", "w"], ["b"], name="second")],
                     {"other": np.ones((CHANNELS, CHANNELS, 1, 1))})  # fmt: skip
    result = equalize(model)
    assert "Conv second has weights that are computed" in result.unscaled[0].reason
    require_same_function(model, result.model)


def test_batch_norm_that_is_being_trained_is_a_barrier() -> None:
    parameters = {name: np.ones(CHANNELS) for name in ("g", "s", "m", "v")}
    training = node("BatchNormalization", ["a", "g", "s", "m", "v"], ["b", "mean", "variance"], training_mode=1)
    model = sandwich([training], parameters)
    result = equalize(model)
    require_untouched(model, result)
    assert "BatchNormalization make_b is not that of inference" in result.unscaled[0].reason


def test_weights_that_a_caller_may_set_are_left_alone() -> None:
    model = sandwich(one("Relu"))
    model.graph.input.append(onnx.helper.make_tensor_value_info("last_w", 1, [5, CHANNELS, 1, 1]))
    result = equalize(model)
    require_untouched(model, result)
    assert "may be set by a caller" in result.unscaled[0].reason


def test_operators_of_other_domains_are_barriers() -> None:
    model = sandwich([node("Relu", ["a"], ["b"], domain="com.example")])
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("b", 1, [1, CHANNELS, 8, 8]))
    assert "Relu make_b does not keep a factor" in equalize(model).unscaled[0].reason
