"""Adaptive rounding: other integers in the same range, nearer to float in what the layers give."""

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edgecnn.data.images import Images
from edgecnn.errors import DataError, ExitCode, ModelError
from edgecnn.progress import SILENT
from edgecnn.quantization import RECIPES
from edgecnn.quantization.layer_pairs import match_layers
from edgecnn.quantization.rounding import Rounding, round_weights
from edgecnn.quantization.static import quantize_model
from tests.graphs import Array, copy, evaluate, make_model, node, small_cnn
from tests.support import make_images


def smooth_images(n: int, seed: int = 0) -> Images:
    """Return images whose neighbouring pixels are alike, as in photographs."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (n, 3, 3, 3)).astype(np.float64)
    grid = np.linspace(0, 2, 8)
    low = np.minimum(grid.astype(int), 1)
    weight = (grid - low)[None, :, None, None]
    rows = coarse[:, low] * (1 - weight) + coarse[:, low + 1] * weight
    weight = weight.reshape(1, 1, 8, 1)
    pixels = rows[:, :, low] * (1 - weight) + rows[:, :, low + 1] * weight
    plain = make_images(n, size=8)
    return Images(pixels=pixels.astype(np.uint8), labels=plain.labels, classes=plain.classes, split="train")


IMAGES = smooth_images(150)
FRESH = smooth_images(100, seed=1).pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
RECIPE_NAMES = ["u8s8-perchannel-minmax-reduced", "u8s8-pertensor-minmax", "u8u8-perchannel-mse"]
each_recipe = pytest.mark.parametrize("recipe", RECIPE_NAMES)


def quantize(model: ModelProto, recipe: str = RECIPE_NAMES[0]) -> ModelProto:
    data = model.SerializeToString()
    return ModelProto.FromString(quantize_model(data, IMAGES, RECIPES[recipe], name="ours", threads=1, progress=SILENT))


def rounded(model: ModelProto, quantized: ModelProto, seed: int = 0) -> Rounding:
    return round_weights(model, quantized, IMAGES, threads=1, seed=seed, progress=SILENT)


def varied() -> ModelProto:
    """Return a grouped, a dilated and a depthwise convolution, padded and strided, a Gemm and a MatMul."""
    random = np.random.default_rng(0)
    return make_model(
        [
            node("Conv", ["x", "w1", "b1"], ["a"], name="padded", pads=[2, 1, 0, 1], dilations=[2, 1]),
            node("Relu", ["a"], ["a_r"]),
            node("Conv", ["a_r", "w2"], ["d"], name="depthwise", group=4, strides=[2, 1], pads=[1] * 4),
            node("Relu", ["d"], ["d_r"]),
            node("Conv", ["d_r", "w3"], ["g"], name="grouped", group=2),
            node("Relu", ["g"], ["g_r"]),
            node("Flatten", ["g_r"], ["flat"]),
            node("Gemm", ["flat", "w4"], ["h"], name="gemm"),
            node("Relu", ["h"], ["h_r"]),
            node("MatMul", ["h_r", "w5"], ["y"], name="product"),
        ],
        {
            "w1": random.normal(size=(4, 3, 3, 3)),
            "b1": random.normal(size=4),
            "w2": random.normal(size=(4, 1, 3, 3)),
            "w3": random.normal(size=(6, 2, 2, 2)),
            "w4": random.normal(size=(84, 40)) / 10,
            "w5": random.normal(size=(40, 3)),
        },
        outputs={"y": ("N", 3)},
    )


def integers(model: ModelProto, quantized: ModelProto) -> dict[str, Array]:
    return {pair.name: pair.weight.integers.astype(int) for pair in match_layers(model, quantized)}


def watch(model: ModelProto, tensor: str, rank: int) -> Array:
    twin = copy(model)
    twin.graph.output[0].CopyFrom(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, [None] * rank))
    return evaluate(twin, {"x": FRESH})[0].astype(np.float64)


def float_weight(model: ModelProto, name: str) -> Array:
    return next(numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.name == name)


def with_weight(quantized: ModelProto, output: str, weight: Array) -> ModelProto:
    """Return a QDQ model in which one layer has float weights."""
    twin = copy(quantized)
    next(one for one in twin.graph.node if one.output[0] == output).input[1] = "given"
    twin.graph.initializer.append(numpy_helper.from_array(weight.astype(np.float32), "given"))
    return twin


def layer_noise(model: ModelProto, quantized: ModelProto, layer: str, integers_of: ModelProto) -> float:
    """Return the squared error that a layer's integers cause on fresh images, given what it reads in int8."""
    pair = next(pair for pair in match_layers(model, integers_of) if pair.name == layer)
    weight, output = pair.weight, pair.node.output[0]
    zero, scale = weight.along_axis(weight.zero_point).astype(np.float64), weight.along_axis(weight.scale)
    approximate = (weight.integers - zero) * scale
    rank = 2 if approximate.ndim == 2 else 4
    exact = float_weight(model, pair.float_node.input[1])
    answers = [watch(with_weight(quantized, output, one), output, rank) for one in (exact, approximate)]
    return float(np.square(answers[0] - answers[1]).mean())


