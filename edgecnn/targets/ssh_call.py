"""The user's own ssh: how it is called, and the first question that a board is asked."""

import base64
import json
import os
import shlex
import shutil
import subprocess
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgecnn.errors import TargetError
from edgecnn.targets import ssh_failures, ssh_probe
from edgecnn.targets.ssh_address import SshAddress

ALIVE_S = 10
_CONNECT_S, _ALIVE_TRIES = 10, 3
#: A small board may take ten seconds to import onnxruntime, and half a minute while it does something else.
_PROBE_LIMIT_S = 90.0
_LIBRARIES = ("numpy", "onnxruntime")


def program() -> str:
    """Return the path of ssh, or its name where it is not on PATH."""
    return shutil.which("ssh") or "ssh"


def environment() -> Mapping[str, str]:
    """Return ssh's environment: this process's, for the agent; English, for the failures that are told apart."""
    return os.environ | {"LC_ALL": "C"}


def words(address: SshAddress, python_program: str, *, alive_s: int = ALIVE_S) -> list[str]:
    """Return the call of ssh that runs a Python program on a board.

    The words of the address are options' values, or behind ``--``; what the board's shell is told is quoted.

    Args:
        address: of the board.
        python_program: its text.
        alive_s: a board that answers nothing, not even to ssh itself, is given up after three times as long.
    """
    told = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "ConnectTimeout": str(_CONNECT_S),
        "ConnectionAttempts": "1",
        "ServerAliveInterval": str(alive_s),
        "ServerAliveCountMax": str(_ALIVE_TRIES),
        "ClearAllForwardings": "yes",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "PermitLocalCommand": "no",
        "RequestTTY": "no",
        "RemoteCommand": "none",
        "ControlMaster": "no",
        "LogLevel": "INFO",  # at ERROR it keeps to itself that the server stopped responding
    }
    options = [word for name, value in told.items() for word in ("-o", f"{name}={value}")]
    if address.port is not None:
        options += ["-p", str(address.port)]
    return [program(), *options, "--", address.login, _remote_words(address.python, python_program)]


def probe(address: SshAddress) -> Any:
    """Return what the board says of itself.

    Raises:
        TargetError: it cannot be reached, has no Python, or says something else.
    """
    if shutil.which("ssh") is None:
        raise TargetError("ssh is not on PATH.", next_step="install OpenSSH's client (Debian: openssh-client)")
    done = _run(address, words(address, Path(ssh_probe.__file__).read_text()))
    said = done.stderr.decode(errors="replace")
    if done.returncode:
        why, advice = ssh_failures.explain(done.returncode, said, address)
        raise TargetError(f"{address.login}: {why}.", next_step=advice)
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
            f"{address.login}: expected the answer of a Python program, found {shown!r}.",
            next_step=f"{address.by_hand} echo hello; nothing else may be printed by the shell's start files",
        ) from error


def _run(address: SshAddress, command: list[str]) -> "subprocess.CompletedProcess[bytes]":
    try:
        return subprocess.run(  # noqa: S603 - ssh by full path, with words that were checked
            command,
            env=dict(environment()),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=_PROBE_LIMIT_S,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired as error:
        raise TargetError(
            f"{address.login}: does not answer within {_PROBE_LIMIT_S:g} s.",
            next_step=f"see how it is doing: {address.by_hand}",
        ) from error


def _remote_words(python: str, program_text: str) -> str:
    """Return one line for the login shell over there, whichever it is: nothing in it means anything to a shell."""
    packed = base64.b64encode(zlib.compress(program_text.encode(), 9)).decode()
    start = f'import base64,zlib;exec(compile(zlib.decompress(base64.b64decode("{packed}")),"edgecnn","exec"))'
    return f"exec {shlex.quote(python)} -c {shlex.quote(start)}"
