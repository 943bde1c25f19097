"""Strangers' ONNX files: refused in words, or whole; and written the same every time."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper

from edgecnn.errors import ExitCode, ModelError
from edgecnn.graph import onnx_file
from tests.graphs import constant, copy, evaluate, make_model, node, small_cnn, weights

SECRET = "/home/ada/secret/train.py"
WHOLE = small_cnn().SerializeToString()

INTEGER_OPS = [
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "ConvInteger",
    "MatMulInteger",
    "QLinearConv",
    "QLinearMatMul",
    # com.microsoft
    "QLinearAdd",
    "QLinearGlobalAveragePool",
    "QGemm",
    "QAttention",
    "QOrderedMatMul",
    "QMoE",
    "MatMulInteger16",
    "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul",
    "DynamicQuantizeLSTM",
    "GatherBlockQuantized",
    "MatMulNBits",
    "MatMulBnb4",
    "MatMulFpQ4",
]


def refused(data: bytes) -> ModelError:
    with pytest.raises(ModelError) as caught:
        onnx_file.parse(data, "their.onnx")
    assert caught.value.exit_code == ExitCode.BAD_INPUT
    assert "their.onnx" in caught.value.message
    assert caught.value.next_step
    return caught.value


def branch(tensor: TensorProto) -> ModelProto:
    """Return a model whose weight comes out of a branch of an If."""
    body = helper.make_graph(
        [node("Identity", [tensor.name], ["out"])],
        "body",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [4, 3, 3, 3])],
        [tensor],
    )
    return make_model(
        [node("If", ["yes"], ["w"], then_branch=body, else_branch=body), node("Conv", ["x", "w"], ["y"])],
        {"yes": np.array(True)},
        outputs={"y": ("N", 4, 6, 6)},
    )


def stored_outside(location: str) -> TensorProto:
    tensor = constant("elsewhere", np.ones((4, 3, 3, 3)))
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def in_initializer(tensor: TensorProto) -> ModelProto:
    model = make_model([node("Conv", ["x", tensor.name], ["y"])], {}, outputs={"y": ("N", 4, 6, 6)})
    model.graph.initializer.append(tensor)
    return model


def in_attribute(tensor: TensorProto) -> ModelProto:
    return make_model(
        [node("Constant", [], ["w"], value=tensor), node("Conv", ["x", "w"], ["y"])], {}, outputs={"y": ("N", 4, 6, 6)}
    )


def test_a_sound_model_comes_back_as_it_is() -> None:
    assert onnx_file.parse(WHOLE, "ours.onnx").SerializeToString() == WHOLE


@pytest.mark.parametrize("length", [*range(40), *range(40, len(WHOLE), 61), *range(len(WHOLE) - 40, len(WHOLE))])
def test_a_truncated_file_is_refused(length: int) -> None:
    refused(WHOLE[:length])


@given(st.binary(max_size=300))
def test_random_bytes_are_refused(data: bytes) -> None:
    refused(data)


@given(st.dictionaries(st.integers(0, len(WHOLE) - 1), st.integers(0, 255), min_size=1, max_size=4))
def test_a_damaged_file_is_read_or_refused_and_never_raises_anything_else(damage: dict[int, int]) -> None:
    data = bytearray(WHOLE)
    for place, value in damage.items():
        data[place] = value
    with contextlib.suppress(ModelError):
        onnx_file.parse(bytes(data), "their.onnx")


def test_an_empty_file_is_refused() -> None:
    assert "not a valid ONNX model" in refused(b"").message


def test_a_text_file_is_refused() -> None:
    assert "truncated or not one" in refused(b"#!/bin/sh\necho hello\n").message


def test_a_file_over_the_limit_is_refused_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "MAX_MODEL_BYTES", 100)
    assert "larger than 100 bytes" in refused(b"\xff" * 101).message


@pytest.mark.parametrize("location", ["weights.bin", "../../etc/passwd", "/etc/passwd", ""])
@pytest.mark.parametrize("place", [in_initializer, in_attribute, branch])
def test_weights_in_other_files_are_refused_wherever_they_are_named(
    place: Callable[[TensorProto], ModelProto], location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.full((4, 3, 3, 3), 7, np.float32).tofile(tmp_path / "weights.bin")
    monkeypatch.chdir(tmp_path)  # ONNX Runtime would look for them here
    error = refused(place(stored_outside(location)).SerializeToString())
    assert "in other files (elsewhere" in error.message
    assert "self-contained" in error.message
    assert "save_as_external_data=False" in error.next_step


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_named(bad: float) -> None:
    values = np.zeros((4, 3, 3, 3), np.float32)
    values[2, 1, 0, 0] = bad
    error = refused(in_initializer(constant("features.0.weight", values)).SerializeToString())
    assert "weights features.0.weight hold NaN or infinite values" in error.message


def test_a_tensor_that_nobody_makes_is_refused() -> None:
    assert "nowhere" in refused(make_model([node("Relu", ["nowhere"], ["y"])], {}).SerializeToString()).message


def test_an_unknown_operator_is_refused_by_name() -> None:
    assert "Frobnicate" in refused(make_model([node("Frobnicate", ["x"], ["y"])], {}).SerializeToString()).message


def test_an_unknown_domain_is_refused_by_name() -> None:
    model = make_model([node("Relu", ["x"], ["y"], domain="com.acme")], {})
    assert "com.acme" in refused(model.SerializeToString()).message


def test_a_newer_ir_is_refused_by_number() -> None:
    model = small_cnn()
    model.ir_version = 999
    assert "999" in refused(model.SerializeToString()).message


def test_weights_of_an_unknown_type_are_refused_by_name() -> None:
    model = small_cnn()
    model.graph.initializer[0].data_type = 77
    assert "the weights conv_w cannot be read" in refused(model.SerializeToString()).message


def test_weights_larger_than_their_bytes_are_refused() -> None:
    model = small_cnn()
    model.graph.initializer[0].dims[0] = 2**40
    assert "conv_w" in refused(model.SerializeToString()).message


def test_a_name_that_is_not_text_is_refused() -> None:
    data = small_cnn().SerializeToString().replace(b"conv_w", b"conv_\xcc")
    assert "not UTF-8" in refused(data).message


def test_serializing_leaves_no_trace_of_who_made_it() -> None:
    traced = traced_model()
    assert SECRET.encode() in traced.SerializeToString()
    data = onnx_file.serialize(traced)
    assert SECRET.encode() not in data
    assert b"stack_trace" not in data
    assert b"torch" not in data


def test_where_a_model_was_made_does_not_change_its_bytes() -> None:
    assert onnx_file.serialize(traced_model()) == onnx_file.serialize(branch(constant("w0", np.ones((4, 3, 3, 3)))))


def test_serializing_keeps_the_function_and_the_names() -> None:
    before = small_cnn()
    after = onnx_file.parse(onnx_file.serialize(copy(before)), "ours.onnx")
    assert [item.name for item in after.graph.node] == [item.name for item in before.graph.node]
    assert {name: array.tobytes() for name, array in weights(after).items()} == {
        name: array.tobytes() for name, array in weights(before).items()
    }
    x = np.random.default_rng(0).random((2, 3, 8, 8), np.float32)
    np.testing.assert_array_equal(evaluate(after, {"x": x})[0], evaluate(before, {"x": x})[0])


def test_serializing_twice_gives_the_same_bytes() -> None:
    data = onnx_file.serialize(small_cnn())
    assert onnx_file.serialize(onnx_file.parse(data, "ours.onnx")) == data


def traced_model() -> ModelProto:
    """Return a model with a source path in every place the format has for one."""
    model = branch(constant("w0", np.ones((4, 3, 3, 3))))
    model.producer_name, model.producer_version, model.doc_string = "torch", "2.15", SECRET
    model.domain, model.model_version = "com.ada", 3
    model.graph.name = SECRET
    branches = [attribute.g for attribute in model.graph.node[0].attribute]
    for graph in (model.graph, *branches):
        items: list[Any] = [graph, *graph.node, *graph.initializer, *graph.input, *graph.output]
        for item in items:
            item.doc_string = SECRET
            item.metadata_props.add(key="pkg.torch.onnx.stack_trace", value=SECRET)
    for attribute in model.graph.node[0].attribute:
        attribute.doc_string = SECRET
    model.metadata_props.add(key="path", value=SECRET)
    return model


@pytest.mark.parametrize("op", INTEGER_OPS)
def test_every_family_of_integer_operators_counts_as_quantized(op: str) -> None:
    model = small_cnn()
    model.graph.node[0].op_type = op
    assert onnx_file.is_quantized(model)


def test_an_integer_operator_in_a_branch_counts_as_quantized() -> None:
    model = branch(constant("w0", np.ones((4, 3, 3, 3))))
    assert not onnx_file.is_quantized(model)
    model.graph.node[0].attribute[0].g.node[0].op_type = "QLinearConv"
    assert onnx_file.is_quantized(model)


def test_no_float_operator_of_onnx_counts_as_quantized() -> None:
    model = small_cnn()
    integer = set()
    for schema in onnx.defs.get_all_schemas():
        model.graph.node[0].op_type = schema.name
        if onnx_file.is_quantized(model):
            integer.add(schema.name)
    assert integer == {
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "ConvInteger",
        "MatMulInteger",
        "QLinearConv",
        "QLinearMatMul",
    }


@pytest.mark.parametrize("op", ["FusedConv", "QuickGelu", "GroupQueryAttention", "BiasGelu", "NhwcFusedConv"])
def test_no_float_operator_of_onnx_runtime_counts_as_quantized(op: str) -> None:
    model = small_cnn()
    model.graph.node[0].op_type = op
    assert not onnx_file.is_quantized(model)
