"""A board over SSH: the Python worker on another machine, spoken to through the user's own ssh.

The worker goes there as the argument of ``python3 -c`` and the models as frames: nothing is written on the board, so
nothing is left there, and a full disk is no obstacle. What ends the connection ends the worker.
"""

import base64
import json
import os
import re
import shlex
import shutil
import subprocess
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from edgecnn.errors import EdgecnnError, StageError, TargetError
from edgecnn.targets import ssh_failures
from edgecnn.targets.emulator import WORKER
from edgecnn.targets.ssh_address import PREFIX, SshAddress, parse_address
from edgecnn.targets.worker import Header

_HERE = Path(__file__).parent
#: What the worker is written in; an onnxruntime that runs on an older Python is older than this one, too.
_OLDEST_PYTHON = (3, 10)
#: Older ones do not say which provider runs which node, so nobody could tell what ran.
_OLDEST_ONNXRUNTIME = (1, 24)
_LIBRARIES = ("numpy", "onnxruntime")
_CONNECT_S, _ALIVE_S, _ALIVE_TRIES = 10, 10, 3
#: A small board may take ten seconds to import onnxruntime, and half a minute while it does something else.
_PROBE_LIMIT_S = 90.0
_TOO_NEW = re.compile(r"IR version|opset|is not a registered function/op", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class SshBoard:
    """A machine that answers to SSH and has Python with onnxruntime and numpy.

    Attributes:
        address: where it is.
        call_limit_s: how long one answer may take; 64 images of 224x224 take a minute or two on a small board.
        alive_s: a board that answers nothing, not even to ssh itself, is given up after three times as long.
    """

    address: SshAddress
    call_limit_s: float = 600.0
    alive_s: int = _ALIVE_S

    @property
    def title(self) -> str:
        """What people call it."""
        return self.address.login

    @property
    def folder(self) -> Path | None:
        """Nothing is set up for it here."""
        return None

    @property
    def program(self) -> str:
        """The path of ssh, or its name where it is not on PATH."""
        return shutil.which("ssh") or "ssh"

    def why_not(self) -> str | None:
        """Connect, and return why it cannot run a model, or None if it can."""
        try:
            self.look()
        except TargetError as error:
            return error.message.rstrip(".")
        return None

    def look(self) -> None:
        """Connect and see that the board has what it takes; one that had is not asked again by this process.

        Raises:
            TargetError: it cannot be reached, or lacks something; with the command that helps.
        """
        _look(self)

    def command(self) -> list[str]:
        """Return what connects and starts the worker."""
        return self.ssh(_text("ssh_guard.py") + _text("worker.py"))

    def ssh(self, program: str) -> list[str]:
        """Return the call of ssh that runs a Python program on the board.

        The words of the address are options' values, or behind ``--``; what the board's shell is told is quoted.
        """
        told = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "ConnectTimeout": str(_CONNECT_S),
            "ConnectionAttempts": "1",
            "ServerAliveInterval": str(self.alive_s),
            "ServerAliveCountMax": str(_ALIVE_TRIES),
            "ClearAllForwardings": "yes",
            "ForwardAgent": "no",
            "ForwardX11": "no",
            "PermitLocalCommand": "no",
            "RequestTTY": "no",
            "ControlMaster": "no",
            "LogLevel": "INFO",  # at ERROR it keeps to itself that the server stopped responding
        }
        options = [word for name, value in told.items() for word in ("-o", f"{name}={value}")]
        if self.address.port is not None:
            options += ["-p", str(self.address.port)]
        return [self.program, *options, "--", self.address.login, _remote_words(self.address.python, program)]

    def environment(self) -> Mapping[str, str]:
        """Return ssh's environment: this process's, for the agent; English, for the failures that are told apart."""
        return os.environ | {"LC_ALL": "C"}

    def cpu(self, seen: Header) -> str:
        """Return the CPU's name as the board tells it."""
        return str(seen.get("cpu") or seen["machine"])

    def adapt(self, model: bytes) -> bytes:
        """Return the model as it is."""
        return model

    def differs(self, seen: Header) -> str | None:
        """Return how the board's onnxruntime is another than asked for, or None."""
        found, wanted = seen["versions"]["onnxruntime"], self.wanted
        return None if found == wanted else f"expected onnxruntime {wanted}, found {found}"

    @property
    def wanted(self) -> str:
        """The version of onnxruntime that the board is to have."""
        return self.address.onnxruntime or _installed()

    @property
    def pip(self) -> str:
        """What installs on the board what is missing, to be typed there."""
        return f"{self.address.python} -m pip install onnxruntime=={self.wanted} 'numpy>=2'"

    def explain(self, error: StageError) -> EdgecnnError:
        """Return what a failure in a session means on a board."""
        if _TOO_NEW.search(error.message):
            return StageError(
                f"{error.message.rstrip('.')}: the model is too new for the onnxruntime there.",
                next_step=f"on {self.title}: {self.pip}; or edgecnn export with a lower --opset",
            )
        return StageError(
            error.message,
            next_step=f"see how it is doing: {self.address.by_hand}; then the same command again",
        )


