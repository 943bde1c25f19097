"""Bias correction against its definition: the mean of float minus the mean of int8, layer after layer."""

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edgecnn.errors import DataError, ExitCode, ModelError
from edgecnn.progress import SILENT
from edgecnn.quantization import RECIPES
from edgecnn.quantization.bias_correction import correct_biases
from edgecnn.quantization.layer_pairs import match_layers
from edgecnn.quantization.static import quantize_model
from tests.graphs import Array, copy, evaluate, make_model, node, small_cnn
from tests.support import make_images

IMAGES = make_images(70, size=8)
X = IMAGES.pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
RECIPE_NAMES = ["u8s8-perchannel-minmax-reduced", "u8s8-pertensor-minmax", "u8u8-perchannel-mse"]


def quantize(model: ModelProto, recipe: str = RECIPE_NAMES[0]) -> ModelProto:
    data = model.SerializeToString()
    return ModelProto.FromString(quantize_model(data, IMAGES, RECIPES[recipe], name="ours", threads=1, progress=SILENT))


def correct(model: ModelProto, quantized: ModelProto) -> Any:
    return correct_biases(model, quantized, IMAGES, threads=1, progress=SILENT)


def coarse(quantized: ModelProto, seed: int = 0) -> ModelProto:
    """Return a QDQ model whose integer weights are off by up to 6, always more up than down: its means are wrong."""
    twin, random = copy(quantized), np.random.default_rng(seed)
    for tensor in twin.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype in (np.int8, np.uint8) and values.ndim > 1:
            bounds = np.iinfo(values.dtype)
            moved = np.clip(values.astype(int) + random.integers(-2, 7, values.shape), bounds.min, bounds.max)
            tensor.CopyFrom(numpy_helper.from_array(moved.astype(values.dtype), tensor.name))
    return twin


def watch(model: ModelProto, tensor: str) -> Array:
    twin = copy(model)
    rank = 4 if tensor in ("conv", "relu", "a", "b", "c") else 2
    twin.graph.output[0].CopyFrom(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, [None] * rank))
    return evaluate(twin, {"x": X})[0].astype(np.float64)


def mean_errors(model: ModelProto, quantized: ModelProto) -> dict[str, tuple[Array, Array]]:
    """Return for each layer the mean error of its channels before the activation, and the step of its bias."""
    found = {}
    for pair in match_layers(model, quantized):
        expected, got = watch(model, pair.float_node.output[0]), watch(quantized, pair.node.output[0])
        axes = (0, 2, 3) if expected.ndim == 4 else (0,)
        activation = next(one for one in quantized.graph.node if one.output[0] == pair.node.input[0]).input[1]
        constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantized.graph.initializer}
        found[pair.name] = (expected - got).mean(axes), constants[activation] * pair.weight.scale
    return found


@pytest.mark.parametrize("recipe", RECIPE_NAMES)
def test_after_correction_every_layer_has_floats_mean_to_within_a_step_of_its_bias(recipe: str) -> None:
    model = small_cnn()
    quantized = coarse(quantize(model, recipe))
    before = mean_errors(model, quantized)
    after = mean_errors(model, correct(model, quantized).model)
    for layer in ("conv", "fc"):
        error, step = after[layer]
        assert np.abs(before[layer][0]).max() > 20 * step.max()
        assert (np.abs(error) <= 0.51 * step + 1e-6).all()


def test_a_later_layer_is_corrected_for_what_the_corrected_earlier_ones_leave() -> None:
    model = small_cnn()
    quantized = coarse(quantize(model))
    alone = mean_errors(model, quantized)["fc"][0]
    result = correct(model, quantized)
    shift = {layer.layer: layer.largest_shift for layer in result.layers}["fc"]
    assert shift != pytest.approx(np.abs(alone).max(), rel=0.01)  # what correcting all at once would have given


def test_the_record_names_every_layer_in_order() -> None:
    model = small_cnn()
    quantized = coarse(quantize(model))
    result = correct(model, quantized)
    assert [(layer.layer, layer.n_channels, layer.n_limited) for layer in result.layers] == [
        ("conv", 4, 0),
        ("fc", 3, 0),
    ]
    assert result.layers[0].largest_shift == pytest.approx(
        np.abs(mean_errors(model, quantized)["conv"][0]).max(), rel=1e-3
    )
    assert result.skipped == ()


