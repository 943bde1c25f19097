"""A board over SSH: the Python worker on another machine, spoken to through the user's own ssh.

The worker goes there as the argument of ``python3 -c`` and the models as frames: nothing is written on the board, so
nothing is left there, and a full disk is no obstacle. What ends the connection ends the worker.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from edgecnn.errors import EdgecnnError, StageError, TargetError
from edgecnn.targets import ssh_call, ssh_guard
from edgecnn.targets.emulator import WORKER
from edgecnn.targets.ssh_address import PREFIX, SshAddress, parse_address
from edgecnn.targets.ssh_failures import SSH_FAILED
from edgecnn.targets.worker import Header

#: What the worker is written in; an onnxruntime that runs on an older Python is older than this one, too.
_OLDEST_PYTHON = (3, 10)
#: Older ones do not say which provider runs which node, so nobody could tell what ran.
_OLDEST_ONNXRUNTIME = (1, 24)
#: ssh itself ends so; it says why, unless it was the program on the board that a signal ended.
_ENDED_WITHOUT_A_WORD = f"it ended with code {SSH_FAILED}."


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
    alive_s: int = ssh_call.ALIVE_S

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
        return ssh_call.program()

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
        program = Path(ssh_guard.__file__).read_text() + WORKER.read_text()
        return ssh_call.words(self.address, program, alive_s=self.alive_s)

    def environment(self) -> Mapping[str, str]:
        """Return ssh's environment: this process's, for the agent; English, for the failures that are told apart."""
        return ssh_call.environment()

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

    def explain(self, error: EdgecnnError) -> EdgecnnError:
        """Return what a failure in a session means on a board."""
        if isinstance(error, TargetError):  # the model is too new for what is there
            return TargetError(error.message, next_step=f"on {self.title}: {self.pip}; or {error.next_step}")
        message = error.message
        if message.endswith(_ENDED_WITHOUT_A_WORD):
            message = f"{message.removesuffix('.')}: the program there was killed, perhaps for want of memory."
        return StageError(
            message,
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
    found = ssh_call.probe(board.address)
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


def _installed() -> str:
    import onnxruntime

    version: str = onnxruntime.__version__
    return version


def _version(text: str) -> tuple[int, ...]:
    """Return the first two numbers of a version."""
    return tuple(map(int, re.findall(r"\d+", text)[:2]))
