"""A child that answers frames, and every way in which one can fail."""

import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgecnn.errors import ExitCode, StageError
from edgecnn.targets.worker_process import WorkerProcess, signal_name

SOURCE = str(Path(__file__).parents[2])
#: Speaks for children: the framing is that of the worker itself.
PREAMBLE = f"""
import os, signal, sys, time
sys.path.insert(0, {SOURCE!r})
from edgecnn.targets.worker import PREFIX, pack, _receive, _send
out, inp = os.fdopen(1, "wb"), os.fdopen(0, "rb")
"""
ECHO = "_send(out, {'pid': os.getpid()})\nwhile got := _receive(inp): _send(out, *got)"


def start(code: str) -> WorkerProcess:
    return WorkerProcess([sys.executable, "-c", PREAMBLE + code], environment=os.environ, name="int8.onnx on cpu@x")


@pytest.fixture
def echo() -> Iterator[WorkerProcess]:
    worker = start(ECHO)
    yield worker
    worker.close()


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def gone(pid: int) -> bool:
    """Wait for a process to end; a loaded machine takes its time."""
    deadline = time.monotonic() + 30
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


def failure(code: str, *, body: bytes = b"", limit_s: float = 30) -> StageError:
    worker = start("_send(out, {})\n" + code)
    worker.greeting(limit_s=30)
    with pytest.raises(StageError) as caught:
        worker.ask({"do": "run"}, body, limit_s=limit_s)
    assert caught.value.exit_code == ExitCode.STAGE_FAILED
    assert caught.value.message.startswith("int8.onnx on cpu@x: ")
    assert caught.value.next_step
    assert worker._process.returncode is not None, "it was ended"
    return caught.value


@pytest.mark.parametrize("size", [0, 1, 70_000, 20_000_000])
def test_what_is_asked_comes_back_whole_however_large(echo: WorkerProcess, size: int) -> None:
    body = os.urandom(size)
    echo.greeting(limit_s=30)
    assert echo.ask({"a": "ü"}, body, limit_s=60) == ({"a": "ü"}, body)


def test_a_crash_is_named_with_the_last_words() -> None:
    said = "sys.stderr.write('first\\nout of ideas\\nwarning: TCG doesn\\'t support requested feature\\n\\n');"
    for name in ("SIGILL", "SIGSEGV"):
        error = failure(f"{said} sys.stderr.flush(); os.kill(os.getpid(), signal.{name})")
        assert f"{name} (out of ideas)" in error.message


def test_an_end_is_named_with_its_code() -> None:
    assert "ended with code 7" in failure("sys.exit(7)").message
    assert "ended with code 0" in failure("_receive(inp)").message


def test_a_traceback_ends_in_the_error() -> None:
    assert "ended with code 1 (ValueError: what)" in failure("raise ValueError('what')").message


def test_silence_has_a_limit() -> None:
    assert "no answer within 0.3 s" in failure("time.sleep(60)", limit_s=0.3).message


def test_who_does_not_listen_is_not_waited_for() -> None:
    assert "no answer within 0.3 s" in failure("time.sleep(60)", body=bytes(10_000_000), limit_s=0.3).message


def test_half_an_answer_is_no_answer() -> None:
    assert (
        "no answer within"
        in failure("out.write(pack({}, b'abc')[:-1]); out.flush(); time.sleep(60)", limit_s=2).message
    )
    assert "ended with code 0" in failure("out.write(pack({}, b'abc')[:-1]); out.flush()").message


@pytest.mark.parametrize(
    "noise",
    [
        "b'hello, this is no frame'",
        "PREFIX.pack(b'EDGE', 3, 0) + b'{}}'",
        "PREFIX.pack(b'EDGE', 2**31, 0)",
        "PREFIX.pack(b'EDGE', 0, 2**60)",
    ],
)
def test_what_is_no_frame_is_refused(noise: str) -> None:
    assert "expected a frame" in failure(f"out.write({noise}); out.flush(); time.sleep(60)").message


def test_last_words_cannot_spoil_a_terminal() -> None:
    message = failure("sys.stderr.write('\\x1b[31m' + 'x' * 5000); sys.exit(3)").message
    assert "\x1b" not in message
    assert len(message) < 500


def test_closing_ends_it_whatever_it_does(echo: WorkerProcess) -> None:
    pid = echo.greeting(limit_s=30)["pid"]
    assert alive(pid)
    echo.close()
    assert not alive(pid)
    echo.close()


def test_who_forgets_to_close_leaves_nothing() -> None:
    worker = start(ECHO)
    pid = worker.greeting(limit_s=30)["pid"]
    del worker
    gc.collect()
    assert gone(pid)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_when_the_parent_is_ended(how: signal.Signals) -> None:
    code = f"""
import signal, sys, time
sys.path.insert(0, {SOURCE!r})
from edgecnn.cli import _terminate
signal.signal(signal.SIGTERM, _terminate); signal.signal(signal.SIGINT, signal.default_int_handler)
from tests.targets.test_worker_process import ECHO, start
worker = start(ECHO)
print(worker.greeting(limit_s=30)["pid"], flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert alive(pid)
    parent.send_signal(how)
    parent.communicate(timeout=30)
    assert gone(pid)


def test_ctrl_c_at_the_terminal_does_not_reach_the_child(echo: WorkerProcess) -> None:
    pid = echo.greeting(limit_s=30)["pid"]
    assert os.getpgid(pid) != os.getpgid(0)


def test_signals_have_names() -> None:
    assert [signal_name(number) for number in (4, 11, 200)] == ["SIGILL", "SIGSEGV", "signal 200"]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            "SyntaxError: Unexpected end of input\\n    at compile (x)\\n\\nNode.js v20.20.2\\n",
            "(SyntaxError: Unexpected end ",
        ),
        (
            "Traceback\\n  File\\npw.Error: BrowserType.launch: closed\\nCall log:\\n- [pid=7] <close>\\n",
            "(pw.Error: BrowserType",
        ),
        ("a\\nb\\nNode.js v20.20.2\\n", "(b)"),
    ],
)
def test_the_line_that_says_what_was_raised_is_told_whatever_follows_it(said: str, words: str) -> None:
    assert f"it ended with code 3 {words}" in failure(f"sys.stderr.write('{said}'); sys.exit(3)").message
