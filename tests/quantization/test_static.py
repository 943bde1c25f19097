"""The QDQ graph: every scale, zero point and integer against NumPy, and what is refused."""

import dataclasses
import logging
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from edgecnn.data.images import Images
from edgecnn.errors import DataError, EdgecnnError, ExitCode, ModelError, StageError
from edgecnn.graph import onnx_file
from edgecnn.progress import SILENT
from edgecnn.quantization import RECIPES, Recipe
from edgecnn.quantization import recipe as named
from edgecnn.quantization.prepare import prepare
from edgecnn.quantization.range_methods import MSE_CANDIDATES, PERCENTILE
from edgecnn.quantization.static import quantize_model
from edgecnn.targets import reference_session
from edgecnn.targets.session import feed
from tests.graphs import Array, copy, evaluate, make_model, node, small_cnn, weights
from tests.support import make_images

IMAGES = make_images(50, size=8)
X = np.ascontiguousarray(IMAGES.pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))
DEFAULT = RECIPES["u8s8-perchannel-minmax-reduced"]
each_recipe = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
#: Those whose integers follow from the weights and ranges alone: nothing equalized, corrected, or rounded otherwise.
PLAIN = [row for row in RECIPES.values() if not (row.equalize or row.adaptive_rounding or row.correct_bias)]
PLAIN += [named(f"{types}-perchannel-minmax") for types in ("s8u8", "u16u8", "s16s8")]
PLAIN += [named(f"{types}-pertensor-percentile-symmetric") for types in ("u8s8", "s8s8", "u16s8", "s16s8")]
each_plain_recipe = pytest.mark.parametrize("recipe", PLAIN, ids=lambda row: row.name)
REFINED = [row for row in RECIPES.values() if row.equalize and row.adaptive_rounding and row.correct_bias]
each_refined_recipe = pytest.mark.parametrize("recipe", REFINED, ids=lambda row: row.name)
ACTIVATIONS = {
    "u8": (np.uint8, 0, 255),
    "s8": (np.int8, -128, 127),
    "u16": (np.uint16, 0, 65535),
    "s16": (np.int16, -32768, 32767),
}
Float64 = NDArray[np.float64]


def signed_cnn() -> ModelProto:
    """Return Conv, Flatten, Gemm, MatMul: activations of both signs, weights of every orientation, no bias."""
    random = np.random.default_rng(3)
    return make_model(
        [
            node("Conv", ["x", "conv_w"], ["conv"], name="conv", strides=[2, 2]),
            node("Flatten", ["conv"], ["flat"], name="flatten"),
            node("Gemm", ["flat", "fc_w"], ["hidden"], name="fc"),
            node("MatMul", ["hidden", "out_w"], ["y"], name="out"),
        ],
        {
            "conv_w": random.normal(size=(4, 3, 3, 3)) * np.array([1, 0.1, 3, 0.01]).reshape(4, 1, 1, 1),
            "fc_w": random.normal(size=(36, 6)),
            "out_w": random.normal(size=(6, 3)),
        },
        outputs={"y": ("N", 3)},
    )


#: Model, name of the layer, its weights, the axis of its output channels, and the tensor it reads.
LAYERS = [
    (small_cnn, "conv", "conv_w", 0, "x"),
    (small_cnn, "fc", "fc_w", 0, "relu"),
    (signed_cnn, "conv", "conv_w", 0, "x"),
    (signed_cnn, "fc", "fc_w", 1, "conv"),
    (signed_cnn, "out", "out_w", 1, "hidden"),
]
each_layer = pytest.mark.parametrize(("make", "layer", "weight", "axis", "reads"), LAYERS)


def quantize(model: ModelProto, recipe: Recipe = DEFAULT, images: Images = IMAGES, *, threads: int = 1) -> bytes:
    return quantize_model(model.SerializeToString(), images, recipe, name="ours.onnx", threads=threads, progress=SILENT)


def run(data: bytes) -> Array:
    session = reference_session(data, model_name="int8")
    return session.run(feed(IMAGES.pixels, session.input))


