"""Inner tensors, batch by batch: all images once, nothing fused, and what goes wrong is named."""

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from edgecnn.errors import DataError, ModelError, StageError
from edgecnn.progress import SILENT
from edgecnn.quantization import RECIPES
from edgecnn.quantization.static import quantize_model
from edgecnn.quantization.tensor_stream import BATCH_SIZE, input_spec, require_training_images, stream
from edgecnn.targets import reference_session
from tests.graphs import copy, evaluate, make_model, node, small_cnn
from tests.support import make_images

IMAGES = make_images(BATCH_SIZE * 2 + 5, size=8)
X = IMAGES.pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)


@pytest.mark.parametrize("batch", ["N", 10])
def test_every_image_comes_once(batch: int | str) -> None:
    model = small_cnn(batch=batch)
    watched = copy(small_cnn())
    watched.graph.output[0].CopyFrom(helper.make_tensor_value_info("relu", TensorProto.FLOAT, ["N", 4, 6, 6]))
    expected = evaluate(watched, {"x": X})[0]
    batches = list(stream(model, ["relu", "x"], IMAGES, spec=input_spec(model), threads=1))
    size = batch if isinstance(batch, int) else BATCH_SIZE
    assert [len(values["relu"]) for values in batches] == [size] * (len(IMAGES) // size) + [len(IMAGES) % size]
    np.testing.assert_allclose(np.concatenate([values["relu"] for values in batches]), expected, atol=1e-5)
    np.testing.assert_array_equal(np.concatenate([values["x"] for values in batches]), X)


def test_the_input_alone_needs_no_runtime() -> None:
    model = small_cnn()
    (first, *_) = stream(model, ["x"], IMAGES, spec=input_spec(model), threads=1)
    np.testing.assert_array_equal(first["x"], X[:BATCH_SIZE])


def test_what_no_watched_tensor_needs_is_not_computed() -> None:
    model = small_cnn(tail=[node("Reshape", ["logits", "to"], ["r"]), node("Relu", ["r"], ["y"])])
    model.graph.initializer.extend(make_model([], {"to": np.array([7, -1])}).graph.initializer)  # fails, if it is run
    batches = list(stream(model, ["logits"], IMAGES, spec=input_spec(model), threads=1))
    assert len(batches) == 3


def test_nothing_is_fused_so_that_no_kernel_can_saturate() -> None:
    recipe = RECIPES["u8s8-perchannel-minmax"]
    data = quantize_model(small_cnn().SerializeToString(), IMAGES, recipe, name="x", threads=1, progress=SILENT)
    model = ModelProto.FromString(data)
    batches = stream(model, ["y"], IMAGES, spec=input_spec(model), threads=1)
    found = np.concatenate([values["y"] for values in batches])
    expected = np.concatenate([evaluate(model, {"x": X[start : start + 32]})[0] for start in range(0, len(X), 32)])
    np.testing.assert_array_equal(found, expected)
    assert (reference_session(data, model_name="fused").run(X) != expected).any()


def test_nan_is_refused_by_name() -> None:
    model = small_cnn(tail=[node("Sqrt", ["logits"], ["y"], name="root")])
    with pytest.raises(StageError, match=r"the layer root gives NaN or infinite values \(tensor y\)"):
        list(stream(model, ["y"], IMAGES, spec=input_spec(model), threads=1))


def test_a_tensor_that_does_not_exist_is_a_model_error() -> None:
    model = small_cnn()
    with pytest.raises(ModelError, match="ONNX Runtime cannot load the model"):
        list(stream(model, ["nowhere"], IMAGES, spec=input_spec(model), threads=1))


def test_what_fails_while_running_is_a_stage_error() -> None:
    model = make_model([node("Reshape", ["x", "to"], ["r"]), node("Relu", ["r"], ["y"])],
                       {"to": np.array([7, -1])}, outputs={"y": ("N", "C")})  # fmt: skip
    with pytest.raises(StageError, match="failed while running the model"):
        list(stream(model, ["y"], IMAGES, spec=input_spec(model), threads=1))


def test_test_images_and_no_images_are_refused() -> None:
    with pytest.raises(DataError, match="round: takes training images only"):
        require_training_images(make_images(3, split="test"), "round")
    with pytest.raises(DataError, match="round: there are no images"):
        require_training_images(make_images(3).take(np.arange(0)), "round")
    require_training_images(make_images(3), "round")
