import os
from pathlib import Path

import pytest

from edgecnn.bundle.locate import cache_folder, default_folder, newest_folder
from edgecnn.errors import BundleError


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_manifest(name: str, *, at: int) -> None:
    folder = Path("artifacts") / name
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_bytes(b"{}")
    os.utime(folder / "manifest.json", (at, at))


def test_a_models_bundle_is_under_artifacts() -> None:
    assert default_folder("simplecnn") == Path("artifacts/simplecnn")


def test_the_newest_bundle_is_the_one_whose_manifest_was_written_last() -> None:
    write_manifest("a", at=2000)
    write_manifest("b", at=3000)
    write_manifest("c", at=1000)
    assert newest_folder() == Path("artifacts/b")


def test_bundles_of_the_same_moment_are_told_apart_by_name() -> None:
    for name in ("b", "c", "a"):
        write_manifest(name, at=1000)
    assert newest_folder() == Path("artifacts/c")


def test_folders_without_a_manifest_and_manifests_elsewhere_do_not_count() -> None:
    write_manifest("a", at=1000)
    Path("artifacts/empty").mkdir()
    Path("artifacts/manifest.json").write_bytes(b"{}")
    Path("artifacts/a/inner").mkdir()
    Path("artifacts/a/inner/manifest.json").write_bytes(b"{}")
    assert newest_folder() == Path("artifacts/a")


@pytest.mark.parametrize("prepare", [False, True])
def test_without_any_bundle_the_error_says_where_it_looked(tmp_path: Path, prepare: bool) -> None:
    if prepare:
        Path("artifacts").mkdir()
    with pytest.raises(BundleError) as raised:
        newest_folder()
    assert f"artifacts/: expected a bundle, found none here ({tmp_path})" in raised.value.message
    assert "--bundle" in raised.value.next_step


def test_the_cache_is_the_named_folder_else_one_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECNN_CACHE", "/named")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/named")
    monkeypatch.delenv("EDGECNN_CACHE")
    assert cache_folder() == Path("/xdg/edgecnn")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_folder() == Path("/home/someone/.cache/edgecnn")
