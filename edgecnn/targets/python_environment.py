"""Virtual environments of their own, where packages would clash with those that are installed here.

One folder in the cache each, whole or not there at all, named by what is in it::

    targets/openvino-python-3.11-onnxruntime-openvino-1.24.1-numpy-2.4.6/
        bin/python
        lib/
        edgecnn-environment.json    every file that the packages brought, and its size
"""

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgecnn.errors import EdgecnnError, StageError
from edgecnn.targets.emulator import WORKER
from edgecnn.targets.sysroot import targets_folder
from edgecnn.targets.worker import Header

#: Written last: what an environment is made of.
RECORD = "edgecnn-environment.json"
#: Python's own leavings come and go.
_FLEETING = "__pycache__"
#: Of these the versions come from here: a worker's arrays and this process's are the same.
_SHARED = ("numpy",)


def _unchanged(model: bytes) -> bytes:
    return model


def _nothing() -> None:
    return None


def _as_it_is(error: StageError) -> EdgecnnError:
    return error


@dataclass(frozen=True, kw_only=True)
class PythonEnvironment:
    """A Python with pinned packages; see :class:`edgecnn.targets.runtime.Runtime`.

    Attributes:
        name: of its folder.
        title: what people call what runs there.
        pins: the packages that make it, ``name==version`` each; numpy is that of this environment.
        adaptation: the model as it is read there.
        obstacle: why it can never be set up on this machine, or None.
        variables: what its environment has besides this process's.
        machine: what stands for the CPU in a record; None where this machine's CPU itself runs the models.
        explanation: what a failure there means, where its own words are known.
    """

    name: str
    title: str
    pins: tuple[str, ...]
    adaptation: Callable[[bytes], bytes] = _unchanged
    obstacle: Callable[[], str | None] = _nothing
    variables: Callable[[], Mapping[str, str]] = dict
    machine: str | None = None
    explanation: Callable[[StageError], EdgecnnError] = _as_it_is

    @property
    def versions(self) -> dict[str, str]:
        """The version that each package must have."""
        pinned = dict(pin.split("==") for pin in self.pins)
        return pinned | {name: importlib.metadata.version(name) for name in _SHARED}

    @property
    def folder(self) -> Path:
        """Where it is in the cache, or would be."""
        python = f"python-{sys.version_info.major}.{sys.version_info.minor}"
        words = (word for pair in self.versions.items() for word in pair)
        return targets_folder() / "-".join((self.name, python, *words))

    @property
    def program(self) -> str:
        """Its Python."""
        return str(python_in(self.folder))

    @property
    def call_limit_s(self) -> float:
        """Compiling a model for an accelerator takes seconds, simulating 64 images one or two minutes."""
        return 900.0

    def why_not(self) -> str | None:
        """Return why it cannot run here, or None if it can."""
        if reason := self.obstacle():
            return reason
        if not self.folder.is_dir():
            return f"its environment is not set up ({', '.join(self.wanted())})"
        if missing := damaged(self.folder):
            return f"its environment is broken: {missing}"
        return None

    def wanted(self) -> list[str]:
        """Return what it is made of, as pip reads it."""
        return [f"{name}=={version}" for name, version in self.versions.items()]

    def command(self) -> list[str]:
        """Return what starts the worker; call it only where :meth:`why_not` is None."""
        return self.command_in(self.folder)

    def command_in(self, root: Path) -> list[str]:
        """Return what starts the worker, with the environment at another place: where it is being made."""
        return [str(python_in(root)), "-P", str(WORKER)]

    def environment(self) -> Mapping[str, str]:
        """Return the worker's environment: this process's, without what would bring packages of another Python."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
        told = {"PYTHONHASHSEED": "0", "PYTHONNOUSERSITE": "1", "OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
        return own | told | {"EDGECNN_VERSIONS_OF": " ".join(self.versions)} | dict(self.variables())

    def differs(self, seen: Header) -> str | None:
        """Return how what the worker says of itself is not what was asked for, or None."""
        for name, version in self.versions.items():
            found = seen["versions"].get(name)
            if found != version:
                return f"expected {name} {version}, found {found}"
        if seen["machine"] != platform.machine():
            return f"expected {platform.machine()}, found {seen['machine']}"
        return None

    def cpu(self, seen: Header) -> str:
        """Return the CPU's name, or what stands in its place."""
        return seen["cpu"] if self.machine is None else f"{self.machine}, on {seen['cpu']}"

    def adapt(self, model: bytes) -> bytes:
        """Return the model as it is read there."""
        return self.adaptation(model)

    def explain(self, error: StageError) -> EdgecnnError:
        """Return what to raise in place of ``error``: itself, unless its words are known."""
        return self.explanation(error)


def python_in(root: Path) -> Path:
    """Return an environment's Python."""
    return root / "bin" / "python"


def write_record(root: Path) -> None:
    """Note every file of an environment, or of another folder of the cache, with its size."""
    files = {
        str(path.relative_to(root)): path.stat().st_size
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink() and _FLEETING not in path.parts
    }
    (root / RECORD).write_text(json.dumps({"files": files}))


def damaged(root: Path) -> str | None:
    """Return what of an environment is missing or has another size than when it was set up, or None."""
    if (root / RECORD).is_file() and not python_in(root).exists():
        return "its Python is gone"
    return changed(root)


def changed(root: Path) -> str | None:
    """Return which file of a folder is missing or has another size than its record says, or None."""
    try:
        files: dict[str, int] = json.loads((root / RECORD).read_text())["files"]
    except (OSError, ValueError, KeyError) as error:
        return f"{RECORD} is unreadable ({type(error).__name__})"
    for name, size in files.items():
        try:
            found = os.stat(root / name).st_size  # noqa: PTH116 - thousands of files, each time
        except OSError:
            return f"{name} is missing"
        if found != size:
            return f"{name} has {found} bytes, expected {size}"
    return None
