"""A package's folder is the old one or the new one, never half of either."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from edgecnn.errors import BundleError, StorageError, UsageError
from edgecnn.packaging import folder as room
from edgecnn.packaging.folder import require_free, write_folder

PACKAGE = {"acceptance.json": b'{\n  "format": "edgecnn-acceptance"\n}', "a.bin": b"1"}


def test_a_folder_is_written_and_replaced(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "package"
    require_free(place, force=False)
    write_folder(place, PACKAGE)
    assert {path.name: path.read_bytes() for path in place.iterdir()} == PACKAGE
    require_free(place, force=True)
    write_folder(place, {"b.bin": b"2"})
    assert [path.name for path in place.iterdir()] == ["b.bin"]
    assert [path.name for path in place.parent.iterdir()] == ["package"]


def test_a_package_is_not_replaced_unless_asked(tmp_path: Path) -> None:
    write_folder(tmp_path / "package", PACKAGE)
    with pytest.raises(UsageError, match="exists already") as caught:
        require_free(tmp_path / "package", force=False)
    assert "--force replaces it" in caught.value.next_step


@pytest.mark.parametrize("kind", ["folder", "file", "link", "other json"])
def test_what_is_no_package_is_never_replaced(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "mine"
    if kind == "file":
        place.write_text("mine")
    elif kind == "link":
        write_folder(tmp_path / "package", PACKAGE)
        place.symlink_to(tmp_path / "package")
    else:
        place.mkdir()
        if kind == "other json":
            (place / "acceptance.json").write_text("{}")
    with pytest.raises(UsageError, match="is no package of edgecnn"):
        require_free(place, force=True)


def test_a_full_disk_leaves_the_old_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "package", PACKAGE)

    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(room, "_write", full)
    with pytest.raises(StorageError, match="the disk is full") as caught:
        write_folder(tmp_path / "package", {"b.bin": b"2"})
    assert "--out" in caught.value.next_step
    assert {path.name: path.read_bytes() for path in (tmp_path / "package").iterdir()} == PACKAGE
    assert [path.name for path in tmp_path.iterdir()] == ["package"]


def test_what_a_killed_process_left_is_taken_away(tmp_path: Path) -> None:
    left = tmp_path / ".edgecnn-package-abc"
    left.mkdir()
    (left / "half").write_text("")
    write_folder(tmp_path / "package", PACKAGE)
    assert [path.name for path in tmp_path.iterdir()] == ["package"]


def test_two_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    other = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    try:
        with pytest.raises(BundleError, match="another edgecnn process writes a package there"):
            write_folder(tmp_path / "package", PACKAGE)
    finally:
        os.close(other)
    assert list(tmp_path.iterdir()) == []
