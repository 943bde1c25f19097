"""``edgecnn targets install``: set up what a target needs, wholly or not at all."""

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecnn.errors import TargetError, UsageError
from edgecnn.progress import SILENT, Progress
from edgecnn.targets import TARGETS, sysroot, target
from edgecnn.targets.browser import Chromium
from edgecnn.targets.building import alone, build_beside, remove_unfinished
from edgecnn.targets.debian import ForeignPackages, call, install_package
from edgecnn.targets.emulator import ARM64, PACKAGE, EmulatedCpu
from edgecnn.targets.environment_install import install_environment
from edgecnn.targets.install_web import install_chromium, install_node
from edgecnn.targets.instructions import InstructionCounter
from edgecnn.targets.node import NodeRuntime
from edgecnn.targets.pip import require_pip
from edgecnn.targets.python_environment import PythonEnvironment
from edgecnn.targets.qemu_user import find_qemu, install_qemu
from edgecnn.targets.qemu_user import folder as qemu_folder
from edgecnn.targets.runtime import Runtime
from edgecnn.targets.ssh import SshBoard
from edgecnn.targets.worker_process import WorkerProcess
from edgecnn.targets.worker_session import greet

#: The wheels say from which glibc on they run; Debian 12 has 2.36.
_PLATFORMS = (*tuple(f"manylinux_2_{minor}_aarch64" for minor in range(36, 16, -1)), "manylinux2014_aarch64")
_STEPS = 5


@dataclass(frozen=True, kw_only=True)
class Installed:
    """A target that is ready.

    Attributes:
        target: its name.
        folder: what was set up for it, or None where a program of the system is all it needs.
        program: what starts it.
        unchanged: True if it was ready before.
    """

    target: str
    folder: Path | None
    program: str
    unchanged: bool


def install_target(name: str, *, force: bool = False, count: bool = False, progress: Progress = SILENT) -> Installed:
    """Set up a target that runs outside this process; what is there already is left alone.

    Args:
        name: row of the target table.
        force: make it anew.
        count: of an emulated CPU, also fetch what counts instructions there, unless the system has it.
        progress: told each step.

    Raises:
        UsageError: there is no such target, or nothing that could be installed for it.
        TargetError: it cannot be set up here; nothing was changed, but for a system package that was installed.
        BundleError: the cache folder cannot be written.
        StorageError: the disk is full.
    """
    row = target(name)
    runtime = row.runtime
    if runtime is None:
        known = ", ".join(name for name, row in TARGETS.items() if row.runtime)
        raise UsageError(f"{name}: is not installed by edgecnn; these are: {known}.", next_step=row.remedy)
    if count and row.emulated is None:
        raise UsageError(f"{name}: is not emulated; --count is for CPUs that are.", next_step="leave --count out")
    ready = runtime.why_not() is None
    if not ready or force:
        _install(runtime, progress, force=force)
        if reason := runtime.why_not():
            raise TargetError(f"{name}: still not available here: {reason}.", next_step=row.remedy)
    counts = count and isinstance(runtime, EmulatedCpu) and _make_counting(name, runtime, progress, force=force)
    return Installed(
        target=name, folder=runtime.folder, program=runtime.program, unchanged=ready and not force and not counts
    )


def _install(runtime: Runtime, progress: Progress, *, force: bool) -> None:
    """Set up a runtime by what sets up its kind."""
    for kind, install in INSTALLERS:
        if isinstance(runtime, kind):
            install(runtime, progress, force)
            return
    raise TypeError(f"no installer for {type(runtime).__name__}")


def _install_emulated(cpu: EmulatedCpu, progress: Progress, force: bool) -> None:
    _require_emulator(cpu, progress)
    if cpu.cpuinfo is not None:
        _make_sysroot(cpu, progress, force=force)
    elif cpu.why_not() is None:
        progress.say(f"starting this Python on {cpu.title}")
        _prove(cpu, None)


