"""What is read off a quantized graph: its integer layers, and the values that their activations can have."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto

from edgecnn.quantization.calibration import choose_calibration_images
from edgecnn.quantization.integers import IntegerLayer, integer_layers
from edgecnn.quantization.recipes import RECIPES
from edgecnn.quantization.static import quantize_model
from tests.graphs import evaluate, make_model, node
from tests.integer_layers import layer_model


def only(data: bytes) -> IntegerLayer:
    (layer,) = integer_layers(ModelProto.FromString(data))
    return layer


def chain(nodes: list[NodeProto], *, scale: float = 0.1, zero: int = 0, **constants: Any) -> ModelProto:
    """Return x, the nodes, quantize, dequantize and Gemm; the nodes end in ``act``."""
    return make_model(
        [
            *nodes,
            node("QuantizeLinear", ["act", "s", "z"], ["q"]),
            node("DequantizeLinear", ["q", "s", "z"], ["d"]),
            node("DequantizeLinear", ["w", "one"], ["wd"]),
            node("MatMul", ["d", "wd"], ["y"], name="layer"),
        ],
        {"s": np.float32(scale), "z": np.uint8(zero), "one": np.float32(1), "w": np.ones((4, 2), np.int8), **constants},
        inputs={"x": ("N", 4)},
    )


def attainable(model: ModelProto) -> tuple[int, int]:
    (layer,) = integer_layers(model)
    return layer.activation


@pytest.mark.parametrize(
    ("nodes", "constants", "expected"),
    [
        ([node("Identity", ["x"], ["act"])], {}, (0, 255)),
        ([node("Sigmoid", ["x"], ["act"])], {}, (7, 17)),
        ([node("Softmax", ["x"], ["act"])], {}, (7, 17)),
        ([node("Tanh", ["x"], ["act"])], {}, (0, 17)),
        ([node("Relu", ["x"], ["act"])], {}, (7, 255)),
        ([node("Clip", ["x", "least", "most"], ["act"])], {"least": np.float32(-0.3), "most": np.float32(6)}, (4, 67)),
        ([node("Clip", ["x", "", "most"], ["act"])], {"most": np.float32(6)}, (0, 67)),
        ([node("Sigmoid", ["x"], ["a"]), node("Flatten", ["a"], ["act"])], {}, (7, 17)),
        ([node("Sigmoid", ["x"], ["a"]), node("Relu", ["x"], ["b"]), node("Concat", ["a", "b"], ["act"], axis=1)],
         {"w": np.ones((8, 2), np.int8)}, (7, 255)),
        ([node("Relu", ["x"], ["a"]), node("Neg", ["a"], ["act"])], {}, (0, 255)),
    ],
)  # fmt: skip
def test_the_attainable_range(nodes: list[NodeProto], constants: dict[str, Any], expected: tuple[int, int]) -> None:
    assert attainable(chain(nodes, zero=7, **constants)) == expected


@given(
    scale=st.floats(0.001, 2),
    zero=st.integers(0, 255),
    low=st.floats(-5, 5),
    width=st.floats(0, 5),
    values=st.lists(st.floats(-20, 20, width=32), min_size=4, max_size=4),
)
def test_no_value_that_onnx_runtime_makes_lies_outside(
    scale: float, zero: int, low: float, width: float, values: list[float]
) -> None:
    model = chain(
        [node("Clip", ["x", "least", "most"], ["act"])],
        scale=scale,
        zero=zero,
        least=np.float32(low),
        most=np.float32(low + width),
        w=np.eye(4, dtype=np.int8),
    )
    least, most = attainable(model)
    (made,) = evaluate(model, {"x": np.array([values, [-20, 20, 0, low]], np.float32)})
    integers = np.rint(made / np.float32(scale)) + zero
    assert least - 0.01 <= integers.min() <= integers.max() <= most + 0.01


def test_a_range_goes_through_a_second_pair_of_quantize_and_dequantize() -> None:
    model = chain(
        [
            node("Sigmoid", ["x"], ["a"]),
            node("QuantizeLinear", ["a", "half", "z"], ["b"]),
            node("Reshape", ["b", "shape"], ["c"]),
            node("DequantizeLinear", ["c", "half", "z"], ["act"]),
        ],
        half=np.float32(0.5),
        shape=np.array([-1, 4]),
    )
    assert attainable(model) == (0, 10)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("op", ["Gemm", "QGemm", "QLinearMatMul", "MatMulInteger"])
def test_the_type_of_the_activation_is_that_of_its_zero_point(op: str, signed: bool) -> None:
    layer = only(layer_model(op, np.ones((4, 4), np.int8), [0] * 4, shape=[4], signed=signed))
    assert layer.signed_activation == signed
    assert layer.activation == ((-128, 127) if signed else (0, 255))
    assert layer.qdq == (op == "Gemm")
    assert (layer.name, layer.op) == ("layer", op)


def test_weights_are_laid_out_in_the_order_of_the_dot_product() -> None:
    kernel = np.arange(2 * 3 * 2 * 2, dtype=np.int8).reshape(2, 3, 2, 2)
    found = only(layer_model("Conv", kernel, [0, 0], shape=[3, 4, 4])).weights
    assert found is not None
    expected = [[kernel[m, c, h, w] for h in range(2) for w in range(2) for c in range(3)] for m in range(2)]
    np.testing.assert_array_equal(found, expected)
    matrix = np.arange(12, dtype=np.int8).reshape(4, 3)
    for op, trans_b, expected_rows in (("MatMul", False, matrix.T), ("Gemm", False, matrix.T), ("Gemm", True, matrix)):
        bias, length = [0] * len(expected_rows), expected_rows.shape[1]
        layer = only(layer_model(op, matrix, bias, shape=[length], trans_b=trans_b))
        np.testing.assert_array_equal(np.asarray(layer.weights), expected_rows)


@pytest.mark.parametrize(
    ("shape", "group", "depthwise"), [((4, 1), 4, True), ((8, 1), 4, False), ((4, 2), 2, False), ((1, 1), 1, False)]
)
def test_depthwise_is_one_input_channel_for_each_output(shape: tuple[int, int], group: int, depthwise: bool) -> None:
    kernel = np.ones((*shape, 3, 3), np.int8)
    model = layer_model("Conv", kernel, [0] * shape[0], shape=[shape[1] * group, 4, 4], group=group)
    assert only(model).depthwise == depthwise


def test_weights_that_are_computed_are_not_known() -> None:
    model = make_model(
        [
            node("QuantizeLinear", ["x", "one", "z"], ["q"]),
            node("DequantizeLinear", ["q", "one", "z"], ["d"]),
            node("Transpose", ["q"], ["t"]),
            node("DequantizeLinear", ["t", "one", "z"], ["td"]),
            node("MatMul", ["d", "td"], ["y"]),
        ],
        {"one": np.float32(1), "z": np.int8(0)},
        inputs={"x": (3, 4)},
    )
    (layer,) = integer_layers(model)
    assert layer.weights is None
    assert layer.name == "make_y"


def test_a_layer_in_float_is_none() -> None:
    model = make_model([node("MatMul", ["x", "w"], ["y"])], {"w": np.ones((4, 2))}, inputs={"x": ("N", 4)})
    assert list(integer_layers(model)) == []


@pytest.mark.parametrize("name", RECIPES)
def test_every_layer_of_every_recipe_is_found(name: str, digits_cnn: bytes) -> None:
    from edgecnn.data import load
    from edgecnn.progress import SILENT

    images, _ = choose_calibration_images(load("digits", height=32, width=32), 16, 0)
    data = quantize_model(digits_cnn, images, RECIPES[name], name="x", threads=1, progress=SILENT)
    layers = list(integer_layers(ModelProto.FromString(data)))
    assert [layer.op for layer in layers] == ["Conv", "Gemm"]
    for layer in layers:
        assert layer.weights is not None
        assert layer.weights.dtype == (np.uint8 if RECIPES[name].weight == "u8" else np.int8)
        assert layer.signed_activation == (RECIPES[name].activation == "s8")
        assert RECIPES[name].weight == "u8" or layer.weights.min() >= -127, "-128 would overflow on Arm"


@pytest.fixture(scope="module")
def digits_cnn() -> bytes:
    """Return a convolution and a fully connected layer for 32x32 images."""
    random = np.random.default_rng(0)
    model = make_model(
        [
            node("Conv", ["input", "k"], ["c"], name="conv"),
            node("Relu", ["c"], ["r"], name="relu"),
            node("GlobalAveragePool", ["r"], ["p"], name="pool"),
            node("Flatten", ["p"], ["f"], name="flat"),
            node("Gemm", ["f", "w"], ["logits"], name="fc"),
        ],
        {"k": random.normal(size=(4, 3, 3, 3)), "w": random.normal(size=(4, 10))},
        inputs={"input": ("N", 3, 32, 32)},
        outputs={"logits": ("N", 10)},
    )
    return bytes(model.SerializeToString())