def values_of(model: ModelProto, tensor: str) -> Array:
    """Return a tensor of the float graph on all images at once."""
    if tensor == "x":
        return X
    watched = copy(model)
    rank = 4 if tensor in ("conv", "relu", "pool") else 2
    watched.graph.output[0].CopyFrom(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, [None] * rank))
    return evaluate(watched, {"x": X})[0]


@dataclass(frozen=True)
class Quantized:
    """One tensor as the graph holds it."""

    scale: Array
    zero_point: Array
    integers: Array | None
    axis: int | None


class Graph:
    """Finds its way in a QDQ model."""

    def __init__(self, data: bytes) -> None:
        self.model = onnx_file.parse(data, "int8")
        self.constants = weights(self.model)
        self.producers = {output: item for item in self.model.graph.node for output in item.output}
        self.layers = {item.name: item for item in self.model.graph.node}

    def operand(self, layer: str, index: int) -> Quantized:
        """Return what a layer's input was dequantized from."""
        tensor = self.layers[layer].input[index]
        while (item := self.producers[tensor]).op_type != "DequantizeLinear":
            tensor = item.input[0]
        axis = next((attribute.i for attribute in item.attribute if attribute.name == "axis"), None)
        integers, scale, zero_point = item.input
        return Quantized(
            scale=self.constants[scale],
            zero_point=self.constants[zero_point],
            integers=self.constants.get(integers),
            axis=axis,
        )


def expected_range(values: Array, recipe: Recipe) -> tuple[float, float]:
    """Return the range that a recipe's words promise, computed from all values at once."""
    exact = np.sort(values.astype(np.float64).ravel())
    if recipe.ranges == "percentile":
        sides = 2 if exact[0] < 0 < exact[-1] else 1
        outside = (100 - PERCENTILE) / 100 / sides
        exact = exact[math.floor(len(exact) * outside) : math.ceil(len(exact) * (1 - outside))]
    low, high = min(float(exact[0]), 0.0), max(float(exact[-1]), 0.0)
    if recipe.symmetric:
        low, high = -max(-low, high), max(-low, high)
    if recipe.ranges != "mse":
        return low, high
    errors = []
    for factor in MSE_CANDIDATES:
        scale = (high - low) * factor / recipe.steps
        zero = np.round(-low * factor / scale)
        levels = np.clip(np.round(exact / scale) + zero, 0, recipe.steps)
        errors.append(float(np.square((levels - zero) * scale - exact).sum()))
    best = MSE_CANDIDATES[int(np.argmin(errors))]
    return low * best, high * best


def expected_weights(values: Array, recipe: Recipe, axis: int) -> tuple[Float64, int, Array]:
    """Return scale, zero point and integers that a recipe's words promise."""
    others = tuple(i for i in range(values.ndim) if i != axis) if recipe.per_channel else None
    largest = np.abs(values.astype(np.float64)).max(axis=others, keepdims=True)
    if recipe.weight == "u8":
        steps, zero_point, bounds = 127.5, 128, (0, 255)
    else:
        steps, zero_point, bounds = (64.0, 0, (-64, 64)) if recipe.reduced else (127.0, 0, (-127, 127))
    scale = (largest / steps).astype(np.float32)
    integers = np.clip(np.round(values / scale) + zero_point, *bounds)
    return scale.astype(np.float64).reshape(-1), zero_point, integers


# Arithmetic


@each_plain_recipe
@each_layer
def test_activation_scales_and_zero_points_are_those_of_numpy(
    make: Any, layer: str, weight: str, axis: int, reads: str, recipe: Recipe
) -> None:
    found = Graph(quantize(make(), recipe)).operand(layer, 0)
    low, high = expected_range(values_of(make(), reads), recipe)
    dtype, lowest, highest = ACTIVATIONS[recipe.activation]
    if recipe.symmetric and lowest < 0:
        lowest += 1
    # A histogram knows a value to a bin, and a candidate or its neighbour may have the least error.
    tolerance = {"minmax": 1e-5, "percentile": 1 / 1024, "mse": 0.006}[recipe.ranges]
    assert found.zero_point.dtype == dtype
    assert found.scale.dtype == np.float32
    assert float(found.scale) == pytest.approx((high - low) / (highest - lowest), rel=tolerance)
    expected = lowest + round(-low / ((high - low) / (highest - lowest)))
    if recipe.symmetric:
        assert int(found.zero_point) == (highest + lowest + 1) // 2
    else:
        assert abs(int(found.zero_point) - expected) <= (0 if recipe.ranges == "minmax" else 1)


