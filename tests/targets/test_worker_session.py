"""Sessions in an emulated process: mostly of this machine's own Python, and of a real Haswell where there is one."""

import platform
import sys
from pathlib import Path

import numpy as np
import pytest

from edgecnn.errors import ExitCode, ModelError, StageError, TargetError
from edgecnn.targets import open_session, reference_session, running
from edgecnn.targets.emulator import WORKER, EmulatedCpu
from edgecnn.targets.worker_session import WorkerSession
from tests.emulation import native_cpu, needs_haswell, plant_target
from tests.graphs import small_cnn

DATA = small_cnn().SerializeToString()
X = np.random.default_rng(0).random((4, 3, 8, 8), np.float32)
NATIVE = [sys.executable, "-P", str(WORKER)]


def session(
    command: list[str] = NATIVE, cpu: EmulatedCpu | None = None, model: bytes = DATA, call_limit_s: float = 60
) -> WorkerSession:
    return WorkerSession(
        model,
        model_name="int8.onnx",
        target="cpu@x",
        runtime=cpu or native_cpu(),
        clock="emulated",
        command=command,
        call_limit_s=call_limit_s,
    )


def spoiled(statement: str) -> list[str]:
    """Return a worker that runs ``statement`` when it is asked to run a batch."""
    code = f"""
import runpy, sys
source = open({str(WORKER)!r}).read().replace("def _run(session: Any, header: Header, body: bytes) -> Any:",
    "def _run(session, header, body):\\n    import os, time\\n    {statement}")
exec(compile(source, "worker", "exec"), {{"__name__": "__main__"}})
"""
    return [sys.executable, "-c", code]


def test_the_answers_are_those_of_a_session_in_this_process() -> None:
    here = reference_session(DATA, model_name="int8.onnx")
    with session() as there:
        np.testing.assert_array_equal(there.run(X), here.run(X))
        np.testing.assert_array_equal(there.run(X[:1]), here.run(X[:1]))
        assert there.run(X).dtype == np.float32
        assert (there.input, there.output) == (here.input, here.output)
        assert there.nodes_by_provider == here.nodes_by_provider
        assert there.clock == "emulated"


def test_the_machine_is_what_the_worker_sees() -> None:
    with session() as there:
        found = there.machine
    assert found.cpu == "Fake CPU, emulated by QEMU"
    assert found.architecture == platform.machine()
    assert found.versions["numpy"] == np.__version__
    assert found.versions["python"] == platform.python_version()


def test_a_broken_model_is_refused_before_anything_is_started() -> None:
    with pytest.raises(ModelError, match=r"int8\.onnx: ONNX Runtime cannot load it"):
        session(["/no/such/program"], model=DATA[:-50])


def test_a_process_that_does_not_start_is_a_target_that_is_not_here() -> None:
    with pytest.raises(TargetError, match=r"cpu@x: .*ended with code 3 \(no such library\)") as caught:
        session([sys.executable, "-c", "import sys; sys.stderr.write('no such library'); sys.exit(3)"])
    assert caught.value.exit_code == ExitCode.TARGET_UNAVAILABLE
    assert caught.value.next_step == "edgecnn targets install cpu@x --force"


def test_another_cpu_than_asked_for_is_refused() -> None:
    with pytest.raises(TargetError, match="cpu@x: the emulated CPU has no NO_SUCH_FEATURE") as caught:
        session(cpu=native_cpu(has=frozenset({"NO_SUCH_FEATURE"})))
    assert caught.value.exit_code == ExitCode.TARGET_UNAVAILABLE


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("os.write(2, b'illegal opcode'); os.kill(os.getpid(), 4)", r"SIGILL \(illegal opcode\)"),
        ("os.kill(os.getpid(), 11)", "SIGSEGV"),
        ("raise ValueError('a bad batch')", r"the runtime failed there \(a bad batch\)"),
    ],
)
def test_what_goes_wrong_in_a_batch_is_named(statement: str, words: str) -> None:
    with session(spoiled(statement)) as there, pytest.raises(StageError, match=words) as caught:
        there.run(X)
    assert caught.value.message.startswith("int8.onnx on cpu@x: ")
    assert caught.value.exit_code == ExitCode.STAGE_FAILED


def test_a_batch_has_a_time_limit() -> None:
    there = session(spoiled("time.sleep(60)"), call_limit_s=20)
    there._call_limit_s = 0.3
    with pytest.raises(StageError, match=r"no answer within 0\.3 s"):
        there.run(X)


