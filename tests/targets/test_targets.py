"""The table of targets: each row runs a model wholly, or says why it cannot run here."""

import numpy as np
import onnxruntime
import pytest

from edgecnn import targets
from edgecnn.errors import ExitCode, ModelError, TargetError, UsageError
from edgecnn.targets import TARGETS, Target, open_session, reference_session, require, require_clock, target
from edgecnn.targets.native import NativeSession
from tests.graphs import evaluate, small_cnn

MODEL = small_cnn()
DATA = MODEL.SerializeToString()
X = np.random.default_rng(0).random((4, 3, 8, 8), np.float32)
rows = pytest.mark.parametrize(("name", "row"), TARGETS.items(), ids=TARGETS)


@rows
def test_a_target_runs_the_whole_model_itself_or_says_why_not(name: str, row: Target) -> None:
    if row.why_not() is None:
        session = open_session(name, DATA, model_name="float.onnx")
        assert set(session.nodes_by_provider) == {row.provider}
        assert sum(session.nodes_by_provider.values()) > 0
        assert session.clock == row.clock
        np.testing.assert_allclose(session.run(X), evaluate(MODEL, {"x": X})[0], rtol=1e-4, atol=1e-4)
        return
    with pytest.raises(TargetError) as caught:
        open_session(name, DATA, model_name="float.onnx")
    assert caught.value.exit_code == ExitCode.TARGET_UNAVAILABLE
    assert caught.value.message.startswith(f"{name}: not available here: ")
    if row.runtime is None:
        assert row.provider in caught.value.message
        assert onnxruntime.__version__ in caught.value.message
    assert caught.value.next_step == row.remedy


@pytest.mark.filterwarnings("ignore:Specified provider")
@pytest.mark.parametrize(
    ("name", "row"),
    [
        (name, row)
        for name, row in TARGETS.items()
        if row.provider not in onnxruntime.get_available_providers()
        and (row.runtime is None or row.native_first)
        and row.provider in onnxruntime.get_all_providers()
    ],
)
def test_a_target_that_only_seems_ready_does_not_fall_back(
    name: str, row: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [row.provider])
    assert (row.runtime_here, row.clock_here) == (None, "measured")
    with pytest.raises(TargetError, match=f"{row.provider} does not run the whole model") as caught:
        open_session(name, DATA, model_name="float.onnx")
    assert caught.value.exit_code == ExitCode.TARGET_UNAVAILABLE


@rows
def test_a_row_names_a_provider_that_onnx_runtime_knows(name: str, row: Target) -> None:
    assert row.provider in onnxruntime.get_all_providers() or row.plugin is not None
    assert row.clock in ("measured", "emulated", "simulated")
    assert row.summary
    assert row.remedy


def test_no_two_rows_are_the_same() -> None:
    places = {
        (row.provider, getattr(row.runtime, "title", None), *row.provider_options.items()) for row in TARGETS.values()
    }
    assert len(places) == len(TARGETS)
    assert len({row.summary for row in TARGETS.values()}) == len(TARGETS)


@rows
def test_a_machine_after_the_provider_is_not_this_process(name: str, row: Target) -> None:
    assert "@" not in name or row.runtime is not None
    assert (row.emulated is not None) == (row.clock == "emulated")


@rows
def test_a_latency_is_asked_only_of_a_target_with_a_clock(name: str, row: Target) -> None:
    if row.clock_here == "measured":
        require_clock(name)
        return
    with pytest.raises(UsageError, match=f"{name}: is {row.clock_here}") as caught:
        require_clock(name)
    assert "no latency" in caught.value.message
    assert f"edgecnn validate --provider {name}" in caught.value.next_step


def test_the_cpu_is_always_there() -> None:
    assert require("cpu") is TARGETS["cpu"]


@pytest.mark.parametrize("name", ["", "CPU", "cuda", "cpu "])
@pytest.mark.parametrize("ask", [target, require, lambda name: open_session(name, DATA, model_name="float.onnx")])
def test_an_unknown_target_lists_the_known_ones(name: str, ask: object) -> None:
    assert callable(ask)
    with pytest.raises(UsageError) as caught:
        ask(name)
    assert caught.value.exit_code == ExitCode.USAGE
    assert repr(name) in caught.value.message
    for known in TARGETS:
        assert known in caught.value.message
    assert caught.value.next_step == "edgecnn targets"


def test_a_provider_that_is_installed_but_runs_no_node_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    azure = Target(provider="AzureExecutionProvider", clock="measured", summary="a cloud", remedy="none")
    assert azure.why_not() is None
    monkeypatch.setitem(targets.TARGETS, "azure", azure)
    with pytest.raises(TargetError, match=r"float\.onnx: AzureExecutionProvider does not run the whole model"):
        open_session("azure", DATA, model_name="float.onnx")


def test_a_broken_model_is_the_models_fault() -> None:
    with pytest.raises(ModelError, match=r"float\.onnx"):
        open_session("cpu", DATA[:-50], model_name="float.onnx")


def test_the_reference_is_the_cpu() -> None:
    session = reference_session(DATA, model_name="float.onnx")
    assert set(session.nodes_by_provider) == {"CPUExecutionProvider"}
    np.testing.assert_allclose(session.run(X), evaluate(MODEL, {"x": X})[0], rtol=1e-4, atol=1e-4)


def test_nodes_may_run_on_the_cpu_only_where_there_are_some_on_the_provider() -> None:
    with pytest.raises(TargetError, match="AzureExecutionProvider runs no node; CPUExecutionProvider runs"):
        NativeSession(
            DATA,
            model_name="float.onnx",
            provider="AzureExecutionProvider",
            clock="measured",
            threads=1,
            allow_cpu_nodes=1000,
        )


def test_what_the_provider_is_told_of_threads_is_an_option_of_its_own() -> None:
    row = Target(
        provider="P", clock="measured", summary="", remedy="", provider_options={"a": "b"}, threads_option="threads"
    )
    assert row.options_for(3) == {"a": "b", "threads": "3"}
    assert TARGETS["openvino"].options_for(2)["num_of_threads"] == "2"
    assert TARGETS["cpu"].options_for(2) == {}
