"""Bytes go into the first integer layer as they are, if each of the 256 comes out as itself."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto

from tests.graphs import node
from tests.qdq_nets import Output, answers, finished
from tests.rewrites import applied, apply, ops, refusals

BYTES = np.arange(256, dtype=np.uint8)
BY_255 = [("Div", 255.0)]


def pixels(
    steps: Sequence[tuple[str, Any]] = BY_255,
    *,
    scale: float = 1 / 255,
    zero_point: Any = 0,
    input_type: int = TensorProto.UINT8,
    integers: bool = False,
) -> ModelProto:
    """Return a model that casts bytes, computes with numbers, quantizes and reads the integers."""
    nodes, last = [node("Cast", ["x"], ["cast"], name="cast", to=TensorProto.FLOAT)], "cast"
    constants: dict[str, Any] = {"scale": np.float32(scale), "zero": np.asarray(zero_point)}
    constants["zero"] = constants["zero"].astype(np.uint8) if constants["zero"].dtype == np.int64 else constants["zero"]
    for index, (op, number) in enumerate(steps):
        constants[f"c{index}"] = np.asarray(number, np.float32)
        nodes.append(node(op, [last, f"c{index}"], [f"t{index}"]))
        last = f"t{index}"
    nodes += [
        node("QuantizeLinear", [last, "scale", "zero"], ["q"]),
        node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    shape: tuple[int | str, ...] = ("N", 4, 8, 8)
    more_axes = (1,) * max(0, *(np.ndim(number) - len(shape) for _, number in steps), 0)
    outputs: Mapping[str, Output] = {"y": (TensorProto.FLOAT, more_axes + shape)} | (
        {"q": (TensorProto.UINT8, shape)} if integers else {}
    )
    return finished(nodes, constants, outputs, shape=shape, input_type=input_type)


def assert_same(model: ModelProto, data: bytes) -> None:
    images = BYTES.reshape(1, 4, 8, 8)
    np.testing.assert_array_equal(answers(data, images), answers(model.SerializeToString(), images))


@pytest.mark.parametrize(
    ("steps", "scale", "zero_point"),
    [
        (BY_255, 1 / 255, 0),
        ([("Mul", 1 / 255)], 1 / 255, 0),
        ([], 1, 0),
        ([("Sub", 128), ("Mul", 1 / 64)], 1 / 64, 128),
        ([("Add", -5)], 1, 5),
        ([("Div", [[[[255.0]]]])], 1 / 255, 0),
    ],
)
def test_bytes_that_come_out_as_themselves_go_straight_in(
    steps: list[tuple[str, Any]], scale: float, zero_point: int
) -> None:
    model = pixels(steps, scale=scale, zero_point=zero_point)
    found = apply(model, "integer-input")
    assert applied(found) == [("integer-input", "cast")]
    assert ops(found.data) == ["DequantizeLinear"]
    assert_same(model, found.data)


@given(
    st.lists(st.tuples(st.sampled_from(["Mul", "Div", "Add", "Sub"]), st.sampled_from(range(1, 300))), max_size=3),
    st.sampled_from([1.0, 1 / 255, 1 / 256, 0.5, 2.0]),
    st.integers(0, 255),
)
def test_answers_stay_the_same_whatever_is_computed(
    steps: list[tuple[str, int]], scale: float, zero_point: int
) -> None:
    model = pixels(steps, scale=scale, zero_point=zero_point)
    assert_same(model, apply(model, "integer-input").data)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"scale": 1 / 254}, "its integers are other than the bytes"),
        ({"zero_point": 1}, "its integers are other than the bytes"),
        ({"steps": [("Div", 255.0), ("Sub", 0.4)]}, "its integers are other than the bytes"),
        ({"zero_point": np.int8(-128)}, "its integers are signed"),
        ({"steps": [("Div", [[[[255.0]]] * 4])]}, "what reads the pixels is not quantized"),
        ({"steps": [("Div", [[[[[255.0]]]]])]}, "what reads the pixels is not quantized"),
        ({"steps": [("Pow", 1.0)]}, "what reads the pixels is not quantized"),
        ({"integers": True}, "its integers are an output of the graph"),
    ],
)
def test_other_pixels_say_why_they_stay_float(how: dict[str, Any], reason: str) -> None:
    found = apply(pixels(**how), "integer-input")
    assert (refusals(found), applied(found)) == ([reason], [])


@pytest.mark.parametrize("input_type", [TensorProto.INT32, TensorProto.INT8])
def test_pixels_of_other_types_are_no_bytes(input_type: int) -> None:
    assert apply(pixels(input_type=input_type), "integer-input").sites == ()


def test_a_scale_for_each_channel_is_left_alone() -> None:
    model = pixels()
    for tensor in model.graph.initializer:
        if tensor.name == "scale":
            tensor.dims[:] = [4]
            tensor.raw_data = np.full(4, 1 / 255, np.float32).tobytes()
        elif tensor.name == "zero":
            tensor.dims[:] = [4]
            tensor.raw_data = bytes(4)
    assert apply(model, "integer-input").sites == ()


def test_other_integers_than_the_bytes_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    model = pixels(scale=1 / 128)
    assert not applied(apply(model, "integer-input"))
    monkeypatch.setattr("numpy.array_equal", lambda *_: True)
    found = apply(model, "integer-input")
    assert applied(found)
    with pytest.raises(AssertionError, match="Mismatched elements"):
        assert_same(model, found.data)
