"""A peer's process, and how it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edgecnn.errors import StageError
from scripts.peer_bench.process import ROOT, PeerProcess, reason
from scripts.peer_bench.table import Peer

PYTHON = Path(sys.executable)


def test_a_process_that_does_not_speak_the_protocol_is_found_out(tmp_path: Path) -> None:
    with (
        PeerProcess(Peer(title="x", module="this", packages=()), PYTHON, tmp_path) as process,
        pytest.raises(StageError, match="expected JSON, found b'The Zen of Python"),
    ):
        process.ask({"do": "open"}, limit_s=30)


def test_a_peer_is_told_of_one_thread_and_no_telemetry_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THIS_SHELL", "1")
    monkeypatch.setattr("scripts.peer_bench.process.ROOT", tmp_path)
    (tmp_path / "tells.py").write_text("import os, json; print(json.dumps(dict(os.environ)))")
    with PeerProcess(Peer(title="x", module="tells", packages=()), PYTHON, tmp_path) as process:
        told = process.ask({}, limit_s=30)
    assert told["OMP_NUM_THREADS"] == "1"
    assert told["CI"] == "true"
    assert told["HOME"] == str(tmp_path)
    assert "SECRET_OF_THIS_SHELL" not in told


def test_ctrl_c_ends_the_peers(tmp_path: Path) -> None:
    program = f"""
import contextlib, pathlib
from scripts.peer_bench.process import PeerProcess
from scripts.peer_bench.table import Peer
scratch = pathlib.Path({str(tmp_path)!r}, "hangs")
scratch.mkdir()
peer = Peer(title="x", module="tests.fake_peer", packages=())
with PeerProcess(peer, pathlib.Path({sys.executable!r}), scratch) as p:
    print(p._process.pid, flush=True)
    p.ask({{"do": "prepare", "inputs": "", "output": str(scratch)}}, limit_s=300)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    peer = int(parent.stdout.readline())
    os.kill(peer, 0)  # it lives
    parent.send_signal(signal.SIGINT)
    parent.communicate(timeout=30)
    with pytest.raises(ProcessLookupError):
        os.kill(peer, 0)


def test_the_reason_is_the_exceptions_first_line() -> None:
    first = "warning: x\nTraceback (most recent call last):\n  File\nKeyError: 1\n\nDuring\n\n"
    two = f"{first}Traceback (most recent call last):\n  at\nOSError: 2\nmore\n"
    assert reason(two) == "OSError: 2"
    assert reason("terminate called\n  what():  too long\n") == "what():  too long"
    assert reason("") == ""


def test_a_request_that_no_peer_knows_is_an_error(tmp_path: Path) -> None:
    with (
        PeerProcess(Peer(title="x", module="tests.fake_peer", packages=()), PYTHON, tmp_path) as process,
        pytest.raises(StageError, match="expected prepare, open, answer or time, found 'dance'"),
    ):
        process.ask({"do": "dance"}, limit_s=30)
