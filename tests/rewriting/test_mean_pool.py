"""The mean over an image is a global average pool."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper

from edgecnn.rewriting import rewrite
from tests.graphs import Shape, make_model, node
from tests.qdq_nets import QdqNet, answers, finished, session
from tests.rewrites import applied, apply, ops

X = np.random.default_rng(0).normal(size=(3, 3, 8, 6)).astype(np.float32)
SHAPE: Shape = ("N", 3, 8, 6)


def mean(axes: Any = (2, 3), *, opset: int = 18, shape: Shape = SHAPE, **attributes: Any) -> ModelProto:
    """Return a model of a mean; axes became an input with opset 18."""
    inputs, constants = ["x"], {}
    if opset >= 18 and axes is not None:
        inputs, constants = ["x", "axes"], {"axes": np.array(axes, np.int64)}
    elif axes is not None:
        attributes["axes"] = list(axes)
    keeps = attributes.get("keepdims", 1)
    answer = ("N", 3, 1, 1) if keeps else ("N", 3)
    return make_model(
        [node("ReduceMean", inputs, ["y"], name="mean", **attributes)],
        constants,
        inputs={"x": shape},
        outputs={"y": answer if axes is not None and set(axes) != {1, 2} else (None,) * 4},
        opset=opset,
    )


@pytest.mark.parametrize("opset", [11, 13, 18, 21])
@pytest.mark.parametrize("axes", [(2, 3), (3, 2), (-2, -1), (-1, 2), (3, -2)])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_a_mean_over_height_and_width_is_a_pool(opset: int, axes: tuple[int, int], keepdims: int) -> None:
    model = mean(axes, opset=opset, keepdims=keepdims)
    model.ir_version = 10
    found = apply(model, "mean-pool")
    assert applied(found) == [("mean-pool", "mean")]
    assert ops(found.data) == ["GlobalAveragePool", "Flatten"][: 2 - keepdims]
    # Sums of 48 numbers of about 1 in another order: 1e-6 is eight steps of float32.
    np.testing.assert_allclose(answers(found.data, X), answers(model.SerializeToString(), X), rtol=1e-5, atol=1e-6)
    assert apply(onnx.load_model_from_string(found.data), "mean-pool").sites == ()


def test_height_and_width_may_vary() -> None:
    model = mean(shape=("N", 3, "H", "W"))
    found = apply(model, "mean-pool")
    assert applied(found)
    np.testing.assert_allclose(answers(found.data, X), answers(model.SerializeToString(), X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "model",
    [mean((1, 2)), mean((2,)), mean(None), mean((1, 2, 3))],
    ids=["other axes", "one axis", "all axes", "channels too"],
)
def test_other_means_are_left_alone(model: ModelProto) -> None:
    model.graph.output[0].type.tensor_type.ClearField("shape")
    for _ in range(4):
        model.graph.output[0].type.tensor_type.shape.dim.add()
    assert apply(model, "mean-pool").sites == ()


def test_a_mean_of_another_rank_or_of_whole_numbers_is_left_alone() -> None:
    rows = make_model(
        [node("ReduceMean", ["x", "axes"], ["y"])],
        {"axes": np.array([2, 3], np.int64)},
        inputs={"x": ("N", 3, 8, 6, 5)},
        outputs={"y": ("N", 3, 1, 1, 5)},
    )
    assert apply(rows, "mean-pool").sites == ()
    whole = finished(
        [helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3])],
        {},
        {"y": (TensorProto.INT32, ("N", 3, 1, 1))},
        input_type=TensorProto.INT32,
    )
    assert apply(whole, "mean-pool").sites == ()


def test_axes_that_are_computed_are_left_alone() -> None:
    model = mean()
    model.graph.node.insert(0, node("Abs", ["axes"], ["computed"]))
    model.graph.node[-1].input[1] = "computed"
    assert apply(model, "mean-pool").sites == ()


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_integers_differ_by_one_step_at_most_and_have_a_kernel(dtype: Any, tmp_path: Any) -> None:
    """The integer kernel rounds the exact mean once; float rounds the mean of numbers that were rounded to float."""
    net = QdqNet((3, 7, 9), dtype=dtype)
    net.conv(5, (1, 1))
    net.constants["axes"] = np.array([2, 3], np.int64)
    net.move("ReduceMean", "axes", shape=(5, 1, 1))
    model, images = net.model(opset=18), net.images(20)
    found = apply(model, "mean-pool")
    steps = (answers(found.data, images) - answers(model.SerializeToString(), images)) / net.scale
    assert np.abs(np.rint(steps)).max() <= 1
    assert (np.rint(steps) == 0).mean() > 0.9
    path = tmp_path / "optimized.onnx"
    session(found.data, optimized_to=str(path))
    assert "QLinearGlobalAveragePool" in ops(path.read_bytes())


def test_the_mean_over_other_axes_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgecnn.rewriting.mean_pool._IMAGE_AXES", ({1, 2},))
    model = mean((1, 2))
    model.graph.output[0].type.tensor_type.ClearField("shape")
    for _ in range(4):
        model.graph.output[0].type.tensor_type.shape.dim.add()
    data = rewrite(model.SerializeToString(), ["mean-pool"], name="ours.onnx").data
    assert answers(data, X).size != answers(model.SerializeToString(), X).size
