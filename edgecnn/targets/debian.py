"""Debian packages of another architecture, fetched by apt and unpacked into a folder.

apt is given a state, a cache and a list of installed packages of its own, all in that folder: the system's are
neither read for what is installed nor changed, no architecture is added to dpkg, and root is not needed. Only where
the packages come from is taken from the system's ``sources.list``.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from edgecnn.errors import TargetError
from edgecnn.progress import Progress

_PROGRAMS = ("apt-get", "apt-cache", "dpkg-deb")
#: What came with the packages and a Python does not need.
_UNUSED = ("etc", "var", "bin", "sbin", "usr/sbin", "usr/share")
_LIMIT_S = 1800


def call(command: Sequence[str], *, what: str, next_step: str) -> str:
    """Run a program to its end and return its stdout.

    Raises:
        TargetError: it cannot be started, fails or takes half an hour; with the last line that it printed.
    """
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        finished = subprocess.run(  # noqa: S603 - programs of the system, no shell
            list(command),
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_LIMIT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TargetError(f"{what}: {command[0]} did not run ({error}).", next_step=next_step) from error
    if finished.returncode:
        lines = (finished.stdout + finished.stderr).strip().splitlines()
        raise TargetError(
            f"{what}: {command[0]} failed ({lines[-1] if lines else f'code {finished.returncode}'}).",
            next_step=next_step,
        )
    return finished.stdout


def install_package(package: str, *, missing: str, remedy: str, progress: Progress) -> None:
    """Install a package of the system, if root; nobody's password is asked for.

    Args:
        package: Debian's name of it.
        missing: what is not here, for the message.
        remedy: what to type otherwise.
        progress: told of it.

    Raises:
        TargetError: this is not root or has no apt-get, or apt-get fails.
    """
    if shutil.which("apt-get") is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        raise TargetError(f"{missing}.", next_step=remedy)
    progress.say(f"installing the system's package {package} with apt-get")
    install = ["apt-get", "install", "--yes", "-qq", "--no-install-recommends", package]
    try:
        call(install, what=package, next_step=remedy)
    except TargetError:  # a bare container has no lists of packages yet
        call(["apt-get", "update", "-qq"], what=package, next_step=remedy)
        call(install, what=package, next_step=remedy)


class ForeignPackages:
    """apt for one architecture, with everything it keeps in ``scratch``."""

    def __init__(self, architecture: str, scratch: Path) -> None:
        """Prepare the folders that apt asks for.

        Raises:
            TargetError: this is not a Debian-like system.
        """
        if missing := [name for name in _PROGRAMS if shutil.which(name) is None]:
            raise TargetError(
                f"expected Debian or a kin of it, found no {', '.join(missing)} on PATH.",
                next_step="run the audit on Debian, or in a container of it",
            )
        self._architecture = architecture
        self._archives = scratch / "cache" / "archives"
        for folder in (scratch / "state" / "lists" / "partial", self._archives / "partial"):
            folder.mkdir(parents=True)
        (scratch / "status").touch()
        settings = {
            "APT::Architecture": architecture,
            "APT::Architectures": architecture,
            "APT::Sandbox::User": "root",  # the folder may be one that apt's own user cannot enter
            "APT::Update::Post-Invoke": "/bin/true",
            "Acquire::Languages": "none",
            "Debug::NoLocking": "1",
            "Dir::Cache": str(scratch / "cache"),
            "Dir::State": str(scratch / "state"),
            "Dir::State::status": str(scratch / "status"),
        }
        self._options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]

    def update(self) -> None:
        """Fetch the lists of packages."""
        self._apt("apt-get", "update")

    def python_version(self) -> str:
        """Return the version of the distribution's Python, such as ``3.11``.

        Raises:
            TargetError: the distribution has none for this architecture.
        """
        listed = self._apt("apt-cache", "depends", "python3-minimal")
        found = re.search(r"python(3\.\d+)-minimal", listed)
        if found is None:
            raise TargetError(
                f"this system's package sources have no Python for {self._architecture}.",
                next_step=f"add a source with {self._architecture} to /etc/apt/sources.list.d, or use Debian",
            )
        return found[1]

    def unpack(self, packages: Sequence[str], root: Path) -> None:
        """Fetch packages with all that they need, and unpack them."""
        self._apt("apt-get", "install", "--yes", "--no-install-recommends", "--download-only", *packages)
        for archive in sorted(self._archives.glob("*.deb")):
            command = ["dpkg-deb", "--extract", str(archive), str(root)]
            call(command, what=archive.name, next_step="free some space, then the same command again")
        for name in _UNUSED:
            shutil.rmtree(root / name, ignore_errors=True)
        if not (root / "lib").exists():  # since Debian 13 packages hold nothing but /usr
            (root / "lib").symlink_to("usr/lib")

    def _apt(self, program: str, *arguments: str) -> str:
        return call(
            [program, "-qq", *self._options, *arguments],
            what=f"Debian packages for {self._architecture}",
            next_step="see whether apt-get update works here, then the same command again",
        )
