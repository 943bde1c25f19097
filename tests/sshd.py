"""A real SSH server on loopback, with a key, a configuration and a list of known hosts of its own."""

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgecnn.targets.ssh import SshBoard, board

_LOG_IN_LIMIT_S = 20


def find_sshd() -> str | None:
    """Return where the server is; Debian keeps it off the PATH of users."""
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def why_no_sshd() -> str | None:
    """Return why no server can be started here, or None."""
    if find_sshd() is None or shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
        return "no sshd here (Debian: apt-get install openssh-server)"
    if os.geteuid() == 0:  # it wants this folder of the system, empty, before it lets root in
        with contextlib.suppress(OSError):
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        if not Path("/run/sshd").is_dir():
            return "sshd has no /run/sshd here"
    return None


needs_sshd = pytest.mark.skipif(why_no_sshd() is not None, reason=str(why_no_sshd()))


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server, and where its files are."""

    folder: Path
    port: int
    process: "subprocess.Popen[bytes]"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    def target(self, python: Path | str = sys.executable, query: str = "") -> str:
        """Return the name of this machine as a board that runs a Python."""
        return f"cpu@ssh://{getpass.getuser()}@127.0.0.1:{self.port}{python}{query}"

    def board(self, python: Path | str = sys.executable) -> SshBoard:
        return board(self.target(python))

    def python(self, name: str, before: str = "", patch: str = "") -> Path:
        """Write a Python for the board: shell that runs first, and Python that runs when it starts."""
        site = self.folder / f"site-{name}"
        site.mkdir()
        (site / "sitecustomize.py").write_text(patch)
        program = self.folder / name
        own = "" if not patch else f"export PYTHONPATH={site}\n"
        program.write_text(f'#!/bin/sh\n{before}\n{own}exec {sys.executable} "$@"\n')
        program.chmod(0o755)
        return program


@contextlib.contextmanager
def running_sshd(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Start a server that lets this user in with a key made for it, and make ``ssh`` use that key and nothing else."""
    _make_key(folder / "host_key")
    _make_key(folder / "user_key")
    port = _free_port()
    host_key = (folder / "host_key.pub").read_text()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}")
    shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
    process = _start(folder, port)
    _plant_ssh(folder, monkeypatch)
    server = Server(folder=folder, port=port, process=process)
    try:
        _wait_for(server)
        yield server
    finally:
        process.terminate()
        process.wait()


def _make_key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)], check=True)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _start(folder: Path, port: int) -> "subprocess.Popen[bytes]":
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_key\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nPidFile {folder}/sshd.pid\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        "PermitRootLogin yes\nMaxStartups 100\nLogLevel ERROR\n"
    )
    program = find_sshd()
    assert program is not None
    with (folder / "sshd.log").open("wb") as log:
        return subprocess.Popen([program, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log)


def _plant_ssh(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a ``ssh`` on PATH that reads no configuration but this: a user's own has no place in a test."""
    (folder / "ssh_config").write_text(
        f"UserKnownHostsFile {folder}/known_hosts\nGlobalKnownHostsFile /dev/null\n"
        f"IdentityFile {folder}/user_key\nIdentitiesOnly yes\nIdentityAgent none\n"
    )
    real = shutil.which("ssh")
    (folder / "bin").mkdir()
    program = folder / "bin" / "ssh"
    program.write_text(f'#!/bin/sh\necho "$@" >> {folder}/calls\nexec {real} -F {folder}/ssh_config "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")


def _wait_for(server: Server) -> None:
    deadline = time.monotonic() + _LOG_IN_LIMIT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", server.port), timeout=1):
            return
        assert server.process.poll() is None, (server.folder / "sshd.log").read_text()
        time.sleep(0.05)
    raise AssertionError("sshd does not listen")
