"""Finding the float layer that a quantized layer was made from, and its integers."""

import numpy as np
import pytest
from onnx import ModelProto

from edgecnn.errors import ExitCode, ModelError
from edgecnn.progress import SILENT
from edgecnn.quantization import RECIPES
from edgecnn.quantization.layer_pairs import ConstantReader, QuantizedTensor, match_layers
from edgecnn.quantization.static import quantize_model
from tests.graphs import copy, make_model, node, small_cnn, weights
from tests.support import make_images

IMAGES = make_images(20, size=8)
PER_CHANNEL, PER_TENSOR = "u8s8-perchannel-minmax", "u8s8-pertensor-minmax"


def quantize(model: ModelProto, recipe: str = PER_CHANNEL) -> ModelProto:
    data = model.SerializeToString()
    return ModelProto.FromString(quantize_model(data, IMAGES, RECIPES[recipe], name="ours", threads=1, progress=SILENT))


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("recipe", [PER_CHANNEL, PER_TENSOR])
def test_layers_are_found_by_name_or_by_their_weights(recipe: str, named: bool) -> None:
    model = small_cnn()
    if not named:
        for one in model.graph.node:
            one.name = ""
    pairs = match_layers(model, quantize(model, recipe))
    assert [pair.float_node.output[0] for pair in pairs] == ["conv", "y"]
    assert [pair.depth for pair in pairs] == [0, 1]
    for pair in pairs:
        exact = weights(model)[pair.float_node.input[1]]
        scale, zero = pair.weight.along_axis(pair.weight.scale), pair.weight.along_axis(pair.weight.zero_point)
        np.testing.assert_allclose((pair.weight.integers.astype(float) - zero) * scale, exact, atol=0.51 * scale.max())


def test_branches_have_their_own_depth() -> None:
    random = np.random.default_rng(0)
    shape = (3, 3, 1, 1)
    model = make_model(
        [
            node("Conv", ["x", "w1"], ["a"], name="one"),
            node("Conv", ["a", "w2"], ["b"], name="long"),
            node("Conv", ["x", "w3"], ["c"], name="short"),
            node("Concat", ["b", "c"], ["d"], axis=1),
            node("Conv", ["d", "w4"], ["y"], name="last"),
        ],
        {f"w{index}": random.normal(size=shape) for index in (1, 2, 3)} | {"w4": random.normal(size=(3, 6, 1, 1))},
        outputs={"y": ("N", 3, 8, 8)},
    )
    pairs = match_layers(model, quantize(model))
    assert {pair.name: pair.depth for pair in pairs} == {"one": 0, "short": 0, "long": 1, "last": 2}


def test_layers_without_a_name_that_share_their_weights_cannot_be_told_apart() -> None:
    model = make_model(
        [
            node("Conv", ["x", "w"], ["a"], name="one"),
            node("Conv", ["a", "w"], ["y"], name="two"),
        ],
        {"w": np.random.default_rng(0).normal(size=(3, 3, 1, 1))},
        outputs={"y": ("N", 3, 8, 8)},
    )
    quantized = quantize(model, PER_TENSOR)
    assert [pair.float_node.output[0] for pair in match_layers(model, quantized)] == ["a", "y"]
    for one in quantized.graph.node:
        one.name = ""
    with pytest.raises(ModelError, match=r"layer a \(Conv, weights w\) has no counterpart"):
        match_layers(model, quantized)


def test_a_model_of_another_network_is_refused() -> None:
    other = make_model([node("Conv", ["x", "v"], ["y"], name="else")], {"v": np.ones((2, 3, 1, 1))},
                       outputs={"y": ("N", 2, 8, 8)})  # fmt: skip
    with pytest.raises(ModelError, match=r"layer conv \(Conv, weights conv_w\) has no counterpart") as caught:
        match_layers(other, quantize(small_cnn()))
    assert caught.value.exit_code == ExitCode.BAD_INPUT
    assert "both files of the same run" in caught.value.next_step


def test_a_layer_of_another_kind_is_no_counterpart() -> None:
    other = copy(small_cnn())
    other.graph.node[0].op_type = "ConvTranspose"
    with pytest.raises(ModelError, match="layer conv"):
        match_layers(other, quantize(small_cnn()))


def test_a_product_with_a_stack_of_matrices_is_no_layer() -> None:
    model = make_model(
        [node("Conv", ["x", "w"], ["a"], name="conv"), node("MatMul", ["a", "stack"], ["y"], name="stacked")],
        {"w": np.ones((3, 3, 1, 1)), "stack": np.random.default_rng(0).normal(size=(3, 8, 2))},
        outputs={"y": ("N", 3, 8, 2)},
    )
    assert [pair.name for pair in match_layers(model, quantize(model, PER_TENSOR))] == ["conv"]


def test_a_float_model_has_no_quantized_layer() -> None:
    with pytest.raises(ModelError, match="no quantized layer"):
        match_layers(small_cnn(), small_cnn())


def test_scales_lie_along_their_axis() -> None:
    dequantize = node("DequantizeLinear", ["i", "s", "z"], ["o"], axis=1)
    tensor = QuantizedTensor(
        dequantize=dequantize,
        integers=np.zeros((4, 3, 2), np.int8),
        scale=np.ones(3, np.float32),
        zero_point=np.zeros((), np.int8),
        axis=1,
    )
    assert tensor.along_axis(tensor.scale).shape == (1, 3, 1)
    assert tensor.along_axis(tensor.zero_point).shape == (1, 1, 1)


def test_a_zero_point_that_is_left_out_is_zero() -> None:
    model = make_model([node("DequantizeLinear", ["i", "s"], ["y"])], {"s": np.array(0.5)})
    model.graph.initializer.extend(make_model([], {"i": np.array([1, 2])}).graph.initializer)
    found = ConstantReader(model).dequantized("y")
    assert found is not None
    assert (found.zero_point.item(), found.integers.tolist(), found.scale.item()) == (0, [1, 2], 0.5)


def test_what_is_not_constant_is_no_quantized_constant() -> None:
    quantized = quantize(small_cnn())
    reader = ConstantReader(quantized)
    layer = next(one for one in quantized.graph.node if one.name == "conv")
    assert reader.dequantized(layer.input[0]) is None
    assert reader.scale(layer.input[0]) is not None
    assert reader.scale("x") is None
