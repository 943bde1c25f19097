"""Rounding in float is rounding to integers, for every type, scale and zero point."""

from typing import Any

import numpy as np
import onnx
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
