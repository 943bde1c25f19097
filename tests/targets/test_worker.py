"""The worker alone, in this machine's own Python: frames in, frames out, and nothing else on stdout."""

import io
import json
import platform
import resource
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.targets import worker
from edgecnn.targets.worker import MAGIC, PREFIX, pack
from tests.graphs import evaluate, make_model, node, small_cnn

WORKER = Path(worker.__file__)
X = np.random.default_rng(0).random((4, 3, 8, 8), np.float32)
Frame = tuple[dict[str, Any], bytes]


def unpack(data: bytes) -> list[Frame]:
    """Take frames apart, by the drawing in the worker's docstring."""
    frames = []
    while data:
        assert data[:4] == b"EDGE"
        header_bytes = int.from_bytes(data[4:8], "little")
        body_bytes = int.from_bytes(data[8:16], "little")
        start, end = 16 + header_bytes, 16 + header_bytes + body_bytes
        frames.append((json.loads(data[16:start]), data[start:end]))
        data = data[end:]
    return frames


def serve(*frames: bytes) -> list[Frame]:
    """Start the worker, say everything, and return what it answered."""
    finished = subprocess.run(
        [sys.executable, "-P", str(WORKER)], input=b"".join(frames), capture_output=True, check=True, timeout=60
    )
    return unpack(finished.stdout)


def run_frame(batch: np.ndarray) -> bytes:
    return pack({"do": "run", "input": "x", "dtype": batch.dtype.str, "shape": batch.shape}, batch.tobytes())


@given(st.dictionaries(st.text(), st.integers() | st.text()), st.binary())
def test_a_frame_is_as_its_drawing_says(header: dict[str, Any], body: bytes) -> None:
    assert unpack(pack(header, body) * 2) == [(header, body)] * 2


def test_it_greets_and_answers_each_frame_and_ends_with_its_stdin() -> None:
    model = small_cnn()
    greeting, opened, answered, again = serve(
        pack({"do": "open", "threads": 1}, model.SerializeToString()), run_frame(X), run_frame(X[:1])
    )
    assert greeting[0]["machine"] == platform.machine()
    assert greeting[0]["versions"]["onnxruntime"] == onnxruntime.__version__
    assert greeting[0]["versions"]["numpy"] == np.__version__
    assert {"AVX2", "ASIMD", "SSE2"} & set(greeting[0]["features"])
    assert set(opened[0]["nodes"]) == {"CPUExecutionProvider"}
    assert answered[0]["shape"] == [4, 3]
    logits = np.frombuffer(answered[1], "<f4").reshape(4, 3)
    np.testing.assert_allclose(logits, evaluate(model, {"x": X})[0], rtol=1e-5, atol=1e-5)
    assert again[0]["shape"] == [1, 3]


def test_what_fails_is_answered_and_the_worker_goes_on() -> None:
    model = small_cnn().SerializeToString()
    open_ = {"do": "open", "threads": 1}
    _, early, broken, opened, wrong, right = serve(
        run_frame(X), pack(open_, model[:-50]), pack(open_, model), run_frame(X[:, :2]), run_frame(X)
    )
    assert "error" in early[0]
    assert "error" in broken[0]
    assert "nodes" in opened[0]
    assert "x" in wrong[0]["error"]
    assert "\n" not in wrong[0]["error"]
    assert right[0]["shape"] == [4, 3]


def test_bytes_are_fed_as_bytes() -> None:
    model = make_model(
        [node("Cast", ["x"], ["float"], to=1), node("Flatten", ["float"], ["y"])],
        {},
        inputs={"x": (1, 3)},
        input_type=2,
    )
    batch = np.array([[0, 7, 255]], np.uint8)
    *_, (_, body) = serve(pack({"do": "open", "threads": 1}, model.SerializeToString()), run_frame(batch))
    np.testing.assert_array_equal(np.frombuffer(body, "<f4"), [0, 7, 255])


