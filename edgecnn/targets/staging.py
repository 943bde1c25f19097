"""What is set up appears whole: built beside its place, by one process at a time, and renamed."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edgecnn.bundle.atomic import explain_write_error
from edgecnn.errors import TargetError

BUILDING = ".building-"


@contextlib.contextmanager
def replacing(final: Path) -> Iterator[Path]:
    """Give a scratch folder; what is put into it as ``built`` takes the place of ``final`` if all goes well.

    Where nothing is put there, nothing changes.

    Raises:
        TargetError: another process is at work beside it.
        BundleError: it cannot be written.
        StorageError: the disk is full.
    """
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with alone(final.parent):
            remove_unfinished(final.parent)
            with tempfile.TemporaryDirectory(prefix=BUILDING, dir=final.parent) as scratch:
                yield Path(scratch)
                built = Path(scratch) / "built"
                if final.exists() and built.exists():
                    final.rename(Path(scratch) / "old")
                if built.exists():
                    built.rename(final)
    except OSError as error:
        raise explain_write_error(error, final) from error


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
