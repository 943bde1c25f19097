"""Folders of the cache that are whole or not there: built beside their place, alone, tried, and only then renamed."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from edgecnn.bundle.atomic import explain_write_error
from edgecnn.errors import StorageError, TargetError

BUILDING = ".building-"
#: What is left of a disk that is full, at most: no file of a package that matters is as small.
_LEAST_BYTES = 64 * 1024


def build_beside(
    final: Path, build: Callable[[Path, Path], None], *, whole: Callable[[], bool], force: bool = False
) -> None:
    """Make a folder of the cache.

    Args:
        final: where it is to be.
        build: makes it in its first argument, an empty folder, and tries it; the second is for what is not kept.
        whole: tells whether another process has just made it.
        force: make it anew even so.

    Raises:
        TargetError: another installation is at work, or as ``build`` says; what was there before is left alone.
        BundleError: the cache folder cannot be written.
        StorageError: the disk is full.
    """
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with alone(final.parent):
            if whole() and not force:
                return
            remove_unfinished(final.parent)
            with tempfile.TemporaryDirectory(prefix=BUILDING, dir=final.parent) as scratch:
                built = Path(scratch) / "root"
                built.mkdir()
                with _full_disk_told(final):
                    build(built, Path(scratch))
                if final.exists():
                    final.rename(Path(scratch) / "old")
                built.rename(final)
    except OSError as error:
        raise explain_write_error(error, final) from error


@contextlib.contextmanager
def _full_disk_told(final: Path) -> Iterator[None]:
    """Say that the disk is full where a program says so in its own words, or fails for it in others.

    It is looked at while what was written is still there: apt, npm and Python's own venv say the strangest things.
    """
    try:
        yield
    except (TargetError, shutil.Error) as error:
        if "No space left on device" in str(error) or shutil.disk_usage(final.parent).free < _LEAST_BYTES:
            raise StorageError(
                f"{final.parent}: the disk is full; nothing was changed.",
                next_step="free some space, or name another folder: export EDGECNN_CACHE=FOLDER; then the same command",
            ) from error
        raise


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep a second installation out; the system releases the lock when the process dies.

    Raises:
        TargetError: there is one.
    """
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise TargetError(
            f"{folder}: another edgecnn targets install is at work.", next_step="wait for it, then the same command"
        ) from error
    finally:
        os.close(descriptor)


def remove_unfinished(folder: Path) -> None:
    """Remove what a killed installation left; call it only while alone."""
    for path in folder.glob(f"{BUILDING}*"):
        shutil.rmtree(path, ignore_errors=True)
