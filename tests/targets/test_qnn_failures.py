"""QNN's words of failure: each known one is told in words that lead on, every other stays as it is."""

import re

import pytest

from edgecnn.errors import ChipError, ExitCode, StageError, TargetError
from edgecnn.targets import TARGETS, running
from edgecnn.targets.environments import QNN, QNN_ON
from edgecnn.targets.python_environment import PythonEnvironment
from edgecnn.targets.qnn_failures import FAILURES
from edgecnn.targets.runtime import ExplainingRuntime
from tests.committed import ARTIFACTS
from tests.environments import use_installed

#: As onnxruntime-qnn 2.7.0 said them, around which WorkerSession puts its own.
NO_MEMORY = (
    "int8.onnx on qnn: the runtime failed there ([ONNXRuntimeError] : 11 : EP_FAIL : Failed to finalize QNN graph. "
    "Error: QNN_COMMON_ERROR_MEM_ALLOC: Memory allocation related error., Code: 1002)."
)
LAYOUT = (
    "int8.onnx on qnn: the runtime failed there ([ONNXRuntimeError] : 1 : FAIL : Node 'node_conv2d_token_0' "
    "OpType:Conv with domain:com.ms.internal.nhwc was inserted using the NHWC format as requested by "
    "QNNExecutionProvider, but was not selected by that EP)."
)
CHIPS = [*QNN_ON.values(), QNN]


@pytest.mark.parametrize("chip", CHIPS, ids=[str(each.machine) for each in CHIPS])
@pytest.mark.parametrize(
    ("said", "meaning", "next_step"),
    [
        (NO_MEMORY, r"^int8\.onnx on qnn: QNN cannot compile .* no memory .*code 1002\)\.$", "--provider qnn@sm8"),
        (LAYOUT, r"^int8\.onnx on qnn: QNN asked for a layer in another layout", "edgecnn quantize --for qnn"),
    ],
)
def test_a_known_failure_names_the_chip_and_what_helps(
    chip: PythonEnvironment, said: str, meaning: str, next_step: str
) -> None:
    found = chip.explain(StageError(said, next_step="report it"))
    assert isinstance(found, TargetError)
    assert isinstance(found, ChipError) == (said == NO_MEMORY)  # another chip takes no other layout
    assert found.exit_code == ExitCode.TARGET_UNAVAILABLE
    assert re.search(meaning, found.message)
    assert "SM8" in found.message
    assert "ONNXRuntimeError" not in found.message
    assert found.next_step.startswith(next_step)


def test_every_failure_of_the_table_is_one_that_was_seen() -> None:
    assert all(failure.words in NO_MEMORY + LAYOUT for failure in FAILURES)


def test_what_is_tried_next_is_a_target() -> None:
    for chip in CHIPS:
        step = chip.explain(StageError(NO_MEMORY, next_step="x")).next_step
        name = step.split()[1]
        assert name in TARGETS
        assert TARGETS[name].runtime is not chip


def test_an_unknown_failure_stays_as_it_is() -> None:
    error = StageError("int8.onnx on qnn: the runtime failed there (something new).", next_step="report it")
    assert isinstance(QNN, ExplainingRuntime)
    assert QNN.explain(error) is error


def test_a_network_that_the_oldest_chip_has_no_memory_for_says_so_and_a_newer_one_runs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use_installed("qnn", monkeypatch)
    model = (ARTIFACTS / "ds_cnn-cifar10" / "float.onnx").read_bytes()
    with (
        pytest.raises(TargetError, match=r"float\.onnx on qnn: QNN cannot compile the model for SM8350") as caught,
        running("qnn", model, model_name="float.onnx"),
    ):
        pass
    elsewhere = caught.value.next_step.split()[1]
    with running(elsewhere, model, model_name="float.onnx") as there:
        assert set(there.nodes_by_provider) == {"QNNExecutionProvider"}
