"""pip puts packages into folders of the cache, and says what went wrong."""

import importlib.metadata
import sys
from pathlib import Path

import pytest

from edgecnn.errors import ExitCode, TargetError
from edgecnn.targets import pip
from edgecnn.targets.pip import install_into


def test_packages_go_into_the_folder_alone_and_only_as_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []
    monkeypatch.setattr(pip, "call", lambda command, **_: called.append(list(command)))
    install_into(tmp_path, ["a==1", "b==2"], what="both", next_step="x")
    (words,) = called
    assert words[:4] == [sys.executable, "-m", "pip", "install"]
    assert {"--no-deps", "--only-binary=:all:", "--no-input"} <= set(words)
    assert words[words.index("--target") + 1 :] == [str(tmp_path), "a==1", "b==2"]


def test_a_package_that_is_not_to_be_had_is_named_with_what_pip_said(tmp_path: Path) -> None:
    missing = "edgecnn-no-such-package==1.0"
    with pytest.raises(TargetError, match=r"a thing: .* failed \(ERROR: .*edgecnn-no-such-package") as caught:
        install_into(tmp_path / "into", ["--no-index", missing], what="a thing", next_step="look")
    assert (caught.value.next_step, caught.value.exit_code) == ("look", ExitCode.TARGET_UNAVAILABLE)


def test_a_python_without_pip_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", none)
    with pytest.raises(TargetError, match="has no pip") as caught:
        install_into(tmp_path, ["a==1"], what="a", next_step="x")
    assert "ensurepip" in caught.value.next_step
