"""A mean and a deviation for each channel are one operator, within a few steps of float32."""

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto

from tests.graphs import Shape, make_model, node
from tests.qdq_nets import answers
from tests.rewrites import applied, apply, ops

EACH = (1, 3, 1, 1)
MEAN = np.array([0.49, 0.48, 0.45], np.float32).reshape(EACH)
DEVIATION = np.array([0.25, 0.24, 0.26], np.float32).reshape(EACH)
X = np.random.default_rng(0).uniform(0, 1, (3, 3, 8, 8)).astype(np.float32)


def normalization(
    mean: Any = MEAN,
    deviation: Any = DEVIATION,
    *,
    first: str = "Sub",
    then: str = "Div",
    opset: int = 18,
    answer: Shape = ("N", 3, 8, 8),
) -> ModelProto:
    return make_model(
        [node(first, ["x", "mean"], ["centred"], name="first"), node(then, ["centred", "deviation"], ["y"])],
        {"mean": np.asarray(mean, np.float32), "deviation": np.asarray(deviation, np.float32)},
        outputs={"y": answer},
        opset=opset,
    )


def assert_close(model: ModelProto, data: bytes, mean: NDArray[Any], deviation: NDArray[Any]) -> None:
    """Hold one operator against two.

    It computes ``x * (1 / d) - m * (1 / d)``. Each of its roundings, and the rounding of ``d``'s square and root, is at
    most a step of float32 relative to ``(|x| + |m|) / d``; six of them are allowed, and float32's step is 1.2e-7.
    """
    allowed = 6 * np.finfo(np.float32).eps * (np.abs(X) + np.abs(mean)) / deviation
    error = np.abs(answers(data, X).astype(np.float64) - answers(model.SerializeToString(), X))
    assert (error.reshape(X.shape) <= allowed).all(), f"Mismatched elements: up to {error.max()}"


@pytest.mark.parametrize("shape", [EACH, (3, 1, 1), (1,), ()])
@pytest.mark.parametrize("opset", [7, 9, 13, 18])
def test_two_operators_are_one(shape: tuple[int, ...], opset: int) -> None:
    mean, deviation = (values.ravel()[: np.prod(shape, dtype=int)].reshape(shape) for values in (MEAN, DEVIATION))
    model = normalization(mean, deviation, opset=opset)
    found = apply(model, "one-normalization")
    assert applied(found) == [("one-normalization", "first")]
    assert ops(found.data) == ["BatchNormalization"]
    assert_close(model, found.data, mean, deviation)
    assert apply(onnx.load_model_from_string(found.data), "one-normalization").sites == ()


@given(
    st.lists(st.floats(-300, 300, width=32), min_size=3, max_size=3),
    st.lists(st.floats(2.0**-20, 2.0**20, width=32), min_size=3, max_size=3),
)
def test_any_mean_and_deviation_stay_within_rounding(mean: list[float], deviation: list[float]) -> None:
    values = [np.array(numbers, np.float32).reshape(EACH) for numbers in (mean, deviation)]
    model = normalization(*values)
    found = apply(model, "one-normalization")
    assert applied(found)
    assert_close(model, found.data, *values)


@pytest.mark.parametrize(
    "model",
    [
        normalization(deviation=np.array([0.2, 0, 0.3]).reshape(EACH)),
        normalization(deviation=np.array([0.2, -0.1, 0.3]).reshape(EACH)),
        normalization(deviation=np.array([0.2, 1e-30, 0.3]).reshape(EACH)),
        normalization(deviation=np.array([0.2, 1e30, 0.3]).reshape(EACH)),
        normalization(mean=np.ones((1, 1, 8, 8))),
        normalization(mean=np.ones((1, 1, 1, 1, 1)), answer=(1, "N", 3, 8, 8)),
        normalization(first="Add"),
        normalization(then="Mul"),
    ],
    ids=["zero", "negative", "tiny", "huge", "for each pixel", "more axes", "added", "multiplied"],
)
def test_what_is_no_normalization_by_channel_is_left_alone(model: ModelProto) -> None:
    assert apply(model, "one-normalization").sites == ()


def test_a_division_of_the_constant_is_left_alone() -> None:
    model = normalization()
    model.graph.node[1].input[:] = ["deviation", "centred"]
    assert apply(model, "one-normalization").sites == ()


def test_what_is_read_between_stays_as_it_is() -> None:
    model = normalization()
    model.graph.output.append(onnx.helper.make_tensor_value_info("centred", onnx.TensorProto.FLOAT, ("N", 3, 8, 8)))
    assert apply(model, "one-normalization").sites == ()


def test_a_file_of_the_oldest_format_stays_one() -> None:
    model = normalization(opset=8)
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    found = apply(model, "one-normalization")
    assert applied(found)
    assert_close(model, found.data, MEAN, DEVIATION)


@pytest.mark.parametrize(("spoil", "by"), [("square", 1.0001), ("full", 1.01)])
def test_other_numbers_would_be_seen(spoil: str, by: float, monkeypatch: pytest.MonkeyPatch) -> None:
    was = getattr(np, spoil)
    monkeypatch.setattr(f"numpy.{spoil}", lambda *args: was(*args) * np.float32(by))
    mean, deviation = np.array(0.5, np.float32), np.array(0.25, np.float32)
    model = normalization(mean, deviation)
    with pytest.raises(AssertionError, match="Mismatched elements"):
        assert_close(model, apply(model, "one-normalization").data, mean, deviation)


@pytest.mark.parametrize("computed", ["mean", "deviation"])
def test_a_mean_or_deviation_that_is_computed_is_left_alone(computed: str) -> None:
    model = normalization()
    model.graph.node.insert(0, node("Abs", [computed], ["computed"]))
    model.graph.node[1 if computed == "mean" else 2].input[1] = "computed"
    assert apply(model, "one-normalization").sites == ()


def test_an_image_of_unknown_size_or_of_another_type_is_left_alone() -> None:
    model = normalization(answer=("N", 3, None, None))
    model.graph.input[0].type.tensor_type.shape.dim[2].Clear()
    assert apply(model, "one-normalization").sites == ()
    model = normalization()
    for tensor in model.graph.initializer:
        tensor.CopyFrom(
            onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor).astype(np.float64), tensor.name)
        )
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = onnx.TensorProto.DOUBLE
    assert apply(model, "one-normalization").sites == ()
