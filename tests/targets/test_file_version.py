"""A model too new for an older runtime is refused in words, before it is sent."""

import pytest
from onnx import TensorProto, helper

from edgecnn.errors import ExitCode, TargetError
from edgecnn.targets.environments import OPENVINO
from edgecnn.targets.file_version import require_readable


def relu(opset: int, ir: int) -> bytes:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", values[:1], values[1:])
    data: bytes = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir
    ).SerializeToString()
    return data


@pytest.mark.parametrize(("opset", "ir"), [(18, 8), (25, 13)])
def test_one_that_is_old_enough_stays_as_it_is(opset: int, ir: int) -> None:
    model = relu(opset, ir)
    assert OPENVINO.adapt(model) == model


@pytest.mark.parametrize(("opset", "ir"), [(26, 13), (25, 14)])
def test_one_that_is_too_new_says_what_is_read(opset: int, ir: int) -> None:
    with pytest.raises(TargetError) as caught:
        require_readable(relu(opset, ir), runtime="X 1.0", newest_opset=25, newest_ir=13)
    assert caught.value.exit_code == ExitCode.TARGET_UNAVAILABLE
    assert "X 1.0 reads operator sets up to 25 and IR versions up to 13" in caught.value.message
    assert f"operator set {opset} and IR version {ir}" in caught.value.message
    assert caught.value.next_step == "export it again with --opset 25 or older"
