"""Layers that answer in float have float weights, the same numbers; the others are left in integers."""

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.targets.float_layers import dequantize_float_layers
from tests.graphs import evaluate, make_model, node

RANDOM = np.random.default_rng(0)
X = RANDOM.random((3, 4), np.float32)


def two_layers(weights: np.ndarray, scale: Any, zero_point: Any, axis: int, *, between: list[str]) -> onnx.ModelProto:
    """Return a Gemm whose answers are rounded, after ``between``, and one whose answers are the logits."""
    integers = {"w": weights, "ws": scale, "wz": zero_point, "s": np.float32(0.02), "z": np.uint8(9)}
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        node("DequantizeLinear", ["w", "ws", "wz"], ["w1"], axis=axis),
        node("DequantizeLinear", ["w", "ws", "wz"], ["w2"], axis=axis),
        node("Gemm", ["xd", "w1"], ["a0"], name="first"),
    ]
    last = "a0"
    for index, op in enumerate(between):
        nodes.append(node(op, [last], [f"a{index + 1}"]))
        last = f"a{index + 1}"
    nodes += [
        node("QuantizeLinear", [last, "s", "z"], ["hq"]),
        node("DequantizeLinear", ["hq", "s", "z"], ["h"]),
        node("Gemm", ["h", "w2"], ["y"], name="last"),
    ]
    return make_model(nodes, integers, inputs={"x": ("N", 4)})


def constants(model: bytes) -> dict[str, np.ndarray]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load_from_string(model).graph.initializer}


@given(st.integers(0, 2**32 - 1), st.sampled_from([np.int8, np.uint8]), st.sampled_from([0, 1, -1, None]))
def test_the_function_stays_bit_for_bit(seed: int, dtype: type, axis: int | None) -> None:
    random = np.random.default_rng(seed)
    limits = np.iinfo(dtype)
    size = () if axis is None else (4,)
    model = two_layers(
        random.integers(limits.min, limits.max, (4, 4), dtype, endpoint=True),
        random.uniform(1e-3, 0.1, size).astype(np.float32),
        random.integers(limits.min, limits.max, size, dtype, endpoint=True),
        1 if axis is None else axis,
        between=[],
    )
    written = dequantize_float_layers(model.SerializeToString())
    after = onnx.load_from_string(written)
    assert "w2" in constants(written)
    np.testing.assert_array_equal(evaluate(after, {"x": X})[0], evaluate(model, {"x": X})[0])


@pytest.mark.parametrize("between", [[], ["Relu"], ["Relu", "Relu"]])
def test_only_the_layer_that_answers_in_float_is_written_anew(between: list[str]) -> None:
    model = two_layers(np.ones((4, 4), np.int8), np.float32(0.1), np.int8(0), 1, between=between)
    after = onnx.load_from_string(dequantize_float_layers(model.SerializeToString()))
    kept = [each for each in after.graph.node if each.op_type == "DequantizeLinear"]
    assert [each.output[0] for each in kept] == ["xd", "w1", "h"]


def test_a_layer_whose_answers_are_also_read_in_float_is_one_in_float() -> None:
    model = two_layers(np.ones((4, 4), np.int8), np.float32(0.1), np.int8(0), 1, between=["Sigmoid"])
    written = dequantize_float_layers(model.SerializeToString())
    assert {"w1", "w2"} <= constants(written).keys()
    assert "w" not in constants(written), "nobody reads it any more"


def test_a_model_in_float_stays() -> None:
    model = make_model([node("Relu", ["x"], ["y"])], {}, inputs={"x": ("N", 4)})
    assert onnx.load_from_string(dequantize_float_layers(model.SerializeToString())) == model
