"""A folder that is there wholly or not at all."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from edgecnn.bundle.atomic import explain_write_error
from edgecnn.errors import BundleError, EdgecnnError, UsageError
from edgecnn.packaging.acceptance import ACCEPTANCE, FORMAT

_BUILDING = ".edgecnn-package-"


def require_free(folder: Path, *, force: bool) -> None:
    """Find out before the work that there is no place for its result.

    Raises:
        UsageError: something is there that is no package, or a package that may not be replaced.
    """
    if not folder.exists() and not folder.is_symlink():
        return
    if not _is_package(folder):
        raise UsageError(
            f"{folder}: exists already, and is no package of edgecnn.", next_step="--out names another folder"
        )
    if not force:
        raise UsageError(f"{folder}: exists already.", next_step="--force replaces it; --out names another")


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write every file into a folder beside its place, flush them, and rename the folder; an old package goes then.

    Raises:
        StorageError: the disk is full; what was there is as it was.
        BundleError: the folder cannot be written, or another process writes a package beside it.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder.parent), tempfile.TemporaryDirectory(prefix=_BUILDING, dir=folder.parent) as scratch:
            built = Path(scratch) / "package"
            built.mkdir()
            for name, data in files.items():
                _write(built / name, data)
            if folder.exists():
                folder.rename(Path(scratch) / "old")
            built.rename(folder)
    except OSError as error:
        raise _explain(error, folder) from error


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _explain(error: OSError, folder: Path) -> EdgecnnError:
    explained = explain_write_error(error, folder)
    explained.next_step = "free some space there, or name another folder with --out"
    return explained


def _is_package(folder: Path) -> bool:
    if folder.is_symlink() or not folder.is_dir():
        return False
    try:
        return f'"format": "{FORMAT}"'.encode() in (folder / ACCEPTANCE).read_bytes()[:200]
    except OSError:
        return False


@contextlib.contextmanager
def _alone(parent: Path) -> Iterator[None]:
    """Keep a second package out of the same parent, and take away what a killed process left there."""
    if sys.platform == "win32":  # no folder locks there
        yield
        return
    import fcntl
    import shutil

    descriptor = os.open(parent, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BundleError(
                f"{parent}: another edgecnn process writes a package there.", next_step="wait for it, or --out"
            ) from error
        for left in parent.glob(f"{_BUILDING}*"):
            shutil.rmtree(left, ignore_errors=True)
        yield
    finally:
        os.close(descriptor)
