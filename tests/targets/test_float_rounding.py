"""Rounding in float is rounding to integers, for every type, scale and zero point."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from edgecnn.targets.float_rounding import round_in_float
from tests.graphs import make_model, node

TYPES = (np.uint8, np.int8, np.uint16, np.int16)


def quantized(x: np.ndarray, scale: np.float32, zero_point: Any) -> np.ndarray:
    """Quantize and dequantize, by the operators' definition."""
    limits = np.iinfo(zero_point.dtype)
    integers = np.clip(np.rint(x / scale).astype(np.int64) + int(zero_point), limits.min, limits.max)
    return (integers - int(zero_point)).astype(np.float32) * scale


def pair(scale: Any, zero_point: Any, *more: onnx.NodeProto) -> onnx.ModelProto:
    return make_model(
        [
            node("QuantizeLinear", ["x", "scale", "zero_point"], ["q"]),
            node("DequantizeLinear", ["q", "scale", "zero_point"], ["y"]),
            *more,
        ],
        {"scale": scale, "zero_point": zero_point},
        inputs={"x": ("N", 4)},
        opset=21,
    )


def operators(model: bytes) -> list[str]:
    return [each.op_type for each in onnx.load_from_string(model).graph.node]


@given(
    st.sampled_from(TYPES),
    st.floats(2**-13, 1024, width=32),
    st.lists(st.floats(-(2**20), 2**20, width=32), min_size=4, max_size=4),
    st.data(),
)
def test_the_numbers_are_those_of_integers(dtype: Any, scale: float, values: list[float], data: st.DataObject) -> None:
    limits = np.iinfo(dtype)
    zero_point = np.asarray(data.draw(st.integers(int(limits.min), int(limits.max))), dtype)
    step = np.float32(scale)
    halves = (np.float32(0.5) + np.arange(4, dtype=np.float32)) * step
    x = np.stack([np.array(values, np.float32), halves])
    written = round_in_float(pair(np.asarray(step), zero_point).SerializeToString())
    assert operators(written) == ["Div", "Clip", "Add", "Sub", "Mul"]
    (found,) = ReferenceEvaluator(onnx.load_from_string(written)).run(None, {"x": x})
    np.testing.assert_array_equal(found, quantized(x, step, zero_point))


def pooled(*, end_zero_point: Any, more: Sequence[onnx.NodeProto] = ()) -> bytes:
    """Return a rounding whose integers are laid out anew, pooled and read twice before they are float again."""
    nodes = [
        node("QuantizeLinear", ["x", "scale", "zero_point"], ["q"]),
        node("Transpose", ["q"], ["last"], perm=[0, 2, 3, 1]),
        node("Reshape", ["last", "shape"], ["viewed"]),
        node("Transpose", ["viewed"], ["first"], perm=[0, 3, 1, 2]),
        node("MaxPool", ["first"], ["pool"], kernel_shape=[2, 2], strides=[2, 2], pads=[1, 1, 0, 0]),
        node("Flatten", ["pool"], ["flat"]),
        node("DequantizeLinear", ["flat", "scale", "end_zero_point"], ["a"]),
        node("DequantizeLinear", ["flat", "end_scale", "zero_point"], ["b"]),
        node("Add", ["a", "b"], ["y"]),
        *more,
    ]
    numbers: dict[str, Any] = {
        "scale": np.float32(0.05),
        "end_scale": np.float32(0.25),
        "shape": np.array([0, 4, 8, -1]),
    }
    return make_model(
        nodes, {**numbers, "zero_point": np.uint8(100), "end_zero_point": end_zero_point}
    ).SerializeToString()


def answer(model: bytes, x: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    (found,) = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(["y"], {"x": x})
    assert isinstance(found, np.ndarray)
    return found


def test_integers_may_be_laid_out_anew_and_pooled_before_they_are_float_again() -> None:
    before = pooled(end_zero_point=np.uint8(100))
    after = round_in_float(before)
    layout = ["Transpose", "Reshape", "Transpose", "MaxPool", "Flatten"]
    assert operators(after) == ["Div", "Clip", "Add", "Sub", *layout, "Mul", "Mul", "Add"]
    # uint8 reaches from -5 to 7.75 here: both ends are met, and padding must be no number of them
    x = np.random.default_rng(0).normal(0, 5, (3, 3, 8, 8)).astype(np.float32)
    np.testing.assert_array_equal(answer(after, x), answer(before, x))


@pytest.mark.parametrize(
    ("end_zero_point", "more"),
    [
        (np.uint8(99), ()),
        (np.uint8(100), (node("Cast", ["viewed"], ["z"], to=1),)),
        (np.uint8(100), (node("Gather", ["x", "flat"], ["z"]),)),
    ],
    ids=["another zero point", "read as integers in between", "read as indices"],
)
def test_integers_that_more_than_their_scale_depends_on_stay(
    end_zero_point: Any, more: Sequence[onnx.NodeProto]
) -> None:
    before = pooled(end_zero_point=end_zero_point, more=more)
    assert round_in_float(before) == before


def test_integers_that_the_model_answers_stay() -> None:
    before = onnx.load_from_string(pooled(end_zero_point=np.uint8(100)))
    before.graph.output.append(onnx.helper.make_tensor_value_info("pool", onnx.TensorProto.UINT8, None))
    assert "QuantizeLinear" in operators(round_in_float(before.SerializeToString()))


def test_what_the_file_says_of_the_integers_is_not_said_of_the_float_in_their_place() -> None:
    told = onnx.shape_inference.infer_shapes(onnx.load_from_string(pooled(end_zero_point=np.uint8(100))))
    assert {value.name for value in told.graph.value_info} > {"q", "pool"}
    x = np.random.default_rng(0).random((1, 3, 8, 8), np.float32)
    before = told.SerializeToString()
    np.testing.assert_array_equal(answer(round_in_float(before), x), answer(before, x))


def test_constants_that_nobody_reads_any_more_are_gone() -> None:
    written = onnx.load_from_string(round_in_float(pair(np.float32(0.5), np.uint8(3)).SerializeToString()))
    assert {tensor.name for tensor in written.graph.initializer} == {"scale", "q_low", "q_high", "q_magic"}
    bounds = {t.name: numpy_helper.to_array(t).item() for t in written.graph.initializer}
    assert (bounds["q_low"], bounds["q_high"]) == (-3, 252)


def test_integers_that_something_else_reads_stay() -> None:
    before = pair(np.float32(0.5), np.uint8(3), node("Cast", ["q"], ["z"], to=1)).SerializeToString()
    assert operators(round_in_float(before)) == ["QuantizeLinear", "DequantizeLinear", "Cast"]


@pytest.mark.parametrize("scale", [np.full(4, 0.5, np.float32)])
def test_a_scale_for_each_channel_stays(scale: np.ndarray) -> None:
    before = pair(scale, np.zeros(4, np.uint8)).SerializeToString()
    assert operators(round_in_float(before)) == ["QuantizeLinear", "DequantizeLinear"]