def test_what_a_library_prints_stays_off_stdout(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text("import os; print('loud'); os.write(1, b'louder'); __version__ = '0'")
    finished = subprocess.run(
        [sys.executable, "-P", str(WORKER)],
        input=b"",
        capture_output=True,
        check=True,
        env={"PYTHONPATH": str(tmp_path)},
    )
    (greeting,) = unpack(finished.stdout)
    assert greeting[0]["versions"]["onnxruntime"] == "0"
    assert b"loud" in finished.stderr
    assert b"louder" in finished.stderr


def test_a_crash_leaves_no_core_file() -> None:
    before = resource.getrlimit(resource.RLIMIT_CORE)
    code = (
        f"import sys; sys.path.insert(0, {str(WORKER.parent)!r}); import worker, resource;"
        "worker._leave_no_core_file(); print(resource.getrlimit(resource.RLIMIT_CORE))"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "(0, 0)"
    assert resource.getrlimit(resource.RLIMIT_CORE) == before


def test_a_torn_frame_is_the_end() -> None:
    stream = io.BytesIO(pack({"do": "open"})[: PREFIX.size - 1])
    assert worker._receive(stream) is None
    assert len(MAGIC) == 4


@pytest.mark.parametrize("module", ["edgecnn", "pydantic"])
def test_it_needs_nothing_of_edgecnn(module: str) -> None:
    code = f"import sys, runpy; sys.modules[{module!r}] = None; runpy.run_path({str(WORKER)!r}, run_name='__main__')"
    finished = subprocess.run([sys.executable, "-P", "-c", code], input=b"", capture_output=True, check=True)
    assert len(unpack(finished.stdout)) == 1


def test_counting_marks_nothing_first_and_then_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    marked: list[int] = []

    class Session:
        def run(self, _: None, feeds: dict[str, np.ndarray]) -> None:
            np.testing.assert_array_equal(feeds["x"], X)
            marked.append(-1)

    def getpgid(process: int) -> int:
        assert process >> 16 == 0x5EED
        marked.append(process & 0xFFFF)
        raise ProcessLookupError

    monkeypatch.setattr("os.getpgid", getpgid)
    header = {"do": "count", "input": "x", "dtype": X.dtype.str, "shape": X.shape, "warmup": 2, "calls": 3}
    worker._count(Session(), header, X.tobytes())
    assert marked == [-1, -1, *[0, 1] * 3, *[2, -1, 3] * 3]


def test_a_model_is_opened_as_it_is_told() -> None:
    model = small_cnn().SerializeToString()
    told = {
        "level": "ORT_DISABLE_ALL", "entries": {"session.disable_prepacking": "1"},
        "attributes": {"enable_mem_pattern": False},
    }  # fmt: skip
    opened = worker._open(model, {"threads": 1, "options": told}).get_session_options()
    assert opened.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    assert opened.get_session_config_entry("session.disable_prepacking") == "1"
    assert opened.enable_mem_pattern is False


# Plugins: a stand-in for onnxruntime that remembers what it was asked.


def device(name: str, kind: str) -> Any:
    return types.SimpleNamespace(ep_name=name, device=types.SimpleNamespace(type=f"OrtHardwareDeviceType.{kind}"))


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Stand in for onnxruntime and for a plugin that offers a CPU and an NPU; return what is registered."""
    libraries: list[tuple[str, str]] = []
    offered = {"QNN": [device("QNN", "CPU"), device("QNN", "NPU")]}

    def devices() -> list[Any]:
        return [device("CPU", "CPU"), *(each for name, _ in libraries for each in offered.get(name, []))]

    runtime = types.SimpleNamespace(
        get_ep_devices=devices, register_execution_provider_library=lambda *pair: libraries.append(pair)
    )
    plugin = types.SimpleNamespace(get_library_path=lambda: "/lib/qnn.so", get_htp=lambda: "/lib/htp.so")
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    monkeypatch.setitem(sys.modules, "a_plugin", plugin)
    return libraries


def test_a_plugin_is_registered_once_under_the_providers_own_name(registered: list[tuple[str, str]]) -> None:
    plugin = {"module": "a_plugin", "paths": {"backend_path": "get_htp"}}
    for _ in range(2):
        chosen, told = worker._device("QNN", plugin, {"soc_model": "43"})
        assert [str(each.device.type) for each in chosen] == ["OrtHardwareDeviceType.NPU"], "a real device goes first"
        assert told == {"soc_model": "43", "backend_path": "/lib/htp.so"}
    assert registered == [("QNN", "/lib/qnn.so")]


def test_a_plugin_without_a_device_is_an_error(registered: list[tuple[str, str]]) -> None:
    with pytest.raises(RuntimeError, match="a_plugin finds no device for WebGPU"):
        worker._device("WebGPU", {"module": "a_plugin", "paths": {}}, {})


def test_a_batch_is_cut_where_the_model_takes_a_smaller_one() -> None:
    model = small_cnn(batch=2)
    _, _, cut, odd = serve(
        pack({"do": "open", "threads": 1}, model.SerializeToString()), run_frame(X), run_frame(X[:3])
    )
    logits = np.frombuffer(cut[1], "<f4").reshape(4, 3)
    np.testing.assert_allclose(logits, evaluate(small_cnn(), {"x": X})[0], rtol=1e-5, atol=1e-5)
    assert "error" in odd[0], "three are no multiple of two"


def test_a_provider_that_does_not_take_every_node_says_which_it_leaves() -> None:
    asked = {"do": "open", "threads": 1, "provider": "AzureExecutionProvider"}
    _, told, unopened = serve(pack(asked, small_cnn().SerializeToString()), run_frame(X))
    assert set(told[0]["nodes"]) == {"CPUExecutionProvider"}
    assert {"Conv", "MaxPool"} & set(told[0]["operators"]["CPUExecutionProvider"])
    assert "error" in unopened[0], "nothing was opened"


def test_it_tells_the_versions_that_it_is_asked_for() -> None:
    finished = subprocess.run(
        [sys.executable, "-P", str(WORKER)],
        input=b"",
        capture_output=True,
        check=True,
        env={"EDGECNN_VERSIONS_OF": "onnx pydantic"},
    )
    (greeting,) = unpack(finished.stdout)
    assert {"onnx", "pydantic", "python", "numpy", "onnxruntime"} == set(greeting[0]["versions"])
    assert greeting[0]["cpu"]


@pytest.mark.parametrize(
    ("cpuinfo", "model", "name"),
    [
        ("processor\t: 0\nmodel name\t: AMD EPYC\n", "", "AMD EPYC"),
        ("processor\t: 0\nHardware\t: BCM2835\n", "Raspberry Pi 3\0", "BCM2835"),
        ("processor\t: 0\nCPU part\t: 0xd08\n", "Raspberry Pi 4 Model B\0", "Raspberry Pi 4 Model B"),
        ("processor\t: 0\n", None, ""),
    ],
)
def test_the_cpu_is_called_what_linux_calls_it_or_the_board(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpuinfo: str, model: str | None, name: str
) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    if model is not None:
        (tmp_path / "model").write_text(model)
    places = {"/proc/cpuinfo": tmp_path / "cpuinfo", "/proc/device-tree/model": tmp_path / "model"}
    monkeypatch.setattr(worker, "Path", places.__getitem__)
    assert worker._cpu_name() == name