@each_plain_recipe
@each_layer
def test_weight_scales_zero_points_and_integers_are_those_of_numpy(
    make: Any, layer: str, weight: str, axis: int, reads: str, recipe: Recipe
) -> None:
    found = Graph(quantize(make(), recipe)).operand(layer, 1)
    scale, zero_point, integers = expected_weights(weights(make())[weight], recipe, axis)
    assert found.integers is not None
    assert found.integers.dtype == (np.uint8 if recipe.weight == "u8" else np.int8)
    np.testing.assert_allclose(np.atleast_1d(found.scale), scale, rtol=2e-7)
    if recipe.per_channel or recipe.weight == "s8":
        assert set(np.atleast_1d(found.zero_point).tolist()) == {zero_point}
    np.testing.assert_array_equal(found.integers, integers)


@each_recipe
@each_layer
def test_each_output_channel_has_a_scale_of_its_own_exactly_if_the_recipe_says_so(
    make: Any, layer: str, weight: str, axis: int, reads: str, recipe: Recipe
) -> None:
    found = Graph(quantize(make(), recipe)).operand(layer, 1)
    if recipe.per_channel:
        assert found.axis == axis
        assert found.scale.shape == found.zero_point.shape == (weights(make())[weight].shape[axis],)
        assert len(set(found.scale.tolist())) > 1
    else:
        assert found.scale.shape == found.zero_point.shape == ()


@each_plain_recipe
@pytest.mark.parametrize(("layer", "bias"), [("conv", "conv_b"), ("fc", "fc_b")])
def test_a_bias_is_int32_in_units_of_the_products_it_is_added_to(layer: str, bias: str, recipe: Recipe) -> None:
    graph = Graph(quantize(small_cnn(), recipe))
    activation, weight, found = (graph.operand(layer, index) for index in range(3))
    unit = activation.scale.astype(np.float64) * weight.scale
    assert found.integers is not None
    assert found.integers.dtype == np.int32
    np.testing.assert_allclose(found.scale, unit, rtol=2e-7)
    np.testing.assert_allclose(found.integers, weights(small_cnn())[bias] / unit, rtol=1e-6, atol=0.51)


@each_recipe
@pytest.mark.parametrize("make", [small_cnn, signed_cnn])
def test_the_answers_are_near_those_of_float(make: Any, recipe: Recipe) -> None:
    expected = evaluate(make(), {"x": X})[0]
    found = run(quantize(make(), recipe))
    assert np.abs(found - expected).max() < 0.06 * np.abs(expected).max()
    assert (found.argmax(1) == expected.argmax(1)).mean() > 0.9


EXACT = [row for row in RECIPES.values() if row.exact_everywhere]


@pytest.mark.parametrize("recipe", EXACT, ids=lambda row: row.name)
@pytest.mark.parametrize("make", [small_cnn, signed_cnn])
def test_integer_kernels_give_what_the_graph_says(make: Any, recipe: Recipe) -> None:
    # evaluate() runs the graph node by node in float: no kernel can saturate there.
    data = quantize(make(), recipe)
    expected = evaluate(onnx.load_model_from_string(data), {"x": X})[0]
    # ONNX Runtime fuses weights of 8 bits that a Gemm or MatMul reads as [inputs, outputs] into MatMulNBits, which
    # rounds activations of 16 bits to 8 on its way.
    rounded_to_8_bits = recipe.activation_bits == 16 and make is signed_cnn
    tolerance = 0.02 if rounded_to_8_bits else 1e-6
    np.testing.assert_allclose(run(data), expected, rtol=0, atol=tolerance * np.abs(expected).max())