@each_recipe
@pytest.mark.parametrize("layer", ["padded", "depthwise", "grouped", "gemm", "product"])
def test_every_kind_of_layer_errs_less_on_images_that_were_not_seen(layer: str, recipe: str) -> None:
    model = varied()
    before = quantize(model, recipe)
    after = rounded(model, before).model
    assert layer_noise(model, after, layer, after) < 0.8 * layer_noise(model, after, layer, before)


@each_recipe
def test_integers_are_floats_neighbours_and_keep_their_range(recipe: str) -> None:
    model = varied()
    before = quantize(model, recipe)
    after = rounded(model, before).model
    old, new = integers(model, before), integers(model, after)
    for pair in match_layers(model, before):
        scale, zero = (pair.weight.along_axis(value) for value in (pair.weight.scale, pair.weight.zero_point))
        exact = float_weight(model, pair.float_node.input[1]).astype(np.float64) / scale + zero
        moved = old[pair.name] != new[pair.name]
        assert 0 < moved.mean() < 0.6
        assert (np.abs(new[pair.name] - exact)[moved] < 1).all()
        assert old[pair.name].min() <= new[pair.name].min() <= new[pair.name].max() <= old[pair.name].max()
    if recipe.endswith("reduced"):
        assert max(np.abs(values).max() for values in new.values()) == 64


def test_integers_stay_in_the_range_they_had_even_where_floats_neighbours_lie_beyond() -> None:
    model = varied()
    narrow = quantize(model)
    for pair in match_layers(model, narrow):
        name = pair.weight.dequantize.input[0]
        tensor = next(tensor for tensor in narrow.graph.initializer if tensor.name == name)
        tensor.CopyFrom(numpy_helper.from_array(np.clip(pair.weight.integers, -50, 50), name))
    for values in integers(model, rounded(model, narrow).model).values():
        assert np.abs(values).max() == 50


def test_nothing_but_integers_changes() -> None:
    model = varied()
    before = quantize(model)
    after = rounded(model, before).model
    changed = {
        one.name
        for one, other in zip(before.graph.initializer, after.graph.initializer, strict=True)
        if one.SerializeToString() != other.SerializeToString()
    }
    assert changed == {pair.weight.dequantize.input[0] for pair in match_layers(model, before)}
    assert [one.SerializeToString() for one in before.graph.node] == [
        one.SerializeToString() for one in after.graph.node
    ]


