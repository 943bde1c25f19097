"""The rows of Python environments; the real ones where they are set up (EDGECNN_TEST_TARGETS names the cache)."""

import ctypes
import platform

import numpy as np
import pytest

from edgecnn.errors import ExitCode, StageError, TargetError
from edgecnn.targets import TARGETS, reference_session, running
from edgecnn.targets.environments import ENVIRONMENTS, QNN, QNN_ON, WEBGPU, qnn_clock
from edgecnn.targets.worker_session import WorkerSession
from tests.environments import use_installed
from tests.graphs import make_model, node, small_cnn
from tests.targets.test_float_layers import two_layers

MODEL = small_cnn().SerializeToString()
X = np.random.default_rng(0).random((6, 3, 8, 8), np.float32)
INSTALLED = ("qnn", "qnn@sm8650", "openvino", "webgpu")


def test_pins_are_exact_and_name_no_address() -> None:
    for environment in ENVIRONMENTS:
        for pin in environment.pins:
            name, version = pin.split("==")
            assert name.replace("-", "").isalnum()
            assert all(part.isdigit() for part in version.split("."))


@pytest.mark.parametrize(
    ("machine", "clock"), [("x86_64", "simulated"), ("aarch64", "measured"), ("arm64", "measured")]
)
def test_a_snapdragon_has_the_htp_and_x86_its_simulator(
    monkeypatch: pytest.MonkeyPatch, machine: str, clock: str
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert qnn_clock() == clock
    assert (QNN_ON["SM8550"].obstacle() is None) == (machine == "x86_64")


def test_all_chips_share_one_environment() -> None:
    assert {each.folder for each in QNN_ON.values()} == {QNN.folder}


def test_webgpu_needs_chromiums_gpu_in_software(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECNN_SWIFTSHADER", "/nowhere")
    assert "libvk_swiftshader.so" in str(WEBGPU.why_not())


@pytest.mark.parametrize("name", INSTALLED)
def test_a_float_model_runs_wholly_there_and_answers_as_here(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = use_installed(name, monkeypatch)
    with running(name, MODEL, model_name="float.onnx") as there:
        assert isinstance(there, WorkerSession)
        assert set(there.nodes_by_provider) == {row.provider}
        here = reference_session(MODEL, model_name="float.onnx").run(X)
        # from v73 on the HTP computes float in 16 bits
        tolerance = 5e-2 if "@" in name else 1e-4
        np.testing.assert_allclose(there.run(X), here, atol=tolerance)
        np.testing.assert_array_equal(there.run(X[:1]), there.run(X)[:1])


@pytest.mark.parametrize("name", INSTALLED)
def test_an_integer_model_with_a_float_answer_runs_wholly_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = use_installed(name, monkeypatch)
    weights = np.random.default_rng(0).integers(-127, 128, (4, 4), np.int8)
    model = two_layers(weights, np.float32(0.01), np.int8(0), 1, between=[]).SerializeToString()
    x = np.random.default_rng(1).random((5, 4), np.float32)
    with running(name, model, model_name="int8.onnx") as there:
        assert set(there.nodes_by_provider) == {row.provider}
        here = reference_session(model, model_name="int8.onnx").run(x)
        np.testing.assert_allclose(there.run(x), here, atol=0.1)


def test_a_context_binary_answers_as_the_model_it_was_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    use_installed("qnn", monkeypatch)
    try:
        ctypes.CDLL("libatomic.so.1")
    except OSError:
        pytest.skip("libQnnSystem.so needs libatomic.so.1 (as root: apt-get install libatomic1)")
    with running("qnn", MODEL, model_name="float.onnx") as there:
        assert isinstance(there, WorkerSession)
        before = there.run(X)
        written = there.reopen_from_context()
        assert b"EPContext" in written
        assert there.nodes_by_provider == {"QNNExecutionProvider": 1}
        np.testing.assert_array_equal(there.run(X), before)


def test_what_qnn_does_not_take_is_counted_and_accepted_only_if_told(monkeypatch: pytest.MonkeyPatch) -> None:
    use_installed("qnn", monkeypatch)
    model = make_model(
        [node("Relu", ["x"], ["a"]), node("Det", ["a"], ["y"])], {}, inputs={"x": (1, 4, 4)}
    ).SerializeToString()
    with (
        pytest.raises(TargetError, match=r"CPUExecutionProvider runs 1 \(Det\) in place of QNN") as caught,
        running("qnn", model, model_name="float.onnx"),
    ):
        pass
    assert caught.value.exit_code == ExitCode.TARGET_UNAVAILABLE
    assert caught.value.next_step.startswith("--allow-cpu-nodes 1 ")
    with running("qnn", model, model_name="float.onnx", allow_cpu_nodes=1) as there:
        assert there.nodes_by_provider["CPUExecutionProvider"] == 1
        assert there.nodes_by_provider["QNNExecutionProvider"] >= 1


def test_a_runtime_that_writes_no_context_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    use_installed("webgpu", monkeypatch)
    with running("webgpu", MODEL, model_name="float.onnx") as there:
        assert isinstance(there, WorkerSession)
        with pytest.raises(StageError, match="the runtime failed there"):
            there.reopen_from_context()


def test_every_row_with_an_environment_is_in_the_table() -> None:
    used = {id(row.runtime) for row in TARGETS.values()}
    assert all(id(environment) in used for environment in (*ENVIRONMENTS, *QNN_ON.values()))