@each_refined_recipe
@each_layer
def test_a_refined_layer_has_the_ranges_and_scales_of_the_equalized_one_and_integers_beside_its_weights(
    make: Any, layer: str, weight: str, axis: int, reads: str, recipe: Recipe
) -> None:
    prepared = prepare(make(), IMAGES, recipe, name="ours.onnx", threads=1, progress=SILENT)
    graph = Graph(quantize(make(), recipe))
    low, high = expected_range(values_of(prepared.model, reads), recipe)
    assert float(graph.operand(layer, 0).scale) == pytest.approx((high - low) / 255, rel=1e-5)
    found = graph.operand(layer, 1)
    values = weights(prepared.model)[weight]
    scale, zero_point, nearest = expected_weights(values, recipe, axis)
    np.testing.assert_allclose(np.atleast_1d(found.scale), scale, rtol=2e-7)
    assert set(np.atleast_1d(found.zero_point).tolist()) == {zero_point}
    assert found.integers is not None
    assert -64 <= found.integers.min() <= found.integers.max() <= 64
    by_channel = found.scale.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
    assert np.abs(found.integers - values / by_channel).max() <= 1 + 1e-4
    assert np.abs(found.integers - nearest).max() <= 1


@each_refined_recipe
def test_refining_rounds_some_weights_the_other_way_and_comes_nearer_to_float(recipe: Recipe) -> None:
    plain = dataclasses.replace(recipe, equalize=False, adaptive_rounding=False, correct_bias=False)
    for make, weight, layer, axis in ((small_cnn, "fc_w", "fc", 0), (signed_cnn, "conv_w", "conv", 0)):
        model = prepare(make(), IMAGES, recipe, name="ours.onnx", threads=1, progress=SILENT).model
        expected = evaluate(make(), {"x": X})[0]
        refined = quantize(make(), recipe)
        nearest = expected_weights(weights(model)[weight], recipe, axis)[2]
        assert not np.array_equal(Graph(refined).operand(layer, 1).integers, nearest)  # type: ignore[arg-type]
        errors = [float(np.square(run(data) - expected).mean()) for data in (refined, quantize(make(), plain))]
        assert errors[0] < 0.7 * errors[1]


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 9), st.just(3), st.integers(1, 5), st.integers(1, 5)),
    factor=st.sampled_from([1e-12, 1e-3, 1.0, 1e6]),
    shift=st.sampled_from([-1.0, 0.0, 1.0]),
    zeros=st.booleans(),
)
@pytest.mark.parametrize(
    "recipe", [row for row in RECIPES.values() if row.reduced and row.weight == "s8"], ids=lambda row: row.name
)
def test_two_products_of_reduced_weights_always_fit_into_sixteen_bits(
    recipe: Recipe, seed: int, shape: tuple[int, ...], factor: float, shift: float, zeros: bool
) -> None:
    values = factor * (np.random.default_rng(seed).normal(size=shape) + shift)
    if zeros:
        values[0] = 0
    model = make_model(
        [node("Conv", ["x", "w"], ["y"], name="conv")], {"w": values}, outputs={"y": ("N", "C", "H", "W")}
    )
    integers = Graph(quantize(model, recipe, IMAGES.take(np.arange(2)))).operand("conv", 1).integers
    assert integers is not None
    assert -64 <= integers.min() <= integers.max() <= 64
    flat = np.abs(integers.astype(int)).ravel()  # in whatever order a kernel pairs them
    assert 255 * 2 * flat.max() <= 32767
    if not zeros:
        assert flat.max() == 64


def test_full_range_weights_do_not_fit_into_sixteen_bits() -> None:
    integers = Graph(quantize(small_cnn(), RECIPES["u8s8-perchannel-minmax"])).operand("conv", 1).integers
    assert integers is not None
    assert 255 * 2 * np.abs(integers.astype(int)).max() > 32767


# The graph


def tail_of(op: str, *constants: str, **attributes: Any) -> ModelProto:
    """Return the small network with one more node at its end."""
    model = small_cnn(tail=[node(op, ["logits", *constants], ["y"], name="last", **attributes)])
    extra = make_model([], {"zero": 0.0, "six": 6.0, "ones": np.ones(3)})
    model.graph.initializer.extend(tensor for tensor in extra.graph.initializer if tensor.name in constants)
    return model


