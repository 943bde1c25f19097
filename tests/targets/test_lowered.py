"""A model for an older runtime: the same nodes under an older header, or a refusal."""

import onnx
import pytest
from onnx import TensorProto, helper

from edgecnn.errors import ExitCode, TargetError
from edgecnn.targets.lowered import lower
from tests.graphs import small_cnn


def model(*, ir_version: int = 10, opset: int = 18, others: tuple[tuple[str, int], ...] = ()) -> onnx.ModelProto:
    proto = small_cnn()
    proto.ir_version = ir_version
    del proto.opset_import[:]
    proto.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in (("", opset), *others))
    return proto


def lowered(proto: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.load_model_from_string(lower(proto.SerializeToString(), runtime="an old runtime"))


@pytest.mark.parametrize(("before", "after"), [(13, 9), (10, 9), (9, 9), (8, 8)])
def test_the_ir_version_is_lowered_as_far_as_it_must_be(before: int, after: int) -> None:
    assert lowered(model(ir_version=before)).ir_version == after


def test_operator_sets_that_no_node_uses_are_dropped_and_nothing_else_changes() -> None:
    proto = model(others=(("ai.onnx.ml", 5), ("com.microsoft", 1)))
    found = lowered(proto)
    assert [(entry.domain, entry.version) for entry in found.opset_import] == [("", 18)]
    assert found.graph == proto.graph


def test_an_operator_set_that_only_a_nested_graph_uses_is_kept() -> None:
    proto = model(others=(("com.microsoft", 1),))
    inner = helper.make_graph(
        [helper.make_node("Gelu", ["x"], ["inner"], domain="com.microsoft")],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
    )
    proto.graph.node.append(helper.make_node("If", ["c"], ["out"], then_branch=inner, else_branch=inner))
    assert {entry.domain for entry in lowered(proto).opset_import} == {"", "com.microsoft"}


def test_the_default_operator_set_goes_by_two_names() -> None:
    proto = model()
    proto.opset_import[0].domain = "ai.onnx"
    assert [entry.version for entry in lowered(proto).opset_import] == [18]


@pytest.mark.parametrize("opset", [20, 21, 26])
def test_an_operator_set_too_new_is_refused_and_not_converted(opset: int) -> None:
    with pytest.raises(TargetError, match=f"an old runtime reads operator sets up to 19, the model has {opset}") as e:
        lowered(model(opset=opset))
    assert e.value.exit_code == ExitCode.TARGET_UNAVAILABLE
    assert e.value.next_step == "export it again with --opset 18"


def test_the_newest_operator_set_that_is_read_is_taken() -> None:
    assert lowered(model(opset=19)).opset_import[0].version == 19
