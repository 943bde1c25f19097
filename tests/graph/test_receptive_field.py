"""What a value sees of the image, against changing the image's pixels one by one."""

import numpy as np
from hypothesis import given, settings
from onnx import ModelProto, NodeProto

from edgecnn.graph.receptive_field import image_axes, propagate
from edgecnn.graph.tensors import read_tensors
from tests.graphs import make_model, node, small_cnn
from tests.nets import Array, networks, seen_by_poking

SHAPE = (3, 9, 8)


def fields(model: ModelProto) -> dict[str, tuple[int, ...] | None]:
    return propagate(model, read_tensors(model, "net.onnx"))


def on_image(nodes: list[NodeProto], constants: dict[str, Array] | None = None) -> ModelProto:
    return make_model(nodes, constants or {}, inputs={"x": ("N", *SHAPE)})


def weights(*shape: int) -> Array:
    return (np.random.default_rng(0).uniform(0.5, 1.5, shape) / np.prod(shape[1:])).astype(np.float32)


@settings(max_examples=300)
@given(networks())
def test_a_value_sees_what_changes_it(model: ModelProto) -> None:
    truth = seen_by_poking(model, SHAPE)
    found = fields(model)
    assert {name: found[name] for name in truth} == truth


def test_the_layers_of_a_small_network() -> None:
    found = fields(small_cnn())
    assert [found[name] for name in ("conv", "relu", "pool", "flat", "y")] == [(3, 3), (3, 3), (4, 4), (4, 4), (8, 8)]


def test_the_image_may_have_its_channels_last() -> None:
    nodes = [
        node("Cast", ["x"], ["float"], to=1),
        node("Transpose", ["float"], ["image"], perm=[0, 3, 1, 2]),
        node("Conv", ["image", "w"], ["y"]),
    ]
    model = make_model(nodes, {"w": weights(2, 3, 2, 5)}, inputs={"x": ("N", 9, 8, 3)}, input_type=2)
    assert image_axes(model, read_tensors(model, "net.onnx")) == (1, 2)
    assert fields(model)["y"] == (2, 5)


def test_a_signal_has_one_axis_and_a_vector_none() -> None:
    signal = make_model([node("Conv", ["x", "w"], ["y"])], {"w": weights(2, 3, 4)}, inputs={"x": ("N", 3, 20)})
    assert fields(signal)["y"] == (4,)
    vector = make_model([node("Gemm", ["x", "w"], ["y"])], {"w": weights(20, 2)}, inputs={"x": ("N", 20)})
    assert fields(vector)["y"] == ()


def test_after_an_unknown_operator_nothing_is_claimed() -> None:
    nodes = [
        node("Relu", ["x"], ["before"]),
        node("CumSum", ["before", "axis"], ["unknown"]),
        node("Relu", ["unknown"], ["y"]),
    ]
    found = fields(on_image(nodes, {"axis": np.array(1)}))
    assert (found["before"], found["unknown"], found["y"]) == ((1, 1), None, None)


def test_a_cut_that_depends_on_the_image_is_not_guessed() -> None:
    nodes = [
        node("ArgMax", ["x"], ["where"], axis=3, keepdims=0),
        node("Gather", ["x", "where"], ["y"], axis=3),
    ]
    assert fields(on_image(nodes))["y"] is None


def test_a_huge_image_is_not_written_out_pixel_by_pixel() -> None:
    model = make_model([node("Relu", ["x"], ["y"])], {}, inputs={"x": ("N", 3, 2**40, 4)})
    assert fields(model)["y"] is None
    pad = node("Pad", ["x", "p"], ["y"])
    assert fields(on_image([pad], {"p": np.array([0, 0, 2**40, 0, 0, 0, 0, 0])}))["y"] is None
