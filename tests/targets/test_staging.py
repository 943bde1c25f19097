"""What is set up appears whole, or not at all."""

import errno
from pathlib import Path

import pytest

from edgecnn.errors import BundleError, StorageError, TargetError
from edgecnn.targets.staging import alone, replacing


def test_what_is_built_takes_its_place_and_the_old_one_goes(tmp_path: Path) -> None:
    final = tmp_path / "targets" / "qnn"
    for word in ("first", "second"):
        with replacing(final) as scratch:
            (scratch / "built").mkdir()
            (scratch / "built" / word).touch()
        assert [path.name for path in final.iterdir()] == [word]
        assert [path.name for path in final.parent.iterdir()] == ["qnn"]


def test_nothing_built_is_nothing_changed(tmp_path: Path) -> None:
    final = tmp_path / "qnn"
    final.mkdir()
    (final / "kept").touch()
    with replacing(final):
        pass
    assert (final / "kept").exists()


def fail(final: Path, error: BaseException) -> None:
    with replacing(final) as scratch:
        (scratch / "built").mkdir()
        raise error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), StorageError),
        (PermissionError(errno.EACCES, "Permission denied"), BundleError),
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
    with replacing(tmp_path / "qnn") as scratch:
        (scratch / "built").mkdir()
    assert [path.name for path in tmp_path.iterdir()] == ["qnn"]