def test_logits_come_nearer_to_floats() -> None:
    model = small_cnn()
    quantized = coarse(quantize(model))
    expected = evaluate(model, {"x": X})[0]
    errors = [
        np.square(evaluate(one, {"x": X})[0] - expected).mean() for one in (quantized, correct(model, quantized).model)
    ]
    assert errors[1] < 0.5 * errors[0]


def without_bias() -> ModelProto:
    random = np.random.default_rng(0)
    return make_model(
        [
            node("Conv", ["x", "w1"], ["a"], name="conv"),
            node("ConvTranspose", ["a", "w2"], ["b"], name="up", strides=[2, 2]),
            node("Relu", ["b"], ["c"]),
            node("Flatten", ["c"], ["flat"]),
            node("Gemm", ["flat", "w3"], ["g"], name="gemm"),
            node("MatMul", ["g", "w4"], ["y"], name="product"),
        ],
        {
            "w1": random.normal(size=(4, 3, 3, 3)),
            "w2": random.normal(size=(4, 2, 2, 2)),
            "w3": random.normal(size=(288, 5)),
            "w4": random.normal(size=(5, 3)),
        },
        outputs={"y": ("N", 3)},
    )


@pytest.mark.parametrize("recipe", RECIPE_NAMES[:2])
def test_a_layer_without_a_bias_gets_one(recipe: str) -> None:
    model = without_bias()
    quantized = coarse(quantize(model, recipe))
    result = correct(model, quantized)
    assert [layer.layer for layer in result.layers] == ["conv", "up", "gemm"]
    assert result.skipped == (("product", "MatMul has no bias"),)
    after = mean_errors(model, result.model)
    for layer in ("conv", "up", "gemm"):
        error, step = after[layer]
        assert (np.abs(error) <= 0.51 * step + 1e-6).all()
    for pair in match_layers(model, result.model):
        assert len(pair.node.input) == (2 if pair.name == "product" else 3)


def test_biases_stay_int32_in_the_scale_that_onnx_runtime_demands() -> None:
    model = without_bias()
    result = correct(model, coarse(quantize(model)))
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in result.model.graph.initializer}
    producers = {one.output[0]: one for one in result.model.graph.node}
    for pair in match_layers(model, result.model)[:3]:
        integers, scale, zero_point = (constants[name] for name in producers[pair.node.input[2]].input)
        activation = constants[producers[pair.node.input[0]].input[1]]
        assert integers.dtype == zero_point.dtype == np.int32
        assert not zero_point.any()
        np.testing.assert_array_equal(scale, activation * pair.weight.scale)


def test_biases_that_were_replaced_are_gone() -> None:
    model = small_cnn()
    quantized = quantize(model)
    result = correct(model, quantized)
    read = {name for one in result.model.graph.node for name in one.input}
    assert {tensor.name for tensor in result.model.graph.initializer} <= read
    assert len(result.model.graph.node) == len(quantized.graph.node)


def test_a_bias_stays_within_int32() -> None:
    model = small_cnn()
    quantized = quantize(model)
    for tensor in quantized.graph.initializer:
        if tensor.name == "fc_b_quantized":
            tensor.CopyFrom(numpy_helper.from_array(np.array([2**31 - 1, -(2**31), 0], np.int32), tensor.name))
    moved = copy(model)
    for tensor in moved.graph.initializer:
        if tensor.name == "fc_b":  # float is further out than int32 can say
            tensor.CopyFrom(numpy_helper.from_array(np.array([1e9, -1e9, 0], np.float32), tensor.name))
    result = correct(moved, quantized)
    assert {layer.layer: layer.n_limited for layer in result.layers} == {"conv": 0, "fc": 2}
    pair = next(pair for pair in match_layers(moved, result.model) if pair.name == "fc")
    dequantize = next(one for one in result.model.graph.node if one.output[0] == pair.node.input[2])
    integers = next(numpy_helper.to_array(t) for t in result.model.graph.initializer if t.name == dequantize.input[0])
    assert integers[:2].tolist() == [2**31 - 1, -(2**31)]