def test_the_record_says_what_was_changed_and_gained() -> None:
    model = varied()
    before = quantize(model)
    result = rounded(model, before)
    old, new = integers(model, before), integers(model, result.model)
    assert [layer.layer for layer in result.layers] == ["padded", "depthwise", "grouped", "gemm", "product"]
    assert result.skipped == ()
    for layer in result.layers:
        assert layer.n_weights == old[layer.layer].size
        assert layer.n_changed == (old[layer.layer] != new[layer.layer]).sum()
        assert 0 < layer.noise_after < layer.noise_before < 0.01


def test_the_noise_is_that_of_the_layers_outputs() -> None:
    model = small_cnn()
    quantized = quantize(model)
    result = rounded(model, quantized)
    layer = next(layer for layer in result.layers if layer.layer == "fc")
    pair = next(pair for pair in match_layers(model, quantized) if pair.name == "fc")
    seen = np.ascontiguousarray(IMAGES.pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))
    twin = copy(result.model)  # with the first layer rounded already
    twin.graph.output[0].CopyFrom(helper.make_tensor_value_info(pair.node.input[0], TensorProto.FLOAT, [None] * 2))
    x = evaluate(twin, {"x": seen})[0].astype(np.float64)
    weight = float_weight(model, "fc_w").astype(np.float64)
    approximate = pair.weight.integers * pair.weight.along_axis(pair.weight.scale)
    expected = np.square(x @ (approximate - weight).T).sum() / np.square(x @ weight.T).sum()
    assert layer.noise_before == pytest.approx(expected, rel=1e-3)


def test_logits_come_nearer_to_floats() -> None:
    model = varied()
    before = quantize(model, RECIPE_NAMES[0])
    expected = evaluate(model, {"x": FRESH})[0]
    errors = [
        np.square(evaluate(one, {"x": FRESH})[0] - expected).mean() for one in (before, rounded(model, before).model)
    ]
    assert errors[1] < 0.8 * errors[0]


def test_the_same_seed_gives_the_same_bytes_and_the_given_model_stays() -> None:
    model = varied()
    quantized = quantize(model)
    before = quantized.SerializeToString()
    first, second, other = (
        rounded(model, quantized, seed).model.SerializeToString(deterministic=True) for seed in (0, 0, 1)
    )
    assert first == second
    assert first != other  # other patches
    assert quantized.SerializeToString() == before


def test_the_number_of_threads_does_not_matter() -> None:
    model = varied()
    quantized = quantize(model)
    first, second = (
        round_weights(model, quantized, IMAGES, threads=threads, progress=SILENT).model.SerializeToString()
        for threads in (1, 2)
    )
    assert first == second


def test_weights_that_two_layers_share_and_other_layers_are_skipped_by_name() -> None:
    random = np.random.default_rng(0)
    model = make_model(
        [
            node("Conv", ["x", "w"], ["a"], name="one"),
            node("Conv", ["a", "w"], ["b"], name="two"),
            node("ConvTranspose", ["b", "v"], ["c"], name="up"),
            node("Conv", ["c", "u"], ["y"], name="last"),
        ],
        {
            "w": random.normal(size=(3, 3, 1, 1)),
            "v": random.normal(size=(3, 2, 2, 2)),
            "u": random.normal(size=(2, 2, 3, 3)),
        },
        outputs={"y": ("N", 2, "H", "W")},
    )
    quantized = quantize(model, RECIPE_NAMES[1])
    result = rounded(model, quantized)
    assert result.skipped == (
        ("one", "its weights are another layer's as well"),
        ("two", "its weights are another layer's as well"),
        ("up", "ConvTranspose is not rounded"),
    )
    assert [layer.layer for layer in result.layers] == ["last"]


