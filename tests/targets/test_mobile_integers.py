"""Which quantized nodes NNAPI leaves: by the types of their integers, group by group."""

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from onnx import ModelProto, NodeProto

from edgecnn.targets.mobile_integers import open_groups, refused_integers
from tests.graphs import make_model, node


def pair(name: str, zero: str) -> list[NodeProto]:
    """Return a quantize and a dequantize of ``name``."""
    return [
        node("QuantizeLinear", [name, "s", zero], [f"{name}_q"]),
        node("DequantizeLinear", [f"{name}_q", "s", zero], [f"{name}_d"]),
    ]


def layer(
    activation: str = "u8", *, weight: type = np.int8, channels: int = 1, op: str = "Gemm", closed: bool = True
) -> ModelProto:
    """Return one layer between quantize and dequantize; ``closed`` if its output is quantized as well."""
    constants: Mapping[str, ArrayLike] = {
        "s": np.float32(0.1),
        "u8": np.uint8(0),
        "s8": np.int8(0),
        "u16": np.uint16(0),
        "w": np.ones((3, 4), weight),
        "ws": np.full(channels, 0.1, np.float32) if channels > 1 else np.float32(0.1),
        "wz": np.zeros(channels, weight) if channels > 1 else np.array(0, weight),
        "b": np.ones(4, np.int32),
        "bz": np.int32(0),
    }
    axis = {"axis": 1} if channels > 1 else {}
    nodes = [
        *pair("x", activation),
        node("DequantizeLinear", ["w", "ws", "wz"], ["w_d"], **axis),
        node("DequantizeLinear", ["b", "s", "bz"], ["b_d"]),
        node(op, ["x_d", "w_d", "b_d"] if op == "Gemm" else ["x_d", "w_d"], ["l"]),
    ]
    nodes += [*pair("l", activation), node("Identity", ["l_d"], ["y"])] if closed else [node("Identity", ["l"], ["y"])]
    return make_model(nodes, constants, inputs={"x": ("N", 3)}, outputs={"y": ("N", 4)}, opset=21)


@pytest.mark.parametrize("weight", [np.int8, np.uint8])
def test_u8_activations_with_8_bit_weights_are_taken_whole(weight: type) -> None:
    assert refused_integers(layer("u8", weight=weight).graph) == {}


@pytest.mark.parametrize(("activation", "said"), [("s8", "int8"), ("u16", "uint16")])
def test_other_activations_are_left_with_the_layer_and_its_weights(activation: str, said: str) -> None:
    refused = refused_integers(layer(activation).graph)
    assert set(refused) == {"x_q", "x_d", "w_d", "b_d", "l", "l_q", "l_d", "y"}
    assert all(f"activations are {said};" in reason and "u8 activations" in reason for reason in refused.values())


def test_weights_of_16_bits_are_left_with_the_layer() -> None:
    refused = refused_integers(layer("u8", weight=np.int16).graph)
    assert {"w_d", "l"} <= set(refused)
    assert "weights are int16" in refused["l"]
    assert "x_q" not in refused


def test_a_matmul_with_a_scale_a_channel_is_left_and_a_gemm_is_not() -> None:
    refused = refused_integers(layer(op="MatMul", channels=4).graph)
    assert "NNAPI's MatMul takes one" in refused["l"]
    assert refused_integers(layer(op="MatMul", channels=1).graph) == {}
    assert refused_integers(layer(op="Gemm", channels=4).graph) == {}


def test_a_float_graph_has_no_integers_to_refuse() -> None:
    model = make_model([node("Gemm", ["x", "w"], ["y"])], {"w": np.ones((3, 4))}, inputs={"x": ("N", 3)})
    assert refused_integers(model.graph) == {}
    assert open_groups(model.graph) == []


def test_a_zero_point_that_is_not_told_is_u8() -> None:
    nodes = [node("QuantizeLinear", ["x", "s"], ["q"]), node("DequantizeLinear", ["q", "s"], ["y"])]
    model = make_model(nodes, {"s": np.float32(1)}, inputs={"x": ("N", 3)}, outputs={"y": ("N", 3)})
    assert refused_integers(model.graph) == {}


@given(kinds=st.lists(st.sampled_from(["u8", "s8"]), min_size=1, max_size=6))
def test_in_a_chain_each_layer_is_judged_by_its_own_integers(kinds: list[str]) -> None:
    nodes: list[NodeProto] = []
    last = "x"
    for index, kind in enumerate(kinds):
        nodes += [*pair(last, kind), node("Relu", [f"{last}_d"], [f"r{index}"])]
        last = f"r{index}"
    constants: Mapping[str, ArrayLike] = {"s": np.float32(1), "u8": np.uint8(0), "s8": np.int8(0)}
    model = make_model(nodes, constants, inputs={"x": ("N", 3)}, outputs={last: ("N", 3)})
    refused = refused_integers(model.graph)
    names = ["x", *(f"r{index}" for index in range(len(kinds) - 1))]
    expected = {
        part
        for index, (name, kind) in enumerate(zip(names, kinds, strict=True))
        if kind == "s8"
        for part in (f"{name}_q", f"{name}_d", f"r{index}")
    }
    assert set(refused) == expected


def test_a_layer_without_a_quantize_behind_it_is_named() -> None:
    assert open_groups(layer(closed=False).graph) == ["make_l"]
    assert open_groups(layer(closed=True).graph) == []
    assert open_groups(layer(closed=False, weight=np.uint8).graph) == [], "u8 weights may be dequantized alone"
