"""Chromium: found, named, missing, too old; and the real one, isolated and not."""

import os
import re
import time
from pathlib import Path

import numpy as np
import pytest

from edgecnn.errors import ExitCode, StageError, TargetError, UsageError
from edgecnn.progress import SILENT
from edgecnn.targets import TARGETS, browser, install_web, reference_session, require_clock, running
from edgecnn.targets.browser import VARIABLE, WASM_ISOLATED, WASM_PLAIN, WEBGPU_PAGE, Chromium
from edgecnn.targets.native import CPU_PROVIDER
from edgecnn.targets.python_environment import write_record
from edgecnn.targets.worker_session import WorkerSession
from tests.graphs import make_model, node, small_cnn
from tests.web import fake_program, real_targets

DATA = small_cnn().SerializeToString()
#: What a page's WebGPU says of its adapter.
SOFTWARE_GPU = {"vendor": "google", "architecture": "swiftshader", "description": "", "software": True}
REAL_GPU = {"vendor": "nvidia", "architecture": "hopper", "description": "", "software": False}
X = np.random.default_rng(0).random((4, 3, 8, 8), np.float32)
SEEN = {"versions": {"onnxruntime-web": "1.30.0"}, "isolated": True, "gpu": None, "cpu": "A CPU"}


@pytest.fixture(autouse=True)
def nothing_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    browser._says.cache_clear()
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("EDGECNN_CACHE", str(tmp_path / "cache"))


def named(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    monkeypatch.setenv(VARIABLE, str(fake_program(folder, "my-chromium", script)))


def test_without_a_chromium_the_names_that_were_looked_for_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert "no Chromium on PATH (chromium, " in str(WASM_ISOLATED.why_not())


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo Chromium 111.0.5563.64 built on Debian", r"expected Chromium 112 or newer, found Chromium 111\.0"),
        ("echo Mozilla Firefox 140.0", "expected a Chromium, found 'Mozilla Firefox 140.0'"),
        ("exit 1", "expected a Chromium, found ''"),
    ],
)
def test_a_browser_that_will_not_do_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    named(tmp_path, monkeypatch, script)
    assert re.search(words, str(WASM_ISOLATED.why_not()))
    with pytest.raises(TargetError, match=words) as caught:
        install_web.install_chromium(WASM_ISOLATED, SILENT, False)
    assert caught.value.next_step == browser.REMEDY
    assert caught.value.exit_code == ExitCode.TARGET_UNAVAILABLE


@pytest.mark.parametrize("said", ["Chromium 156.0.8078.79 built on Debian", "Google Chrome 140.0.7339.80"])
def test_one_that_is_named_and_new_enough_still_needs_its_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    named(tmp_path, monkeypatch, f"echo {said}")
    assert browser.chromium_missing() is None
    assert WASM_ISOLATED.why_not() == "playwright 1.65.2 is not set up"
    browser.driver_folder().mkdir(parents=True)
    assert "playwright 1.65.2 is damaged" in str(WASM_ISOLATED.why_not())


def test_a_driver_that_was_cut_short_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named(tmp_path, monkeypatch, "echo Chromium 156.0.8078.79")
    for package in ("playwright", "greenlet"):
        (browser.driver_folder() / package).mkdir(parents=True)
    node = browser.driver_folder() / "playwright" / "node"
    node.write_bytes(b"whole")
    write_record(browser.driver_folder())
    assert browser.driver_missing() is None
    node.write_bytes(b"cut")
    assert "playwright/node has 3 bytes, expected 5" in str(browser.driver_missing())


def test_a_named_browser_that_does_not_exist_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "/no/such/chromium")
    assert "/no/such/chromium" in str(WASM_ISOLATED.why_not())
    assert f"${VARIABLE} names it: unset that, or name another" in str(WASM_ISOLATED.why_not())


def test_a_browser_that_does_not_start_is_named_with_what_shows_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "/opt/browser")
    failed = StageError("x: its process failed (Error: BrowserType.launch: closed).", next_step="report it")
    found = WASM_ISOLATED.explain(failed)
    assert isinstance(found, TargetError)
    assert found.message.startswith("/opt/browser did not start: x: ")
    assert found.next_step.startswith("/opt/browser --headless")
    other = StageError("x: no answer within 300 s", next_step="report it")
    assert WASM_ISOLATED.explain(other) is other


@pytest.mark.parametrize(
    ("runtime", "changes", "words"),
    [
        (WASM_ISOLATED, {"versions": {"onnxruntime-web": "1.29.0"}}, "expected onnxruntime-web 1.30.0, found 1.29.0"),
        (WASM_ISOLATED, {"isolated": False}, "expected a page that is cross-origin isolated"),
        (WASM_PLAIN, {}, "expected a page that is not cross-origin isolated"),
        (WEBGPU_PAGE, {}, "Chromium found no WebGPU adapter, expected swiftshader"),
        (WEBGPU_PAGE, {"gpu": REAL_GPU}, "expected the WebGPU adapter swiftshader, .*, found nvidia hopper$"),
        (WEBGPU_PAGE, {"gpu": {**SOFTWARE_GPU, "software": False}}, "found google swiftshader$"),
        (WEBGPU_PAGE, {"gpu": dict.fromkeys(REAL_GPU, "")}, "found one that tells no name$"),
    ],
)
def test_another_page_than_asked_for_is_refused(runtime: Chromium, changes: dict[str, object], words: str) -> None:
    assert re.search(words, str(runtime.differs({**SEEN, **changes})))


