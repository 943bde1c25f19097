"""The last rounding taken away: from answers, and from nothing that a layer reads on."""

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper

from edgecnn.graph import onnx_file
from edgecnn.progress import SILENT
from edgecnn.quantization import recipe
from edgecnn.quantization.float_output import keep_output_float
from edgecnn.quantization.prepare import prepare
from edgecnn.quantization.static import quantize_prepared
from tests.graphs import Array, copy, evaluate, make_model, node, small_cnn
from tests.quantization.test_static import IMAGES, X, quantize

SCALE: dict[str, Array] = {"scale": np.array(0.5, np.float32), "zero": np.array(3, np.uint8)}


def add_output(model: ModelProto, *tensors: str) -> ModelProto:
    twin = copy(model)
    twin.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", None]) for name in tensors)
    return twin


def pair(source: str, target: str) -> list[NodeProto]:
    return [
        node("QuantizeLinear", [source, "scale", "zero"], [f"{source}_integers"]),
        node("DequantizeLinear", [f"{source}_integers", "scale", "zero"], [target]),
    ]


def ops(model: ModelProto) -> list[str]:
    return [item.op_type for item in model.graph.node]


def is_rounded(values: Array) -> bool:
    return bool((values / 0.5 == np.round(values / 0.5)).all())


def test_the_pair_before_an_output_goes() -> None:
    model = make_model([node("Sin", ["x"], ["s"]), *pair("s", "y")], SCALE, outputs={"y": ("N", 3, 8, 8)})
    keep_output_float(model, {})
    assert ops(model) == ["Sin"]
    np.testing.assert_allclose(evaluate(model, {"x": X})[0], np.sin(X), rtol=1e-5)


@pytest.mark.parametrize("last", ["Relu", "Clip"])
def test_not_where_it_stands_in_for_an_activation(last: str) -> None:
    model = make_model([node("Sin", ["x"], ["s"]), *pair("s", "y")], SCALE, outputs={"y": ("N", 3, 8, 8)})
    keep_output_float(model, {"y": last})
    assert is_rounded(evaluate(model, {"x": X})[0])


def test_not_where_what_was_rounded_is_read_by_another() -> None:
    model = make_model(
        [node("Sin", ["x"], ["s"]), *pair("s", "y"), node("Neg", ["s"], ["other"])],
        SCALE,
        outputs={"y": ("N", 3, 8, 8), "other": ("N", 3, 8, 8)},
    )
    keep_output_float(model, {})
    rounded, other = evaluate(model, {"x": X})
    assert is_rounded(rounded)
    np.testing.assert_allclose(other, -np.sin(X), rtol=1e-5)


def test_not_where_a_layer_reads_on() -> None:
    model = make_model(
        [node("Sin", ["x"], ["s"]), *pair("s", "y"), node("Conv", ["y", "w"], ["z"])],
        SCALE | {"w": np.ones((1, 3, 1, 1))},
        outputs={"y": ("N", 3, 8, 8), "z": ("N", 1, 8, 8)},
    )
    keep_output_float(model, {})
    assert is_rounded(evaluate(model, {"x": X})[0])


def test_an_input_that_is_an_output_stays_rounded() -> None:
    model = make_model(pair("x", "y"), SCALE, outputs={"y": ("N", 3, 8, 8)})
    keep_output_float(model, {})
    assert ops(model) == ["QuantizeLinear", "DequantizeLinear"]


@pytest.mark.parametrize("name", ["u8s8-perchannel-minmax-reduced", "s8s8-pertensor-mse-symmetric"])
def test_features_given_beside_the_logits_are_still_read_as_integers(name: str) -> None:
    model = add_output(small_cnn(), "flat")
    prepared = prepare(model, IMAGES, recipe(name), name="ours", threads=1, progress=SILENT)
    assert quantize_prepared(prepared, IMAGES, recipe(name), threads=1, progress=SILENT).float_layers == ()


def test_logits_and_probabilities_together_are_both_float() -> None:
    model = add_output(small_cnn(tail=[node("Softmax", ["logits"], ["y"])]), "logits")
    quantized = onnx_file.parse(quantize(model), "int8")
    assert ops(quantized)[-2:] == ["Gemm", "Softmax"]
    probabilities, logits = evaluate(quantized, {"x": X})
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    np.testing.assert_allclose(probabilities, exponents / exponents.sum(1, keepdims=True), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", ["u8s8-perchannel-minmax", "s8s8-perchannel-minmax-rounded-corrected"])
def test_a_recipe_may_keep_the_answer_rounded(name: str) -> None:
    model = small_cnn()
    plain, whole = (onnx_file.parse(quantize(model, recipe(chosen)), "int8") for chosen in (name, f"{name}-qoutput"))
    assert [ops(each)[-1] for each in (plain, whole)] == ["Gemm", "DequantizeLinear"]
    assert ops(whole)[-2] == "QuantizeLinear"
    (logits,) = evaluate(whole, {"x": X})
    assert len(np.unique(logits)) <= 256
    assert np.abs(logits - evaluate(plain, {"x": X})[0]).max() > 0
