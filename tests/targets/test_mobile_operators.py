"""The lists of operators that come with onnxruntime: read from the installed package, in its own words."""

import pytest

from edgecnn.targets import TARGETS
from edgecnn.targets.mobile_operators import (
    MOBILE_PROVIDERS,
    MobileProvider,
    OperatorCheck,
    operator,
    predicted_targets,
    read_operators,
)
from tests.graphs import node


@pytest.mark.parametrize("name", MOBILE_PROVIDERS)
def test_every_row_has_a_list_that_holds_what_every_cnn_needs(name: str) -> None:
    row = MOBILE_PROVIDERS[name]
    assert row.target in TARGETS
    known = read_operators(row)
    assert {"ai.onnx:Conv", "ai.onnx:Gemm", "ai.onnx:Relu", "ai.onnx:MaxPool", "ai.onnx:Add"} <= known.keys()
    assert not any(markup in note for note in known.values() for markup in ("<br", "](", "|"))


def test_what_the_providers_differ_in_is_what_their_lists_say() -> None:
    neural, program, nnapi = (read_operators(row) for row in MOBILE_PROVIDERS.values())
    assert "ai.onnx:QuantizeLinear" in nnapi
    assert not {"ai.onnx:QuantizeLinear", "ai.onnx:DequantizeLinear"} & (neural.keys() | program.keys())
    assert "ai.onnx:ReduceMean" in program.keys() - neural.keys()
    assert "ai.onnx:HardSwish" not in neural.keys() | program.keys() | nnapi.keys()
    assert nnapi["ai.onnx:Conv"] == "Only 2D Conv is supported. Weights and bias should be constant."
    assert "com.microsoft:QLinearAdd" in nnapi


def test_each_target_is_named_once() -> None:
    assert predicted_targets() == ("coreml", "nnapi")


def test_a_row_that_names_no_list_is_an_error_and_not_an_empty_list() -> None:
    with pytest.raises(FileNotFoundError):
        read_operators(MobileProvider(target="nnapi", operators_file="no_such_ops.md"))


def test_a_node_is_taken_if_its_operator_is_and_it_was_not_refused() -> None:
    check = OperatorCheck(known={"ai.onnx:Conv": "2D", "ai.onnx:Relu": ""}, refused={"c2": "int8"})
    taken = [node("Conv", ["x", "w"], ["c1"]), node("Relu", ["c1"], ["r"])]
    left = [node("Conv", ["x", "w"], ["c2"]), node("Mish", ["x"], ["m"]), node("Relu", ["x"], ["z"], domain="mine")]
    assert all(check.is_op_supported(one) for one in taken)
    assert not any(check.is_op_supported(one) for one in left)
    assert check.get_caveats() == ["Conv: 2D"], "of operators that are taken and have a condition"
    assert operator(left[2]) == "mine:Relu"


def test_conditions_on_operators_that_the_model_has_not_are_not_told() -> None:
    check = OperatorCheck(known={"ai.onnx:Conv": "2D"})
    check.is_op_supported(node("Relu", ["x"], ["y"]))
    assert check.get_caveats() == []
