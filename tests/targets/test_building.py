"""What is set up appears whole, or not at all."""

import errno
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgecnn.errors import BundleError, StorageError, TargetError
from edgecnn.targets.building import alone, build_beside


def make(final: Path, word: str = "made", *, force: bool = False) -> None:
    build_beside(final, lambda root, scratch: (root / word).touch(), whole=final.is_dir, force=force)


def test_what_is_built_takes_its_place_and_the_old_one_goes(tmp_path: Path) -> None:
    final = tmp_path / "targets" / "qnn"
    for word in ("first", "second"):
        make(final, word, force=True)
        assert [path.name for path in final.iterdir()] == [word]
        assert [path.name for path in final.parent.iterdir()] == ["qnn"]


def test_what_is_whole_is_left_alone(tmp_path: Path) -> None:
    final = tmp_path / "qnn"
    final.mkdir()
    (final / "kept").touch()
    make(final)
    assert [path.name for path in final.iterdir()] == ["kept"]


def fail(final: Path, error: BaseException) -> None:
    def build(root: Path, scratch: Path) -> None:
        (root / "half").touch()
        raise error

    build_beside(final, build, whole=lambda: False)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), StorageError),
        (PermissionError(errno.EACCES, "Permission denied"), BundleError),
        (shutil.Error([("a", "b", "[Errno 28] No space left on device: 'a' -> 'b'")]), StorageError),
        (TargetError("venv failed ([Errno 28] No space left on device).", next_step="x"), StorageError),
        (KeyboardInterrupt(), KeyboardInterrupt),
        (TargetError("no network", next_step="x"), TargetError),
    ],
)
def test_what_fails_leaves_the_old_one(tmp_path: Path, error: BaseException, expected: type[BaseException]) -> None:
    final = tmp_path / "qnn"
    final.mkdir()
    (final / "old").touch()
    with pytest.raises(expected):
        fail(final, error)
    assert (final / "old").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["qnn"]


def test_two_at_once_are_one_too_many(tmp_path: Path) -> None:
    with alone(tmp_path), pytest.raises(TargetError, match="another edgecnn targets install is at work"):
        fail(tmp_path / "qnn", KeyError())


def test_what_a_killed_one_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".building-x" / "half").mkdir(parents=True)
    make(tmp_path / "qnn")
    assert [path.name for path in tmp_path.iterdir()] == ["qnn"]


def test_a_disk_that_is_full_is_told_even_where_the_program_that_failed_says_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = TargetError("apt-cache failed (E: No packages found).", next_step="x")
    with pytest.raises(TargetError, match="No packages found"):
        fail(tmp_path / "qnn", error)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=4096))
    with pytest.raises(StorageError, match=r"the disk is full; nothing was changed") as caught:
        fail(tmp_path / "qnn", error)
    assert "EDGECNN_CACHE" in caught.value.next_step
    assert list(tmp_path.iterdir()) == []
