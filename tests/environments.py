"""Python environments to test with: fakes that run this very Python, and which of the real ones are set up."""

import dataclasses
import json
import os
import sys
from pathlib import Path

import pytest

from edgecnn import targets
from edgecnn.bundle.locate import cache_folder
from edgecnn.targets import Target
from edgecnn.targets.python_environment import PythonEnvironment, python_in, write_record

FAKE = "fake"
#: The cache as it is before a test has one of its own: what is set up there is used.
_USERS_CACHE = os.environ.get("EDGECNN_TEST_TARGETS")


def fake_environment(**changes: object) -> PythonEnvironment:
    """Return an environment whose packages are those of this one."""
    own = PythonEnvironment(name=FAKE, title="Fake", pins=())
    return dataclasses.replace(own, **changes)  # type: ignore[arg-type]


def make(environment: PythonEnvironment, *, script: str | None = None) -> Path:
    """Set an environment up: its Python is a script that runs this one, or the script given."""
    python = python_in(environment.folder)
    python.parent.mkdir(parents=True)
    python.write_text(script or f'#!/bin/sh\nPYTHONPATH={":".join(sys.path)} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (environment.folder / "library.so").write_bytes(b"12345")
    write_record(environment.folder)
    return environment.folder


def plant_environment(monkeypatch: pytest.MonkeyPatch, environment: PythonEnvironment, **changes: object) -> str:
    """Add a row for an environment to the target table, and return its name."""
    row = Target(
        provider="CPUExecutionProvider", clock="simulated", summary="a fake", remedy="none", runtime=environment
    )
    monkeypatch.setitem(targets.TARGETS, FAKE, dataclasses.replace(row, **changes))  # type: ignore[arg-type]
    return FAKE


def recorded(folder: Path) -> dict[str, int]:
    """Return the files that an environment's record names."""
    files: dict[str, int] = json.loads((folder / "edgecnn-environment.json").read_text())["files"]
    return files


def use_installed(name: str, monkeypatch: pytest.MonkeyPatch) -> Target:
    """Use the cache named by ``EDGECNN_TEST_TARGETS`` and skip unless a target is set up there."""
    if _USERS_CACHE is None:
        pytest.skip("EDGECNN_TEST_TARGETS names no cache folder with targets that are set up")
    monkeypatch.setenv("EDGECNN_CACHE", _USERS_CACHE)
    assert cache_folder() == Path(_USERS_CACHE)
    row = targets.TARGETS[name]
    if reason := row.why_not():
        pytest.skip(f"{name}: {reason}")
    return row