def board(name: str) -> SshBoard:
    """Return the board that a target's name means.

    Raises:
        UsageError: the name is not of the form ``cpu@ssh://user@host``.
    """
    return SshBoard(address=parse_address(name))


def is_board(name: str) -> bool:
    """Tell whether a target's name means a board."""
    return name.startswith(PREFIX.removesuffix("//"))


@cache
def _look(board: SshBoard) -> None:
    found = _probe(board)
    name, address = board.title, board.address
    if _version(found["python"]) < _OLDEST_PYTHON:
        raise TargetError(
            f"{name}: expected Python 3.11 or newer, found {found['python']} ({address.python}).",
            next_step=f"install a newer one there, and name it: {PREFIX}{address.login}/usr/bin/python3.11",
        )
    for library, error in found["errors"].items():
        missing = error.startswith("ModuleNotFoundError")
        what = f"has no {library}" if missing else f"has a {library} that cannot be loaded on {found['machine']}"
        raise TargetError(f"{name}: {address.python} {what} ({error}).", next_step=f"on {name}: {board.pip}")
    if _version(found["versions"]["onnxruntime"]) < _OLDEST_ONNXRUNTIME:
        raise TargetError(
            f"{name}: expected onnxruntime 1.24 or newer, found {found['versions']['onnxruntime']}, "
            "which does not tell what ran where.",
            next_step=f"on {name}: {address.python} -m pip install onnxruntime=={_installed()}",
        )
    if reason := board.differs(found):
        other = f"?onnxruntime={found['versions']['onnxruntime']}"
        raise TargetError(
            f"{name}: {reason}; kernels differ between versions.",
            next_step=f"on {name}: {board.pip}; or ask for what is there: add {other} to the target's name",
        )


def _probe(board: SshBoard) -> Any:
    """Return what the board says of itself.

    Raises:
        TargetError: it cannot be reached, has no Python, or says something else.
    """
    if shutil.which("ssh") is None:
        raise TargetError("ssh is not on PATH.", next_step="install OpenSSH's client (Debian: openssh-client)")
    done = _run(board, board.ssh(_text("ssh_probe.py")))
    said = done.stderr.decode(errors="replace")
    if done.returncode:
        why, advice = ssh_failures.explain(done.returncode, said, board.address)
        raise TargetError(f"{board.title}: {why}.", next_step=advice)
    try:
        found = json.loads(done.stdout.splitlines()[-1])
        texts = {key: ssh_failures.last_line(found[key]) for key in ("machine", "python")}
        tables = {
            key: {name: ssh_failures.last_line(found[key][name]) for name in _LIBRARIES if name in found[key]}
            for key in ("versions", "errors")
        }
        if set().union(*tables.values()) != set(_LIBRARIES):
            raise KeyError("a library is neither there nor missing")
        return {**texts, **tables}
    except (IndexError, ValueError, KeyError, TypeError, AttributeError) as error:
        shown = ssh_failures.last_line(done.stdout.decode(errors="replace"))
        raise TargetError(
            f"{board.title}: expected the answer of a Python program, found {shown!r}.",
            next_step=f"{board.address.by_hand} echo hello; nothing else may be printed by the shell's start files",
        ) from error


def _run(board: SshBoard, command: list[str]) -> "subprocess.CompletedProcess[bytes]":
    try:
        return subprocess.run(  # noqa: S603 - ssh by full path, with words that were checked
            command,
            env=dict(board.environment()),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_PROBE_LIMIT_S,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as error:
        raise TargetError(
            f"{board.title}: does not answer within {_PROBE_LIMIT_S:g} s.",
            next_step=f"see how it is doing: {board.address.by_hand}",
        ) from error


def _installed() -> str:
    import onnxruntime

    version: str = onnxruntime.__version__
    return version


def _version(text: str) -> tuple[int, ...]:
    """Return the first two numbers of a version."""
    return tuple(map(int, re.findall(r"\d+", text)[:2]))


def _text(name: str) -> str:
    return (WORKER if name == WORKER.name else _HERE / name).read_text()


def _remote_words(python: str, program: str) -> str:
    """Return one line for the login shell over there, whichever it is: nothing in it means anything to a shell."""
    packed = base64.b64encode(zlib.compress(program.encode(), 9)).decode()
    start = f'import base64,zlib;exec(compile(zlib.decompress(base64.b64decode("{packed}")),"edgecnn","exec"))'
    return f"exec {shlex.quote(python)} -c {shlex.quote(start)}"