@each_recipe
@pytest.mark.parametrize("make", [small_cnn, signed_cnn])
def test_the_logits_stay_float(make: Any, recipe: Recipe) -> None:
    data = quantize(make(), recipe)
    graph = Graph(data)
    assert graph.model.graph.output[0].name == "y"
    assert graph.producers["y"].op_type in ("Gemm", "MatMul")
    logits = run(data)
    assert logits.dtype == np.float32
    assert len(np.unique(logits)) > 0.95 * logits.size  # 8 bits would leave two thirds of them different


@pytest.mark.parametrize("last", [("Relu",), ("Clip", "zero", "six")], ids=["Relu", "Clip"])
@each_recipe
def test_a_network_that_ends_in_an_activation_keeps_it(last: tuple[str, ...], recipe: Recipe) -> None:
    model = tail_of(*last)
    expected, found = evaluate(model, {"x": X})[0], run(quantize(model, recipe))
    assert expected.min() == 0
    assert found.min() == 0
    largest = np.abs(evaluate(small_cnn(), {"x": X})[0]).max()
    assert np.abs(found - expected).max() < 0.06 * largest


@pytest.mark.parametrize("op", ["Softmax", "Sigmoid", "Identity", "Flatten"])
def test_a_network_that_ends_otherwise_gives_the_same_classes(op: str) -> None:
    model = tail_of(op)
    expected, found = evaluate(model, {"x": X})[0], run(quantize(model))
    assert (found.argmax(1) == expected.argmax(1)).mean() > 0.9


def test_a_residual_network_is_quantized_and_right() -> None:
    random = np.random.default_rng(0)
    model = make_model(
        [
            node("Conv", ["x", "w1"], ["stem"], pads=[1] * 4),
            node("Relu", ["stem"], ["a"]),
            node("Conv", ["a", "w2"], ["b"], pads=[1] * 4),
            node("Add", ["a", "b"], ["sum"]),
            node("Relu", ["sum"], ["c"]),
            node("GlobalAveragePool", ["c"], ["mean"]),
            node("Flatten", ["mean"], ["flat"]),
            node("Gemm", ["flat", "w3"], ["y"]),
        ],
        {
            "w1": random.normal(size=(4, 3, 3, 3)),
            "w2": random.normal(size=(4, 4, 3, 3)),
            "w3": random.normal(size=(4, 3)),
        },
        outputs={"y": ("N", 3)},
    )
    expected, found = evaluate(model, {"x": X})[0], run(quantize(model))
    assert np.abs(found - expected).max() < 0.06 * np.abs(expected).max()


def test_a_network_with_a_branch_is_quantized_around_it() -> None:
    body = helper.make_graph(
        [node("Relu", ["conv"], ["out"])], "body", [], [helper.make_tensor_value_info("out", 1, ["N", 4, 6, 6])]
    )
    model = small_cnn()
    model.graph.node[1].CopyFrom(node("If", ["yes"], ["relu"], then_branch=body, else_branch=body))
    model.graph.initializer.extend(make_model([], {"yes": np.array(True)}).graph.initializer)
    expected, found = evaluate(model, {"x": X})[0], run(quantize(model))
    assert np.abs(found - expected).max() < 0.06 * np.abs(expected).max()


@each_recipe
def test_a_layer_of_zeros_is_quantized(recipe: Recipe) -> None:
    model = small_cnn()
    for tensor in model.graph.initializer:
        if tensor.name == "fc_w":
            tensor.raw_data = bytes(len(tensor.raw_data))
    np.testing.assert_allclose(run(quantize(model, recipe)), evaluate(model, {"x": X})[0], rtol=0.02, atol=1e-3)


def test_a_fixed_batch_is_quantized_and_stays_fixed() -> None:
    data = quantize(small_cnn(batch=50))
    assert reference_session(data, model_name="int8").input.shape == (50, 3, 8, 8)
    np.testing.assert_array_equal(run(data), run(quantize(small_cnn())))


@each_recipe
def test_the_same_model_gives_the_same_bytes_under_any_name(recipe: Recipe) -> None:
    first = quantize(small_cnn(), recipe)
    second = quantize_model(
        small_cnn().SerializeToString(), IMAGES, recipe, name="/home/ada/secret.onnx", threads=2, progress=SILENT
    )
    assert first == second
    assert b"secret" not in first


