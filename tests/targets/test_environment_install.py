"""Setting up a Python environment: pinned, tried, whole or not at all, once. pip and venv are stood in for."""

import importlib.metadata
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgecnn.errors import EdgecnnError, ExitCode, StorageError, TargetError
from edgecnn.targets import environment_install
from edgecnn.targets.environment_install import small_model
from edgecnn.targets.install import install_target
from edgecnn.targets.python_environment import PythonEnvironment, damaged, python_in
from tests.environments import fake_environment, plant_environment
from tests.graphs import evaluate

START = f'#!/bin/sh\nPYTHONPATH={":".join(sys.path)} exec {sys.executable} "$@"\n'
Calls = list[list[str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGECNN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "targets"


def stand_in(monkeypatch: pytest.MonkeyPatch, *, script: str = START, fails: EdgecnnError | None = None) -> Calls:
    """Take the place of venv, which writes a Python, and of pip, which brings a library or fails."""
    calls: Calls = []

    def call(command: Sequence[str], *, what: str, next_step: str) -> str:
        calls.append(list(command))
        if "venv" in command:
            python = python_in(Path(command[-1]))
            python.parent.mkdir(parents=True)
            python.write_text(script)
            python.chmod(0o755)
            return ""
        if fails is not None:
            raise fails
        root = Path(command[command.index("--python") + 1]).parent.parent
        (root / "library.so").write_bytes(b"12345")
        return ""

    monkeypatch.setattr(environment_install, "call", call)
    return calls


def test_what_is_pinned_is_fetched_once_and_tried(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = fake_environment()
    name = plant_environment(monkeypatch, environment)
    calls = stand_in(monkeypatch)
    found = install_target(name)
    assert (found.unchanged, found.folder, found.program) == (False, environment.folder, environment.program)
    assert environment.why_not() is None
    assert [path.name for path in folder.iterdir()] == [environment.folder.name]
    _, pip = calls
    assert pip[-1] == f"numpy=={np.__version__}"
    assert {"--no-deps", "--only-binary=:all:"} <= set(pip)
    assert install_target(name).unchanged
    assert len(calls) == 2, "a second run installs nothing"


def test_force_and_a_broken_one_make_it_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = fake_environment()
    name = plant_environment(monkeypatch, environment)
    calls = stand_in(monkeypatch)
    install_target(name)
    assert not install_target(name, force=True).unchanged
    (environment.folder / "library.so").unlink()
    assert damaged(environment.folder) is not None
    assert not install_target(name).unchanged
    assert damaged(environment.folder) is None
    assert len(calls) == 6


@pytest.mark.parametrize(
    ("fails", "expected", "words"),
    [
        (TargetError("pip failed (no matching distribution).", next_step="x"), TargetError, "no matching distribution"),
        (TargetError("pip failed ([Errno 28] No space left on device).", next_step="x"), StorageError, "disk is full"),
    ],
)
def test_what_pip_cannot_fetch_leaves_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, fails: EdgecnnError, expected: type[EdgecnnError], words: str
) -> None:
    name = plant_environment(monkeypatch, fake_environment())
    stand_in(monkeypatch, fails=fails)
    with pytest.raises(expected, match=words) as caught:
        install_target(name)
    assert caught.value.next_step
    assert list(folder.iterdir()) == []


def test_one_that_does_not_start_is_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = plant_environment(monkeypatch, fake_environment())
    stand_in(monkeypatch, script="#!/bin/sh\necho libfoo.so is missing >&2; exit 1\n")
    with pytest.raises(TargetError, match=r"libfoo\.so is missing") as caught:
        install_target(name)
    assert caught.value.exit_code == ExitCode.TARGET_UNAVAILABLE
    assert list(folder.iterdir()) == []


def test_a_provider_that_runs_no_node_is_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = plant_environment(monkeypatch, fake_environment(), provider="AzureExecutionProvider")
    stand_in(monkeypatch)
    with pytest.raises(TargetError, match="AzureExecutionProvider runs no node"):
        install_target(name)
    assert list(folder.iterdir()) == []


def test_what_can_never_be_here_is_not_fetched(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = plant_environment(monkeypatch, fake_environment(obstacle=lambda: "needs a phone"))
    calls = stand_in(monkeypatch)
    with pytest.raises(TargetError, match="Fake: needs a phone"):
        install_target(name)
    assert calls == []


def test_a_python_without_pip_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = plant_environment(monkeypatch, fake_environment())
    calls = stand_in(monkeypatch)

    def version(package: str) -> str:
        if package == "pip":
            raise importlib.metadata.PackageNotFoundError(package)
        return np.__version__

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(TargetError, match="has no pip") as caught:
        install_target(name)
    assert "ensurepip" in caught.value.next_step
    assert calls == []


def test_one_that_another_process_has_just_made_is_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = fake_environment()
    name = plant_environment(monkeypatch, environment)
    calls = stand_in(monkeypatch)
    install_target(name)
    answers = iter(["not yet", None, None])
    original: Callable[[PythonEnvironment], str | None] = PythonEnvironment.why_not
    monkeypatch.setattr(PythonEnvironment, "why_not", lambda self: next(answers, original(self)))
    install_target(name)
    assert len(calls) == 2


def test_the_small_model_is_one_that_older_runtimes_read() -> None:
    model = onnx.load_from_string(small_model())
    onnx.checker.check_model(model, full_check=True)
    assert model.ir_version <= 8
    x = np.linspace(-1, 1, 48, dtype=np.float32).reshape(1, 3, 4, 4)
    np.testing.assert_array_equal(evaluate(model, {"x": x})[0], np.maximum(x, 0))