def test_opening_that_fails_leaves_no_process() -> None:
    code = f"""
source = open({str(WORKER)!r}).read().replace("def _open(model: bytes, header: Header) -> Any:",
    "def _open(model, header):\\n    raise ValueError(f'pid {{os.getpid()}}')")
exec(compile(source, "worker", "exec"), {{"__name__": "__main__"}})
"""
    with pytest.raises(StageError, match="pid") as caught:
        session([sys.executable, "-c", code])
    pid = int(caught.value.message.partition("pid ")[2].partition(")")[0])
    assert not Path(f"/proc/{pid}").exists()


def test_a_target_of_the_table_is_opened_run_and_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = plant_target(tmp_path, monkeypatch)
    with running(name, DATA, model_name="int8.onnx") as there:
        assert isinstance(there, WorkerSession)
        np.testing.assert_array_equal(there.run(X), reference_session(DATA, model_name="int8.onnx").run(X))
    with pytest.raises((OSError, ValueError, StageError)):
        there.run(X)
    assert there._worker._process.returncode is not None


def test_an_error_in_between_closes_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = plant_target(tmp_path, monkeypatch)
    with pytest.raises(KeyboardInterrupt), running(name, DATA, model_name="int8.onnx") as there:
        raise KeyboardInterrupt
    assert isinstance(there, WorkerSession)
    assert there._worker._process.returncode is not None


@needs_haswell
def test_an_emulated_haswell_answers_as_this_machine_does_in_float() -> None:
    before = set(Path().iterdir())
    with running("cpu@haswell", DATA, model_name="float.onnx") as there:
        assert isinstance(there, WorkerSession)
        here = open_session("cpu", DATA, model_name="float.onnx").run(X)
        np.testing.assert_allclose(there.run(X), here, rtol=1e-5, atol=1e-5)
        assert there.machine.cpu_features == ("AVX2", "FMA3")
        assert there.machine.architecture == "x86_64"
        assert "Haswell" in there.machine.cpu
    assert set(Path().iterdir()) == before


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (
            "import numpy; return numpy.zeros((2, 6), '<f4')",
            r"answered oddly: expected logits \[4, 3\], found \[2, 6\]",
        ),
        (
            "import numpy; return numpy.zeros((4, 2), '<f4')",
            r"answered oddly: expected logits \[4, 3\], found \[4, 2\]",
        ),
        ("import numpy; return numpy.zeros((9, 3), '<f4')", "expected an answer of 48 bytes at most, found 108"),
    ],
)
def test_an_answer_to_something_else_is_an_error_and_ends_the_process(statement: str, words: str) -> None:
    with session(spoiled(statement)) as there:
        with pytest.raises(StageError, match=words):
            there.run(X)
        assert there._worker._process.returncode is not None


def test_a_worker_that_greets_oddly_is_a_target_that_is_not_here() -> None:
    code = f"import sys; sys.path.insert(0, {str(WORKER.parents[2])!r})\n"
    code += "from edgecnn.targets.worker import pack; sys.stdout.buffer.write(pack({'cpu': 'x'}))"
    with pytest.raises(TargetError, match="cpu@x: its process answered oddly: expected a greeting that tells system"):
        session([sys.executable, "-c", code])


def test_a_worker_that_does_not_tell_where_its_nodes_are_is_refused() -> None:
    code = f"""
source = open({str(WORKER)!r}).read().replace("def _placement(session: Any) -> Header:",
    "def _placement(session):\\n    return {{'nodes': {{'CPUExecutionProvider': -1}}}}")
exec(compile(source, "worker", "exec"), {{"__name__": "__main__"}})
"""
    with pytest.raises(StageError, match="expected how many nodes each provider runs, found"):
        session([sys.executable, "-c", code])


def test_a_model_too_new_for_the_runtime_there_is_a_target_that_does_not_take_it() -> None:
    code = f"""
source = open({str(WORKER)!r}).read().replace("def _open(model: bytes, header: Header) -> Any:",
    "def _open(model, header):\\n    raise ValueError('IR version: 14, max supported IR version: 13')")
exec(compile(source, "worker", "exec"), {{"__name__": "__main__"}})
"""
    with pytest.raises(TargetError, match=r"too new for the runtime there .*max supported IR version: 13") as caught:
        session([sys.executable, "-c", code])
    assert caught.value.exit_code == ExitCode.TARGET_UNAVAILABLE
    assert "--opset" in caught.value.next_step