def test_a_bias_that_two_layers_share_becomes_two() -> None:
    random = np.random.default_rng(0)
    model = make_model(
        [
            node("Conv", ["x", "w", "b"], ["a"], name="one"),
            node("Conv", ["x", "w2", "b"], ["b" + "2"], name="two"),
            node("Concat", ["a", "b2"], ["y"], axis=1),
        ],
        {"w": random.normal(size=(3, 3, 1, 1)), "w2": random.normal(size=(3, 3, 1, 1)), "b": random.normal(size=3)},
        outputs={"y": ("N", 6, 8, 8)},
    )
    result = correct(model, coarse(quantize(model, RECIPE_NAMES[1])))
    biases = {pair.name: pair.node.input[2] for pair in match_layers(model, result.model)}
    assert biases["one"] != biases["two"]


def test_beta_is_taken_out_of_a_gemms_bias() -> None:
    model = small_cnn()
    fc = next(one for one in model.graph.node if one.name == "fc")
    fc.attribute.append(helper.make_attribute("beta", 1.0))
    quantized = coarse(quantize(model))
    for graph in (model, quantized):
        fc = next(one for one in graph.graph.node if one.name == "fc")
        next(item for item in fc.attribute if item.name == "beta").f = 0.25
    result = correct(model, quantized)
    error, step = mean_errors(model, result.model)["fc"]
    assert (np.abs(error) <= 0.51 * 0.25 * step + 1e-6).all()


def test_the_given_model_is_not_changed_and_the_same_bytes_come_out_each_time() -> None:
    model = small_cnn()
    quantized = quantize(model)
    before = quantized.SerializeToString()
    first, second = (correct(model, quantized).model.SerializeToString(deterministic=True) for _ in range(2))
    assert quantized.SerializeToString() == before
    assert first == second


def test_the_number_of_threads_does_not_matter() -> None:
    model = small_cnn()
    quantized = coarse(quantize(model))
    first, second = (
        correct_biases(model, quantized, IMAGES, threads=threads, progress=SILENT).model.SerializeToString()
        for threads in (1, 2)
    )
    assert first == second


def test_a_bias_that_is_multiplied_by_zero_is_left_alone_and_named() -> None:
    model = small_cnn()
    quantized = coarse(quantize(model))
    for graph in (model, quantized):
        fc = next(one for one in graph.graph.node if one.name == "fc")
        fc.attribute.append(helper.make_attribute("beta", 0.0))
    result = correct(model, quantized)
    assert result.skipped == (("fc", "its bias is multiplied by 0"),)


def test_a_bias_in_float_is_left_alone_and_named() -> None:
    model = small_cnn()
    quantized = coarse(quantize(model))
    fc = next(one for one in quantized.graph.node if one.name == "fc")
    fc.input[2] = "plain"
    quantized.graph.initializer.append(numpy_helper.from_array(np.zeros(3, np.float32), "plain"))
    result = correct(model, quantized)
    assert result.skipped == (("fc", "its bias is not quantized"),)
    assert [layer.layer for layer in result.layers] == ["conv"]


def test_a_layer_whose_input_is_not_quantized_gets_no_bias() -> None:
    model = without_bias()
    quantized = quantize(model)
    gemm = next(one for one in quantized.graph.node if one.name == "gemm")
    before = next(one for one in quantized.graph.node if one.output[0] == gemm.input[0])  # DequantizeLinear
    quantize_linear = next(one for one in quantized.graph.node if one.output[0] == before.input[0])
    gemm.input[0] = quantize_linear.input[0]
    result = correct(model, quantized)
    assert result.skipped[0] == ("gemm", "its input is not quantized")


def test_the_result_runs_with_everything_fused() -> None:
    from edgecnn.targets import reference_session

    model = without_bias()
    result = correct(model, quantize(model)).model
    found = reference_session(result.SerializeToString(), model_name="int8").run(X)
    np.testing.assert_allclose(found, evaluate(result, {"x": X})[0], atol=1e-3 * np.abs(found).max())


def test_progress_comes_to_its_end() -> None:
    seen: list[tuple[int, int]] = []

    class Listener:
        def say(self, text: str) -> None: ...

        def update(self, task: str, done: int, total: int, detail: str = "") -> None:
            seen.append((done, total))

    model = small_cnn()
    correct_biases(model, quantize(model), IMAGES, threads=1, progress=Listener())
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_test_images_are_refused() -> None:
    model = small_cnn()
    with pytest.raises(DataError, match="correct biases: takes training images only") as caught:
        correct_biases(model, quantize(model), make_images(9, size=8, split="test"), threads=1, progress=SILENT)
    assert caught.value.exit_code == ExitCode.BAD_INPUT


def test_models_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ModelError, match="no counterpart"):
        correct(without_bias(), quantize(small_cnn()))
