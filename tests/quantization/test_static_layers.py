"""Every kind of layer by every kind of recipe: the file loads, runs, and answers as float does."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from edgecnn.errors import ExitCode, StageError
from edgecnn.graph import onnx_file
from edgecnn.progress import SILENT
from edgecnn.quantization import recipe
from edgecnn.quantization.prepare import prepare
from edgecnn.quantization.static import quantize_prepared
from tests.graphs import evaluate, make_model, node, small_cnn
from tests.quantization.test_static import IMAGES, X, quantize, run

RECIPE_NAMES = [
    "u8s8-perchannel-minmax-reduced",
    "u8s8-perchannel-minmax-reduced-equalized-rounded-corrected",
    "s8s8-pertensor-minmax-symmetric",
    "u8u8-perchannel-mse",
    "u16s8-perchannel-percentile",
    "s16s8-perchannel-entropy-symmetric",
    "u8s8-perchannel-minmax-qoperator",
    "u8u8-pertensor-mse-qoperator",
    "s8s8-perchannel-minmax-symmetric-qoperator",
    "u8s8-pertensor-minmax-reduced-equalized-qoperator",
]
each_recipe = pytest.mark.parametrize("name", RECIPE_NAMES)
RANDOM = np.random.default_rng(5)


def draw(*shape: int) -> Any:
    """Return weights whose first axis differs in size."""
    return RANDOM.normal(size=shape) * RANDOM.uniform(0.3, 3, size=(shape[0], *[1] * (len(shape) - 1)))


def odd_channels_without_bias() -> ModelProto:
    return make_model(
        [
            node("Conv", ["x", "w1"], ["a"], name="first", pads=[1] * 4),
            node("Relu", ["a"], ["b"]),
            node("Conv", ["b", "w2"], ["c"], name="second", strides=[2, 2]),
            node("GlobalAveragePool", ["c"], ["d"]),
            node("Flatten", ["d"], ["y"]),
        ],
        {"w1": draw(7, 3, 3, 3), "w2": draw(5, 7, 3, 3)},
        outputs={"y": ("N", 5)},
    )


def residual() -> ModelProto:
    return make_model(
        [
            node("Conv", ["x", "w1", "b1"], ["a"], name="first", pads=[1] * 4),
            node("Relu", ["a"], ["r"]),
            node("Conv", ["r", "w2"], ["c"], name="second", pads=[1] * 4),
            node("Add", ["c", "r"], ["s"], name="add"),
            node("Relu", ["s"], ["t"]),
            node("Concat", ["t", "r", "x"], ["u"], name="concat", axis=1),
            node("AveragePool", ["u"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
            node("Flatten", ["p"], ["f"]),
            node("Gemm", ["f", "w3", "b3"], ["y"], name="fc"),
        ],
        {"w1": draw(4, 3, 3, 3), "b1": draw(4), "w2": draw(4, 4, 3, 3), "w3": draw(176, 3), "b3": draw(3)},
        outputs={"y": ("N", 3)},
    )


def depthwise() -> ModelProto:
    return make_model(
        [
            node("Conv", ["x", "w1", "b1"], ["a"], name="stem"),
            node("Clip", ["a", "zero", "six"], ["r"]),
            node("Conv", ["r", "w2", "b2"], ["c"], name="depthwise", group=6, pads=[1] * 4),
            node("Clip", ["c", "zero", "six"], ["t"]),
            node("Conv", ["t", "w3"], ["u"], name="pointwise"),
            node("Conv", ["u", "w4"], ["v"], name="grouped", group=2, kernel_shape=[3, 3]),
            node("Flatten", ["v"], ["f"]),
            node("Gemm", ["f", "w5"], ["y"], name="fc"),
        ],
        {
            "w1": draw(6, 3, 3, 3),
            "b1": draw(6),
            "zero": 0.0,
            "six": 6.0,
            "w2": draw(6, 1, 3, 3),
            "b2": draw(6),
            "w3": draw(8, 6, 1, 1),
            "w4": draw(4, 4, 3, 3),
            "w5": draw(64, 3),
        },
        outputs={"y": ("N", 3)},
    )


def transposed() -> ModelProto:
    return make_model(
        [
            node("Conv", ["x", "w1", "b1"], ["a"], name="down", strides=[2, 2]),
            node("Relu", ["a"], ["r"]),
            node("ConvTranspose", ["r", "w2", "b2"], ["c"], name="up", strides=[2, 2]),
            node("Relu", ["c"], ["t"]),
            node("Conv", ["t", "w3"], ["d"], name="last"),
            node("Flatten", ["d"], ["y"]),
        ],
        {"w1": draw(4, 3, 3, 3), "b1": draw(4), "w2": draw(4, 5, 2, 2), "b2": draw(5), "w3": draw(2, 5, 3, 3)},
        outputs={"y": ("N", 32)},
    )


def products(trans_a: int = 0, trans_b: int = 0) -> ModelProto:
    features, n = 144, len(IMAGES)
    return make_model(
        [
            node("Conv", ["x", "w1"], ["a"], name="conv"),
            node("Flatten", ["a"], ["f"]),
            *([node("Transpose", ["f"], ["g"], perm=[1, 0])] if trans_a else []),
            node("Gemm", ["g" if trans_a else "f", "w2", "b2"], ["h"], name="gemm", transA=trans_a, transB=trans_b),
            node("MatMul", ["h", "w3"], ["m"], name="matmul"),
            node("Add", ["m", "b3"], ["y"]),
        ],
        {
            "w1": draw(4, 3, 3, 3),
            "w2": draw(9, features) if trans_b else draw(features, 9),
            "b2": draw(9),
            "w3": draw(9, 3),
            "b3": draw(3),
        },
        inputs={"x": (n if trans_a else "N", 3, 8, 8)},
        outputs={"y": (n if trans_a else "N", 3)},
    )


NETS: dict[str, Callable[[], ModelProto]] = {
    "odd channels without bias": odd_channels_without_bias,
    "residual": residual,
    "depthwise": depthwise,
    "transposed": transposed,
    "gemm": products,
    "gemm transB": lambda: products(trans_b=1),
    "gemm transA": lambda: products(trans_a=1),
    "gemm transA transB": lambda: products(trans_a=1, trans_b=1),
}
MODELS = {name: make() for name, make in NETS.items()}


@each_recipe
@pytest.mark.parametrize("net", MODELS)
def test_a_network_is_quantized_and_answers_as_float_does(net: str, name: str) -> None:
    expected = evaluate(MODELS[net], {"x": X})[0]
    found = run(quantize(MODELS[net], recipe(name)))
    error, spread = float(np.square(found - expected).mean()), float(expected.var())
    assert error < 0.01 * spread, "20 dB"
    assert np.abs(found - expected).max() < 0.1 * np.abs(expected).max()


@each_recipe
def test_the_same_network_gives_the_same_bytes(name: str) -> None:
    assert quantize(residual_twice[0], recipe(name)) == quantize(residual_twice[1], recipe(name), threads=2)


residual_twice = [ModelProto.FromString(MODELS["residual"].SerializeToString()) for _ in range(2)]


# What stayed float


def float_layers(model: ModelProto, name: str) -> tuple[str, ...]:
    prepared = prepare(model, IMAGES, recipe(name), name="ours", threads=1, progress=SILENT)
    return quantize_prepared(prepared, IMAGES, recipe(name), threads=1, progress=SILENT).float_layers


@pytest.mark.parametrize("net", MODELS)
def test_pairs_of_quantize_and_dequantize_leave_no_layer_float(net: str) -> None:
    assert float_layers(MODELS[net], RECIPE_NAMES[0]) == ()


def test_operators_on_integers_leave_a_transposed_convolution_float_and_say_so() -> None:
    assert float_layers(MODELS["transposed"], "u8s8-perchannel-minmax-qoperator") == ("up",)
    assert float_layers(MODELS["residual"], "u8s8-perchannel-minmax-qoperator") == ()


def test_operators_on_integers_are_what_the_recipe_says() -> None:
    ops = {item.op_type for item in onnx_file.parse(quantize(residual(), recipe(RECIPE_NAMES[6])), "int8").graph.node}
    assert {"QLinearConv", "QLinearAdd", "QLinearConcat", "QGemm", "QLinearAveragePool"} <= ops
    assert not ops & {"Conv", "Add", "Concat", "Gemm", "AveragePool"}


@pytest.mark.parametrize(("opset", "domain"), [(18, "com.microsoft"), (21, "")])
def test_sixteen_bits_are_written_by_the_operators_that_the_opset_has(opset: int, domain: str) -> None:
    model = small_cnn()
    model.opset_import[0].version = opset
    model.ir_version = 10
    written = onnx_file.parse(quantize(model, recipe("u16s8-perchannel-minmax")), "int8")
    assert {item.domain for item in written.graph.node if item.op_type == "QuantizeLinear"} == {domain}
    expected = evaluate(model, {"x": X})[0]
    assert np.abs(run(written.SerializeToString()) - expected).max() < 0.01 * np.abs(expected).max()


# Several outputs


@each_recipe
@pytest.mark.parametrize("extra", [["relu"], ["conv"], ["flat"], ["pool", "relu", "conv"]], ids="-".join)
def test_several_outputs_keep_their_names_order_and_values(extra: list[str], name: str) -> None:
    model = small_cnn()
    for tensor in extra:
        shape = ["N", None, None, None] if tensor != "flat" else ["N", None]
        model.graph.output.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, shape))
    quantized = onnx_file.parse(quantize(model, recipe(name)), "int8")
    assert [output.name for output in quantized.graph.output] == ["y", *extra]
    for found, expected in zip(evaluate(quantized, {"x": X}), evaluate(model, {"x": X}), strict=True):
        assert np.abs(found - expected).max() < 0.06 * np.abs(expected).max()
        assert (found.min() >= 0) == (expected.min() >= 0)


# Layers without names


def unnamed() -> ModelProto:
    model = small_cnn()
    for item in model.graph.node:
        item.name = ""
    return model


@each_recipe
def test_layers_without_names_are_quantized_alike(name: str) -> None:
    np.testing.assert_array_equal(run(quantize(unnamed(), recipe(name))), run(quantize(small_cnn(), recipe(name))))


# Broken networks


@each_recipe
@pytest.mark.parametrize(("signs", "why"), [([1, 1, 1], "infinity"), ([1, -1, 1], "infinity minus infinity")])
def test_a_layer_that_overflows_is_named_whatever_the_recipe(name: str, signs: list[int], why: str) -> None:
    broken = ModelProto.FromString(MODELS["residual"].SerializeToString())
    large = np.float32(3e38) * np.array(signs, np.float32).reshape(1, 3, 1, 1) * np.ones((4, 3, 3, 3), np.float32)
    for tensor in broken.graph.initializer:
        if tensor.name == "w1":
            tensor.raw_data = large.tobytes()
    with pytest.raises(StageError, match="the layer first gives NaN or infinite values") as caught:
        quantize(broken, recipe(name))
    assert caught.value.exit_code == ExitCode.STAGE_FAILED
    assert caught.value.next_step
