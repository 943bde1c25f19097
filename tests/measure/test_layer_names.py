"""Which layer an operator of ONNX Runtime is, by the names that fusing leaves behind."""

import pytest

from edgecnn.measure.layer_names import Layer, LayerNames, is_weighted, twins
from tests.graphs import make_model, node

#: Two convolutions, the second with a residual added, and a Gemm; as ONNX Runtime 1.32 fuses them it calls them
#: ``relu_nchwc``, ``sum_nchwc`` and ``fused fc``.
FLOAT = LayerNames(
    make_model(
        [
            node("Conv", ["x", "w1"], ["c1"], name="conv_1"),
            node("Relu", ["c1"], ["relu"], name="act"),
            node("Conv", ["relu", "w2"], ["c2"], name="conv_2"),
            node("Add", ["relu", "c2"], ["sum"], name="add"),
            node("Flatten", ["sum"], ["flat"], name="flatten"),
            node("Gemm", ["flat", "w3"], ["y"], name="fc"),
        ],
        {"w1": [1.0], "w2": [2.0], "w3": [3.0]},
    )
)
#: The same as integers, whose nodes were renamed but for the first.
INT8 = LayerNames(
    make_model(
        [
            node("DequantizeLinear", ["w1_quantized", "s"], ["w1_DequantizeLinear_Output"], name="w1_DequantizeLinear"),
            node("DequantizeLinear", ["w2_quantized", "s"], ["w2_DequantizeLinear_Output"], name="w2_DequantizeLinear"),
            node("Conv", ["x", "w1_DequantizeLinear_Output"], ["c1"], name="conv_1"),
            node("Conv", ["c1", "w2_DequantizeLinear_Output"], ["c2"], name="other"),
            node("Gemm", ["c2", "unknown"], ["y"], name="new"),
        ],
        {"w1_quantized": [1], "w2_quantized": [2], "s": [0.5]},
    )
)


@pytest.mark.parametrize(
    ("name", "op", "layer"),
    [
        ("conv_1", "Conv", "conv_1"),
        ("conv_1_token_17", "QLinearConv", "conv_1"),
        ("relu_nchwc", "Conv", "conv_1"),  # named after the activation's output
        ("relu", "Conv", "conv_1"),
        ("act", "FusedConv", "conv_1"),  # named after the activation's node
        ("c2_nchwc", "Conv", "conv_2"),
        ("sum_nchwc", "Conv", "conv_2"),  # an addition was fused into it, whose other input is older
        ("fused fc", "FusedGemm", "fc"),
        ("fused fc_token_3", "FusedGemm", "fc"),
        ("flatten", "Flatten", None),
        ("ReorderOutput_token_5", "ReorderOutput", None),
        ("act", "Relu", None),
        ("nobody_knows", "Conv", None),
    ],
)
def test_an_operator_is_found_by_what_it_was_named_after(name: str, op: str, layer: str | None) -> None:
    found = FLOAT.find(name, op)
    assert (found.name if found else None) == layer


def test_layers_are_listed_in_the_order_of_the_graph_with_their_weights() -> None:
    assert FLOAT.layers == (
        Layer(name="conv_1", op="Conv", weight="w1"),
        Layer(name="conv_2", op="Conv", weight="w2"),
        Layer(name="fc", op="Gemm", weight="w3"),
    )
    assert [layer.weight for layer in INT8.layers] == ["w1", "w2", "unknown"]


def test_layers_are_twins_by_name_or_by_weight() -> None:
    assert twins(FLOAT, INT8) == {"conv_1": "conv_1", "other": "conv_2"}


def test_a_layer_without_a_name_is_called_after_its_output() -> None:
    (layer,) = LayerNames(make_model([node("MatMul", ["x", "w"], ["y"], name="")], {"w": [1.0]})).layers
    assert layer == Layer(name="y", op="MatMul", weight="w")


def test_a_dequantized_weight_is_no_layers_input() -> None:
    # the way back from an activation must not lead into the weights
    names = LayerNames(
        make_model(
            [
                node("Conv", ["x", "w"], ["c"], name="conv"),
                node("DequantizeLinear", ["k", "s"], ["factor"], name="dq"),
                node("Mul", ["factor", "c"], ["y"], name="scale"),
            ],
            {"w": [1.0], "k": [1], "s": [1.0]},
        )
    )
    found = names.find("y_nchwc", "Conv")
    assert found is not None
    assert found.name == "conv"


@pytest.mark.parametrize(
    ("op", "weighted"), [("QLinearConv", True), ("FusedGemm", True), ("MatMulInteger", True), ("MaxPool", False)]
)
def test_what_multiplies_by_weights_is_told_by_its_type(op: str, weighted: bool) -> None:
    assert is_weighted(op) == weighted
