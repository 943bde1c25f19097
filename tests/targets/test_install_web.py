"""Setting up Node's packages: with an npm that is made up, wholly or not at all."""

from pathlib import Path

import pytest

from edgecnn.errors import ExitCode, TargetError
from edgecnn.targets.building import alone
from edgecnn.targets.install import install_target
from edgecnn.targets.npm import WASM, NpmPackage
from tests.web import fake_library, needs_node


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Stand in for npm with a library that is made up; return the folders that were made."""
    monkeypatch.setenv("EDGECNN_CACHE", str(tmp_path / "cache"))
    made: list[Path] = []

    def fetch(package: NpmPackage, scratch: Path, root: Path) -> None:
        made.append(root)
        for name in package.kept:
            package.path(name, root).parent.mkdir(parents=True, exist_ok=True)
            package.path(name, root).touch()
        fake_library(tmp_path / "library", version=package.version).rename(package.path(package.library, root))

    monkeypatch.setattr(NpmPackage, "fetch", fetch)
    return made


@needs_node
def test_it_is_set_up_once_tried_and_then_left_alone(fetched: list[Path]) -> None:
    first = install_target("wasm")
    assert (first.unchanged, first.folder) == (False, WASM.folder)
    assert install_target("wasm").unchanged
    assert len(fetched) == 1
    assert not install_target("wasm", force=True).unchanged
    assert [path.name for path in WASM.folder.parent.iterdir()] == [WASM.folder.name]


@needs_node
def test_a_damaged_one_is_made_anew_without_being_forced(fetched: list[Path]) -> None:
    install_target("wasm")
    WASM.path(WASM.library).unlink()
    assert not install_target("wasm").unchanged
    assert WASM.why_not() is None


@needs_node
def test_a_file_that_was_cut_short_is_told_and_made_anew(fetched: list[Path]) -> None:
    install_target("wasm")
    cut = WASM.path(WASM.kept[-1])
    cut.write_bytes(b"x")
    assert f"{cut.name} has 1 bytes, expected 0" in str(WASM.why_not())
    assert not install_target("wasm").unchanged
    assert WASM.why_not() is None


@needs_node
def test_what_does_not_start_leaves_nothing(fetched: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    good = NpmPackage.fetch

    def spoiled(package: NpmPackage, scratch: Path, root: Path) -> None:
        good(package, scratch, root)
        package.path(package.library, root).write_text("throw new Error('not a library')")

    monkeypatch.setattr(NpmPackage, "fetch", spoiled)
    with pytest.raises(TargetError, match="WebAssembly in Node: its process failed: it ended with code 1") as caught:
        install_target("wasm")
    assert caught.value.exit_code == ExitCode.TARGET_UNAVAILABLE
    assert list(WASM.folder.parent.iterdir()) == []


def test_without_node_nothing_is_fetched(fetched: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(TargetError, match="WebAssembly in Node: node is not on PATH") as caught:
        install_target("wasm")
    assert "apt-get install nodejs npm" in caught.value.next_step
    assert fetched == []


@needs_node
def test_two_at_once_do_not_mix(fetched: list[Path]) -> None:
    WASM.folder.parent.mkdir(parents=True)
    with alone(WASM.folder.parent), pytest.raises(TargetError, match="another edgecnn targets install is at work"):
        install_target("wasm")
    assert fetched == []