def test_the_record_says_how_the_page_was_served_and_timed() -> None:
    assert WASM_ISOLATED.differs(SEEN) is None
    assert WASM_ISOLATED.cpu(SEEN) == (
        "A CPU, WebAssembly in Chromium, cross-origin isolated, timed in blocks of 50 calls"
    )
    assert "not cross-origin isolated" in WASM_PLAIN.cpu(SEEN)


def test_the_record_of_a_gpu_in_software_says_so_and_nothing_of_time() -> None:
    seen = {**SEEN, "gpu": SOFTWARE_GPU}
    assert WEBGPU_PAGE.differs(seen) is None
    assert WEBGPU_PAGE.cpu(seen) == (
        "swiftshader, a GPU in software, on A CPU, WebGPU in Chromium, cross-origin isolated"
    )
    with pytest.raises(UsageError, match="webgpu@chromium: is simulated"):
        require_clock("webgpu@chromium")


def test_the_page_with_webgpu_is_set_up_beside_the_one_without(tmp_path: Path) -> None:
    assert WEBGPU_PAGE.package.folder == tmp_path / "cache" / "targets" / "onnxruntime-web-1.30.0-webgpu"
    assert WASM_PLAIN.package.folder == tmp_path / "cache" / "targets" / "onnxruntime-web-1.30.0"
    words = WEBGPU_PAGE.command()
    assert words[-3:] == ["isolated", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"]


def test_its_python_sees_only_its_own_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHOME", "/elsewhere")
    monkeypatch.setenv("NODE_OPTIONS", "--inspect")
    assert WASM_ISOLATED.command()[1] == "-S"
    environment = WASM_ISOLATED.environment()
    assert environment["PYTHONPATH"] == str(browser.driver_folder())
    assert not {"PYTHONHOME", "NODE_OPTIONS"} & environment.keys()


@pytest.mark.parametrize("name", ["wasm@chromium", "wasm@chromium-plain"])
def test_the_real_browser_answers_as_this_process_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real_targets(monkeypatch, chromium=True)
    with running(name, DATA, model_name="float.onnx") as there:
        assert isinstance(there, WorkerSession)
        here = reference_session(DATA, model_name="float.onnx").run(X)
        np.testing.assert_allclose(there.run(X), here, rtol=1e-4, atol=1e-5)
        assert set(there.nodes_by_provider) == {CPU_PROVIDER}
        times_us = there.time_calls(X[:1], 60)
        assert len(np.unique(times_us)) <= 2, "a block of 50, and one of 10"
        assert (times_us > 0).all()
    assert TARGETS[name].clock == "measured"


def two_layers(*, rounded: bool) -> bytes:
    """Return a network whose second convolution reads 6 channels, where channels last go wrong in WebGPU."""
    rng = np.random.default_rng(0)
    pair = [
        node("QuantizeLinear", ["pool", "step", "zero_point"], ["rounded"]),
        node("DequantizeLinear", ["rounded", "step", "zero_point"], ["stepped"]),
    ]
    nodes = [
        node("Conv", ["x", "w1"], ["conv1"]),
        node("Relu", ["conv1"], ["relu"]),
        node("MaxPool", ["relu"], ["pool"], kernel_shape=[2, 2]),
        *(pair if rounded else []),
        node("Conv", ["stepped" if rounded else "pool", "w2"], ["conv2"]),
        node("Flatten", ["conv2"], ["y"]),
    ]
    weights = {"w1": rng.normal(size=(6, 3, 3, 3)), "w2": rng.normal(size=(8, 6, 3, 3))}
    return make_model(nodes, {**weights, "step": np.float32(0.05), "zero_point": np.uint8(3)}).SerializeToString()


@pytest.mark.parametrize("model", [two_layers(rounded=False), two_layers(rounded=True)], ids=["float", "int8"])
def test_webgpu_in_the_real_browser_runs_every_node_and_answers_as_this_process_does(
    model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_targets(monkeypatch, chromium=True)
    if reason := WEBGPU_PAGE.why_not():
        pytest.skip(reason)
    with running("webgpu@chromium", model, model_name="model.onnx") as there:
        assert isinstance(there, WorkerSession)
        assert set(there.nodes_by_provider) == {"WebGpuExecutionProvider"}
        here = reference_session(model, model_name="model.onnx").run(X)
        np.testing.assert_allclose(there.run(X), here, rtol=1e-4, atol=1e-5)
        assert there.machine.cpu.startswith("swiftshader, a GPU in software, on ")
        assert there.clock == "simulated"


def test_a_killed_worker_takes_the_browser_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real_targets(monkeypatch, chromium=True)
    mark = f"EDGECNN_MARK={os.getpid()}-{time.monotonic_ns()}"
    monkeypatch.setenv(*mark.split("="))
    with running("wasm@chromium", DATA, model_name="float.onnx") as there:
        assert isinstance(there, WorkerSession)
        assert len(started_with(mark)) > 3, "the worker, playwright and the browser's own"
        there._call_limit_s = 0.0
        with pytest.raises(StageError, match="no answer within 0 s"):
            there.run(X)
    deadline = time.monotonic() + 120  # on a machine that is busy with other tests
    while (left := started_with(mark)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left == []


def started_with(mark: str) -> list[str]:
    """Return the processes that are alive and have it in their environment."""
    alive = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (place / "environ").read_bytes():
                alive.append(place.name)
        except OSError:  # it has ended, or is another user's
            continue
    return alive
