"""The worker alone, in this machine's own Python: frames in, frames out, and nothing else on stdout."""

import io
import json
import platform
import resource
import subprocess
import sys
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
