"""Files that are either the old one or the new one, never half of either."""

import errno
import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from edgecnn.errors import BundleError, EdgecnnError, StorageError

TEMPORARY_PREFIX = ".edgecnn-tmp-"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}


def sha256_bytes(data: bytes) -> str:
    """Return the SHA-256 of ``data`` as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Write one file; see :func:`write_together`."""
    write_together({path: data})


def write_together(files: Mapping[Path, bytes]) -> None:
    """Write every file beside its place and flush it; only when all are on the disk, rename each in order.

    A full disk is therefore met before the first rename, while every file is still the old one.

    Raises:
        StorageError: the disk is full. No file was changed.
        BundleError: a folder cannot be written. No file was changed.
    """
    prepared: list[tuple[Path, Path]] = []
    try:
        for path, data in files.items():
            try:
                prepared.append((_write_beside(path, data), path))
            except OSError as error:
                raise explain_write_error(error, path) from error
        for temporary, path in prepared:
            try:
                temporary.replace(path)
            except OSError as error:
                raise explain_write_error(error, path) from error
    finally:
        for temporary, _ in prepared:
            temporary.unlink(missing_ok=True)


def _write_beside(path: Path, data: bytes) -> Path:
    """Write ``data`` to a flushed temporary file in the folder of ``path`` and return where."""
    descriptor, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def explain_write_error(error: OSError, path: Path) -> EdgecnnError:
    """Translate what the operating system said about writing ``path``."""
    if error.errno in _FULL:
        return StorageError(
            f"{path}: the disk is full ({error.strerror}); nothing was changed.",
            next_step="free some space, then run the same command again",
        )
    if error.errno in _READ_ONLY:
        return BundleError(
            f"{path.parent}: the folder cannot be written ({error.strerror}); nothing was changed.",
            next_step="give another folder with --bundle, or make this one writable",
        )
    return BundleError(
        f"{path}: could not be written ({error.strerror or error}).",
        next_step="give another folder with --bundle",
    )


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files that a killed process left; call only while holding the bundle's lock."""
    for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
        path.unlink(missing_ok=True)
