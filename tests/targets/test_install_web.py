"""Setting up Node's packages and the browser: with an npm and a Chromium that are made up, wholly or not at all."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from edgecnn.errors import ExitCode, TargetError
from edgecnn.targets import browser, install_web, node_program
from edgecnn.targets.building import alone
from edgecnn.targets.install import install_target
from edgecnn.targets.npm import WASM, NpmPackage
from tests.web import fake_library, fake_program, needs_node


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


def test_without_a_node_and_without_pip_no_package_is_fetched(
    fetched: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_pip(*_: object, **__: object) -> None:
        raise TargetError("Node: pip failed (no network).", next_step="see whether pip reaches its index here")

    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr(node_program, "install_into", no_pip)
    for name in ("wasm", "xnnpack"):
        with pytest.raises(TargetError, match="no network") as caught:
            install_target(name)
        assert caught.value.exit_code == ExitCode.TARGET_UNAVAILABLE
    assert fetched == []
    assert list(WASM.folder.parent.iterdir()) == []


@needs_node
def test_two_at_once_do_not_mix(fetched: list[Path]) -> None:
    WASM.folder.parent.mkdir(parents=True)
    with alone(WASM.folder.parent), pytest.raises(TargetError, match="another edgecnn targets install is at work"):
        install_target("wasm")
    assert fetched == []


@pytest.fixture
def driven(fetched: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Stand in for pip and the browser too; return where playwright was each time that the browser was started."""
    started: list[Path] = []

    def fetch(root: Path, *_: object, **__: object) -> None:
        for name in ("playwright/driver", "greenlet"):
            (root / name).mkdir(parents=True)
        (root / "playwright" / "driver" / "node").touch()

    def start(command: list[str], runtime: object, environment: Mapping[str, str]) -> None:
        started.append(Path(environment["PYTHONPATH"]))

    monkeypatch.setattr(browser, "install_into", fetch)
    monkeypatch.setattr(install_web, "start", start)
    monkeypatch.setenv(browser.VARIABLE, str(fake_program(tmp_path, "chromium", "echo Chromium 156.0.1.2")))
    return started


@needs_node
def test_a_browser_is_driven_by_the_node_that_runs_models(driven: list[Path]) -> None:
    install_target("wasm@chromium")
    assert install_target("wasm@chromium-plain").unchanged
    assert not (browser.driver_folder() / "playwright" / "driver" / "node").exists()
    assert browser.WASM_ISOLATED.environment()["PLAYWRIGHT_NODEJS_PATH"] == node_program.find_node()


@needs_node
def test_a_browser_is_started_before_what_drives_it_takes_its_place(
    driven: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    good = install_web.start

    def fail(*_: object) -> None:
        raise TargetError("it ended with code 1.", next_step="x")

    monkeypatch.setattr(install_web, "start", fail)
    for _ in range(2):
        with pytest.raises(TargetError, match="it ended with code 1"):
            install_target("wasm@chromium")
        assert browser.driver_missing() == "playwright 1.65.2 is not set up"
    monkeypatch.setattr(install_web, "start", good)
    assert not install_target("wasm@chromium").unchanged
    assert not install_target("wasm@chromium", force=True).unchanged
    assert len(driven) == 2
    assert browser.driver_folder() not in driven
    WASM.path(WASM.library).unlink()
    install_target("wasm@chromium")
    assert driven[2:] == [browser.driver_folder()], "playwright was there, and is not fetched again"


@needs_node
def test_a_browser_without_a_node_is_not_ready(driven: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    install_target("wasm@chromium")
    monkeypatch.setattr(browser, "node_missing", lambda: "node is not on PATH")
    assert browser.WASM_ISOLATED.why_not() == "node is not on PATH"