def test_the_result_is_a_valid_model_that_says_it_is_quantized() -> None:
    model = onnx_file.parse(quantize(small_cnn()), "int8")
    assert onnx_file.is_quantized(model)
    assert (model.producer_name, model.ir_version) == ("edgecnn", 8)
    assert "float32" not in {str(array.dtype) for name, array in weights(model).items() if "scale" not in name}


def test_nothing_is_said_and_logging_goes_on(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    model = small_cnn()
    bias = node("Neg", ["fc_b"], ["computed"])  # the quantizer expects an initializer, and warns
    model.graph.node.insert(0, bias)
    model.graph.node[-1].input[2] = "computed"
    quantize(model)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records
    logging.getLogger("anyone").warning("still here")
    assert [record.message for record in caplog.records] == ["still here"]


# What is refused


def refused(
    error: type[EdgecnnError], model: ModelProto | bytes, images: Images = IMAGES, **settings: Any
) -> EdgecnnError:
    data = model if isinstance(model, bytes) else model.SerializeToString()
    with pytest.raises(error) as caught:
        quantize_model(data, images, settings.get("recipe", DEFAULT), name="their.onnx", threads=1, progress=SILENT)
    assert type(caught.value) is error
    assert caught.value.next_step
    return caught.value


def test_a_model_that_is_quantized_already_is_refused() -> None:
    error = refused(ModelError, quantize(small_cnn()))
    assert error.exit_code == ExitCode.BAD_INPUT
    assert "their.onnx: is quantized already" in error.message
    assert "float" in error.next_step


def test_a_model_without_a_layer_to_quantize_is_refused() -> None:
    model = make_model([node("Relu", ["x"], ["y"])], {}, outputs={"y": ("N", 3, 8, 8)})
    assert "their.onnx: has no convolution or fully connected layer" in refused(ModelError, model).message


def test_a_broken_file_is_refused_by_name() -> None:
    assert "their.onnx" in refused(ModelError, small_cnn().SerializeToString()[:-40]).message


def test_test_images_are_refused() -> None:
    assert "training images only" in refused(DataError, small_cnn(), make_images(9, size=8, split="test")).message


def test_no_images_are_refused() -> None:
    assert "no images" in refused(DataError, small_cnn(), IMAGES.take(np.arange(0))).message


def test_images_of_another_size_are_refused() -> None:
    assert "9x9" in refused(ModelError, small_cnn(), make_images(4, size=9)).message


def test_a_layer_that_gives_nan_is_named() -> None:
    nodes = [node("Sqrt", ["logits"], ["y"], name="square_root")]
    assert "the layer square_root gives NaN" in refused(StageError, small_cnn(tail=nodes)).message


def test_two_inputs_are_refused() -> None:
    model = small_cnn()
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))
    assert "expected one input, found 2: x, mask" in refused(ModelError, model).message


def of_opset(version: int) -> ModelProto:
    return make_model(
        [
            node("Conv", ["x", "w"], ["conv"]),
            node("Flatten", ["conv"], ["flat"]),
            node("MatMul", ["flat", "fc"], ["y"]),
        ],
        {"w": np.random.default_rng(0).normal(size=(4, 3, 3, 3)), "fc": np.random.default_rng(1).normal(size=(144, 3))},
        outputs={"y": ("N", 3)},
        opset=version,
    )


@each_recipe
@pytest.mark.parametrize("version", [9, 10, 12, 13, 17, 21])
def test_an_opset_works_or_is_refused_with_the_one_that_works(version: int, recipe: Recipe) -> None:
    least = 13 if recipe.per_channel else 10
    if version < least:
        error = refused(ModelError, of_opset(version), recipe=recipe)
        assert f"their.onnx: is of opset {version}" in error.message
        assert f"needs opset {least}" in error.message
        assert f"convert_version(model, {least})" in error.next_step
    else:
        expected, found = evaluate(of_opset(version), {"x": X})[0], run(quantize(of_opset(version), recipe))
        assert np.abs(found - expected).max() < 0.06 * np.abs(expected).max()
