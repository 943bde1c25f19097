"""A process that answers frames: started, asked within time limits, and never left behind.

The frames are those of :mod:`edgecnn.targets.worker`.
"""

import json
import os
import re
import select
import signal
import subprocess
import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import IO

from edgecnn.errors import EdgecnnError, StageError
from edgecnn.targets.worker import MAGIC, PREFIX, Header, pack

_MAX_HEADER_BYTES = 2**20
_MAX_BODY_BYTES = 2**32
_PIECE_BYTES = 2**18
#: QEMU says at each start what of a CPU it leaves out; that is never why a program died.
_NOT_A_REASON = re.compile(r"warning: TCG doesn't support|^Node\.js v[\d.]+$")
#: How Python and JavaScript begin to say what was raised: more lines may follow, but this one tells.
_RAISED = re.compile(r"[\w.]*(?:Error|Exception): ")


class WorkerProcess:
    """A child that greets with one frame and then answers each frame with one frame.

    It is in a session of its own: Ctrl-C reaches this process, which then ends the child. Where this process is
    killed outright, the child's stdin ends, and so does the child.
    """

    def __init__(self, command: Sequence[str], *, environment: Mapping[str, str], name: str) -> None:
        self._name = name
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the child lives
        self._process = subprocess.Popen(  # noqa: S603 - the emulator and Python, by full path
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=dict(environment),
            start_new_session=True,
            bufsize=0,
        )
        self._end = weakref.finalize(self, _end, self._process, self._stderr)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._requests, False)
        os.set_blocking(self._answers, False)

    def ask(
        self, header: Header, body: bytes, *, limit_s: float, max_body_bytes: int | None = None
    ) -> tuple[Header, bytes]:
        """Send a frame and return the answer.

        Args:
            header: of the frame.
            body: of the frame.
            limit_s: how long sending and answering may take together.
            max_body_bytes: the longest body that is read; None for 4 GiB.

        Raises:
            StageError: the child crashed, did not answer within the limit, answered something else than a frame, or
                more than was asked for.
        """
        deadline = time.monotonic() + limit_s
        self._write(pack(header, body), deadline, limit_s)
        return self._read_frame(deadline, limit_s, max_body_bytes)

    def greeting(self, *, limit_s: float) -> Header:
        """Return the header of the first frame; raises as :meth:`ask`."""
        return self._read_frame(time.monotonic() + limit_s, limit_s)[0]

    def close(self) -> None:
        """End the child, whatever it is doing."""
        self._end()

    def _read_frame(self, deadline: float, limit_s: float, max_body_bytes: int | None = None) -> tuple[Header, bytes]:
        prefix = self._read(PREFIX.size, deadline, limit_s)
        magic, header_bytes, body_bytes = PREFIX.unpack(prefix)
        if magic != MAGIC or header_bytes > _MAX_HEADER_BYTES or body_bytes > _MAX_BODY_BYTES:
            raise self._failed(f"expected a frame, found {prefix[:16]!r}")
        if max_body_bytes is not None and body_bytes > max_body_bytes:
            raise self._failed(f"expected an answer of {max_body_bytes:,} bytes at most, found {body_bytes:,}")
        text = self._read(header_bytes, deadline, limit_s)
        try:
            header: Header = json.loads(text)
        except ValueError as error:
            raise self._failed(f"expected a frame's header, found {text[:16]!r}") from error
        if not isinstance(header, dict):
            raise self._failed(f"expected a frame's header, found {text[:16]!r}")
        return header, self._read(body_bytes, deadline, limit_s)

    def _write(self, data: bytes, deadline: float, limit_s: float) -> None:
        view = memoryview(data)
        while view:
            self._wait([], [self._requests], deadline, limit_s)
            try:
                view = view[os.write(self._requests, view[:_PIECE_BYTES]) :]
            except BlockingIOError:
                continue
            except BrokenPipeError as error:
                raise self._failed(self._how_it_died()) from error

    def _read(self, n_bytes: int, deadline: float, limit_s: float) -> bytes:
        data = bytearray()
        while len(data) < n_bytes:
            self._wait([self._answers], [], deadline, limit_s)
            piece = os.read(self._answers, min(_PIECE_BYTES, n_bytes - len(data)))
            if not piece:
                raise self._failed(self._how_it_died())
            data += piece
        return bytes(data)

    def _wait(self, readable: list[int], writable: list[int], deadline: float, limit_s: float) -> None:
        """Wait for a pipe; a pipe whose other end is gone counts as ready."""
        left_s = max(0.0, deadline - time.monotonic())
        if not any(select.select(readable, writable, [], left_s)):
            raise self._failed(f"no answer within {limit_s:g} s")

    def _how_it_died(self) -> str:
        try:
            code = self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            return "its pipes are closed"
        return signal_name(-code) if code < 0 else f"it ended with code {code}"

    def _failed(self, what: str) -> EdgecnnError:
        """End the child and return the error that names what happened and the child's last words."""
        last = self._last_words()
        self.close()
        return StageError(
            f"{self._name}: its process failed: {what}{f' ({last})' if last else ''}.",
            next_step="edgecnn targets; if it says ready, report this with the model",
        )

    def _last_words(self) -> str:
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").splitlines()
        told = [line.rstrip() for line in lines if line.strip() and not _NOT_A_REASON.search(line)]
        raised = [line for line in told if _RAISED.match(line)]
        last = (raised or told or [""])[-1].strip()[:300]
        return "".join(character for character in last if character.isprintable())


def signal_name(number: int) -> str:
    """Return ``SIGILL`` and the like."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _end(process: "subprocess.Popen[bytes]", stderr: IO[bytes]) -> None:
    """Kill and reap; also called at exit and when the session is collected."""
    process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout, stderr):
        if stream is not None:
            stream.close()