def test_a_gemm_that_transposes_its_input_is_skipped() -> None:
    random = np.random.default_rng(0)
    model = make_model(
        [node("Gemm", ["x", "w"], ["h"], name="fc", transA=1), node("MatMul", ["h", "v"], ["y"], name="last")],
        {"w": random.normal(size=(4, 5)), "v": random.normal(size=(5, 2))},
        inputs={"x": (4, 6)},
        outputs={"y": (6, 2)},
    )
    quantized = copy(model)
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    ranges = TensorsData(
        CalibrationMethod.MinMax, {n: TensorData(lowest=np.float32(-1), highest=np.float32(1)) for n in ("x", "h", "y")}
    )
    quantized = _qdq(QDQQuantizer, quantized, ranges)
    from edgecnn.quantization.rounding import _Work

    work = _Work(quantized, {}, match_layers(model, quantized))
    assert work.skipped == {"fc": "it transposes its input"}


def _qdq(quantizer_class: Any, model: ModelProto, ranges: Any) -> ModelProto:
    from onnxruntime.quantization import QuantType

    quantizer = quantizer_class(
        model, False, False, weight_qType=QuantType.QInt8, activation_qType=QuantType.QUInt8, tensors_range=ranges,
        nodes_to_quantize=[], nodes_to_exclude=[], op_types_to_quantize=["Gemm", "MatMul"], extra_options={},
    )  # fmt: skip
    quantizer.quantize_model()
    result: ModelProto = quantizer.model.model
    return result


def test_a_layer_with_too_many_inputs_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgecnn.quantization.rounding.MAX_INPUTS", 30)
    model = small_cnn()
    result = rounded(model, quantize(model))
    assert result.skipped == (("fc", "each of its outputs has 36 weights, more than 30"),)
    assert [layer.layer for layer in result.layers] == ["conv"]


def test_a_layer_that_sees_only_zeros_keeps_the_nearest_integers() -> None:
    model = small_cnn()
    for tensor in model.graph.initializer:
        if tensor.name == "conv_b":
            tensor.CopyFrom(numpy_helper.from_array(np.full(4, -1e3, np.float32), tensor.name))
    quantized = quantize(model)
    result = rounded(model, quantized)
    fc = next(layer for layer in result.layers if layer.layer == "fc")
    assert (fc.n_changed, fc.noise_before, fc.noise_after) == (0, 0.0, 0.0)


def test_progress_names_the_layers() -> None:
    seen: list[tuple[int, int, str]] = []

    class Listener:
        def say(self, text: str) -> None: ...

        def update(self, task: str, done: int, total: int, detail: str = "") -> None:
            seen.append((done, total, detail))

    model = small_cnn()
    round_weights(model, quantize(model), IMAGES, threads=1, progress=Listener())
    assert seen == [(1, 2, "conv"), (2, 2, "fc")]


def test_test_images_are_refused() -> None:
    model = small_cnn()
    with pytest.raises(DataError, match="round weights: takes training images only") as caught:
        round_weights(model, quantize(model), make_images(9, size=8, split="test"), threads=1, progress=SILENT)
    assert caught.value.exit_code == ExitCode.BAD_INPUT


def pooled(kernel: int) -> ModelProto:
    random = np.random.default_rng(0)
    return make_model(
        [
            node("Conv", ["x", "w"], ["a"], name="conv"),
            node("GlobalAveragePool", ["a"], ["p"]),
            node("Flatten", ["p"], ["f"]),
            node("MatMul", ["f", "v"], ["y"], name="fc"),
        ],
        {"w": random.normal(size=(4, 3, kernel, kernel)), "v": random.normal(size=(4, 3))},
        outputs={"y": ("N", 3)},
    )


def test_weights_of_another_shape_are_refused() -> None:
    with pytest.raises(ModelError, match="weights w are computed, or have another shape than the layer conv"):
        rounded(pooled(1), quantize(pooled(3)))


def test_weights_that_are_computed_in_the_float_model_are_refused() -> None:
    model = small_cnn()
    quantized = quantize(model)
    next(tensor for tensor in model.graph.initializer if tensor.name == "conv_w").name = "negative"
    model.graph.node.insert(0, node("Neg", ["negative"], ["conv_w"]))
    with pytest.raises(ModelError, match="weights conv_w are computed, or have another shape than the layer conv"):
        rounded(model, quantized)