def _ask_board(board: SshBoard, progress: Progress, force: bool) -> None:
    """Nothing is installed on another's machine: say what to type there."""
    board.look()


#: What sets up each kind of runtime: given it, the listener, and whether to make it anew.
INSTALLERS: tuple[tuple[type, Callable[[Any, Progress, bool], None]], ...] = (
    (EmulatedCpu, _install_emulated),
    (PythonEnvironment, install_environment),
    (NodeRuntime, install_node),
    (Chromium, install_chromium),
    (SshBoard, _ask_board),
)


def _make_counting(name: str, cpu: EmulatedCpu, progress: Progress, *, force: bool) -> bool:
    """Fetch a QEMU that takes plugins and count once; tell whether one was fetched."""
    fetched = find_qemu(cpu.architecture) is None or (force and qemu_folder().is_dir())
    if fetched:
        qemu_folder().parent.mkdir(parents=True, exist_ok=True)
        with alone(qemu_folder().parent):
            remove_unfinished(qemu_folder().parent)
            install_qemu(progress)
    progress.say(f"counting on {cpu.title}")
    with InstructionCounter(name):
        return fetched


def _require_emulator(cpu: EmulatedCpu, progress: Progress) -> None:
    """Install Debian's package of QEMU, if root; nobody's password is asked for."""
    if shutil.which(cpu.emulator) is None:
        remedy = f"as root: apt-get install {PACKAGE}"
        install_package(PACKAGE, missing=f"{cpu.emulator} is not on PATH", remedy=remedy, progress=progress)


def _make_sysroot(cpu: EmulatedCpu, progress: Progress, *, force: bool) -> None:
    """Build the arm64 Python beside its place, try it, and only then rename it."""
    build_beside(
        sysroot.folder(),
        lambda root, scratch: _build(root, scratch, cpu, progress),
        whole=lambda: sysroot.prefix(sysroot.folder(), cpu.name).is_dir(),
        force=force,
    )


def _build(root: Path, scratch: Path, cpu: EmulatedCpu, progress: Progress) -> None:
    task = f"install {cpu.name}"

    def begin(step: int, text: str) -> None:
        progress.say(f"{step + 1}/{_STEPS} {text}")
        progress.update(task, step, _STEPS)

    begin(0, "reading the lists of Debian packages for arm64 (the system's own are not touched)")
    packages = ForeignPackages("arm64", scratch)
    packages.update()
    version = packages.python_version()
    begin(1, f"fetching and unpacking Python {version} for arm64")
    packages.unpack([f"python{version}-minimal", f"libpython{version}-stdlib", "libstdc++6"], root)
    begin(2, f"fetching {sysroot.wanted()} for arm64")
    _fetch_wheels(root / "site", version)
    begin(3, "planting what each CPU says of itself")
    sysroot.plant(root, {each.name: each.cpuinfo for each in ARM64 if each.cpuinfo is not None})
    begin(4, f"starting it on {', '.join(each.title for each in ARM64)}")
    for each in ARM64:
        _prove(each, root)
    progress.update(task, _STEPS, _STEPS)


def _fetch_wheels(site: Path, version: str) -> None:
    require_pip()
    wheels = sysroot.versions()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check", "--no-deps"]
    platforms = [word for name in _PLATFORMS for word in ("--platform", name)]
    place = ["--python-version", version, "--only-binary=:all:", "--target", str(site)]
    call(
        [*pip, *platforms, *place, *(f"{name}=={found}" for name, found in wheels.items())],
        what=f"wheels of {sysroot.wanted()} for arm64 and Python {version}",
        next_step="see whether pip reaches its index here, then the same command again",
    )


def _prove(cpu: EmulatedCpu, root: Path | None) -> None:
    """Start the worker, which imports onnxruntime there, and see that the CPU is the one that was asked for."""
    command = cpu.command() if root is None else cpu.command_in(root)
    worker = WorkerProcess(command, environment=cpu.environment(), name=cpu.title)
    try:
        greet(worker, cpu, cpu.title)
    finally:
        worker.close()
