"""A peer's process: asked one line of JSON, within a time limit, and never left behind."""

import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from edgecnn.errors import StageError
from scripts.peer_bench.table import Peer

ROOT = Path(__file__).resolve().parent.parent.parent


class PeerProcess:
    """Runs a peer's module with the Python of its environment.

    It is in a session of its own: Ctrl-C reaches this process, which then ends the peer and what that has started.
    """

    def __init__(self, peer: Peer, python: Path, folder: Path) -> None:
        self._stderr = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - open as long as the peer lives
        self._closed = False
        self._buffer = b""
        self._process = subprocess.Popen(
            [str(python), "-P", "-m", peer.module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            cwd=folder,
            env=_environment(folder),
            start_new_session=True,
            bufsize=0,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, request: Mapping[str, Any], *, limit_s: float) -> dict[str, Any]:
        """Send a request and return the answer.

        Raises:
            StageError: the process crashed, did not answer in time, or answered something else than a line of JSON.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            line = self._read_line(time.monotonic() + limit_s)
        except BrokenPipeError:
            line = b""
        if line is None:
            raise self._failed(f"no answer within {limit_s:g} s")
        if not line:
            raise self._failed(self._how_it_died())
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError as error:
            raise self._failed(f"expected JSON, found {line[:40]!r}") from error
        return answer

    def close(self) -> None:
        """End the process and all that it started, whatever they are doing."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(ProcessLookupError):  # it is gone already
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            if stream is not None:
                stream.close()

    def _read_line(self, deadline: float) -> bytes | None:
        """Return a line; nothing where the process ended, None where time ran out."""
        assert self._process.stdout is not None
        while b"\n" not in self._buffer:
            left_s = max(0.0, deadline - time.monotonic())
            if not select.select([self._process.stdout], [], [], left_s)[0]:
                return None
            piece = os.read(self._process.stdout.fileno(), 2**16)
            if not piece:
                return b""
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _how_it_died(self) -> str:
        self._stderr.seek(0)
        told = reason(self._stderr.read().decode(errors="replace"))
        code = self._process.wait(timeout=10)
        died = signal.Signals(-code).name if code < 0 else f"code {code}"
        return f"{told} ({died})" if told else f"ended with {died}"

    def _failed(self, what: str) -> StageError:
        self.close()
        return StageError(what, next_step="run the peer's module by hand, see scripts/peers/serve.py")


def _environment(folder: Path) -> dict[str, str]:
    """Return what a peer is told of its surroundings: one thread, a home to write in, and no telemetry."""
    # CI=true is how openvino-telemetry, which nncf brings, is asked to send nothing.
    told = {"PYTHONPATH": str(ROOT), "HOME": str(folder), "OMP_NUM_THREADS": "1", "CI": "true", "HF_HUB_OFFLINE": "1"}
    return {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ} | told


def reason(stderr: str) -> str:
    """Return the first line of the exception at the end of a traceback; without one, the last line."""
    lines = [line.rstrip() for line in stderr.splitlines() if line.strip()]
    starts = [index for index, line in enumerate(lines) if line.startswith("Traceback")]
    told = lines[starts[-1] + 1 :] if starts else []
    return next((line for line in told if not line.startswith(" ")), lines[-1] if lines else "").strip()
