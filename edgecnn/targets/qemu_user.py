"""A QEMU that takes plugins: the system's, or Debian's unpacked into the cache.

The static builds, which the emulated targets start otherwise, take none.
"""

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from edgecnn.bundle.atomic import explain_write_error
from edgecnn.errors import TargetError
from edgecnn.progress import Progress
from edgecnn.targets import sysroot
from edgecnn.targets.debian import ForeignPackages, call

#: Debian's package of the user-mode emulators that are linked to the system's libraries.
PLUGIN_PACKAGE = "qemu-user"
#: What it emulates here; each program is 4 MB, and there are 34.
ARCHITECTURES = ("aarch64", "x86_64")
_FOLDER = "qemu-user"
_LIMIT_S = 60
_SOURCE = Path(__file__).with_name("instruction_plugin.c")
#: From this version on a plugin says that it is made for interface 2.
_NEWER_INTERFACE = 9


def find_qemu(architecture: str) -> list[str] | None:
    """Return what starts a QEMU with plugins for an architecture, or None if there is none."""
    commands = [_unpacked(folder(), architecture)]
    if on_path := shutil.which(f"qemu-{architecture}"):
        commands.insert(0, [on_path])
    return next((command for command in commands if command and takes_plugins(command)), None)


def folder() -> Path:
    """Return where Debian's package is unpacked, or would be."""
    return sysroot.targets_folder() / _FOLDER


def takes_plugins(command: list[str]) -> bool:
    """Tell whether a QEMU was built with plugins: only then its help names the option."""
    return "-plugin" in _answer([*command, "-help"])


def install_qemu(progress: Progress) -> None:
    """Fetch Debian's package and unpack it into the cache; root is not needed.

    Raises:
        TargetError: this is not a Debian-like system, or its package has no plugins.
        BundleError: the cache folder cannot be written.
    """
    progress.say(f"fetching Debian's {PLUGIN_PACKAGE}, whose QEMU takes plugins, into the cache")
    place = folder()
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".building-", dir=place.parent) as scratch:
            root = Path(scratch) / "root"
            root.mkdir()
            _unpack(root, Path(scratch) / "apt")
            if place.exists():
                place.rename(Path(scratch) / "old")
            root.rename(place)
    except OSError as error:
        raise explain_write_error(error, place) from error


def _unpack(root: Path, scratch: Path) -> None:
    scratch.mkdir()
    own = call(["dpkg", "--print-architecture"], what="this system", next_step="use Debian, or a container of it")
    packages = ForeignPackages(own.strip(), scratch)
    packages.update()
    packages.unpack([PLUGIN_PACKAGE], root)
    for program in (root / "usr" / "bin").iterdir():
        if program.name.removeprefix("qemu-") not in ARCHITECTURES:
            program.unlink()
    command = _unpacked(root, ARCHITECTURES[0])
    if command is None or not takes_plugins(command):
        raise TargetError(
            f"this system's package {PLUGIN_PACKAGE} has no QEMU that takes plugins.",
            next_step="put one on PATH: qemu-aarch64, configured with --enable-plugins",
        )


def _unpacked(root: Path, architecture: str) -> list[str] | None:
    """Return what starts the unpacked QEMU: its own loader, so that it finds its own libraries and no others."""
    program = root / "usr" / "bin" / f"qemu-{architecture}"
    loaders = sorted({*root.glob("lib64/ld-linux*.so.*"), *root.glob("lib/ld-linux*.so.*")})
    if not program.is_file() or not loaders:
        return None
    libraries = sorted(
        {str(path.parent) for place in ("lib", "usr/lib") for path in (root / place).glob("*-linux-*/*.so*")}
    )
    return [str(loaders[0]), "--library-path", ":".join(libraries), str(program)]


def compile_plugin(qemu: list[str], target: Path) -> None:
    """Compile the plugin for a QEMU.

    Raises:
        TargetError: there is no C compiler, or it fails.
    """
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    remedy = "as root: apt-get install gcc libc6-dev"
    if compiler is None:
        raise TargetError(
            "instructions are counted by a plugin of QEMU, and no C compiler is on PATH.", next_step=remedy
        )
    version = re.search(r"version (\d+)\.", _answer([*qemu, "--version"]))
    if version is None:
        raise TargetError(f"{qemu[-1]}: says no version.", next_step=f"as root: apt-get install {PLUGIN_PACKAGE}")
    interface = 2 if int(version[1]) >= _NEWER_INTERFACE else 1
    flags = ["-shared", "-fPIC", "-O2", f"-DPLUGIN_VERSION={interface}"]
    call([compiler, *flags, "-o", str(target), str(_SOURCE)], what="QEMU's plugin", next_step=remedy)


def _answer(command: list[str]) -> str:
    """Return what a program says, or nothing if it does not start."""
    try:
        done = subprocess.run(  # noqa: S603 - the emulator, no shell
            command, capture_output=True, text=True, errors="replace", check=False, timeout=_LIMIT_S,
            stdin=subprocess.DEVNULL, env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr
