"""A provider that runs nothing, or not everything, is an error, and nodes are allowed only by number."""

import pytest

from edgecnn.errors import ExitCode, TargetError
from edgecnn.targets.placement import CPU_PROVIDER, require_provider

QNN = "QNNExecutionProvider"


def test_all_nodes_there_is_what_was_asked_for() -> None:
    require_provider({QNN: 30}, QNN, 0, name="x")
    require_provider({CPU_PROVIDER: 30}, CPU_PROVIDER, 0, name="x")


@pytest.mark.parametrize("allowed", [0, 1000])
@pytest.mark.parametrize("nodes", [{}, {CPU_PROVIDER: 30}, {QNN: 0, CPU_PROVIDER: 30}])
def test_a_provider_that_runs_no_node_is_refused_whatever_is_allowed(nodes: dict[str, int], allowed: int) -> None:
    with pytest.raises(TargetError, match=f"int8 on qnn: {QNN} runs no node; ") as caught:
        require_provider(nodes, QNN, allowed, name="int8 on qnn")
    assert caught.value.exit_code == ExitCode.TARGET_UNAVAILABLE
    assert "edgecnn quantize --for" in caught.value.next_step


def test_nodes_on_the_cpu_are_counted_and_named() -> None:
    with pytest.raises(TargetError) as caught:
        require_provider({QNN: 30, CPU_PROVIDER: 4}, QNN, 3, name="x", operators={CPU_PROVIDER: ["Gemm", "Softmax"]})
    assert caught.value.message == f"x: {CPU_PROVIDER} runs 4 (Gemm, Softmax) in place of {QNN}."
    assert caught.value.next_step.startswith("--allow-cpu-nodes 4 accepts that")


def test_so_many_as_are_allowed_are_accepted() -> None:
    require_provider({QNN: 30, CPU_PROVIDER: 4}, QNN, 4, name="x")


def test_a_third_provider_is_never_accepted() -> None:
    with pytest.raises(TargetError, match="Azure runs 1 in place of"):
        require_provider({QNN: 30, "Azure": 1}, QNN, 10, name="x")
