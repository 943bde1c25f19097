"""A bundle on disk: read what it claims, prove its files, add what a stage made."""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from edgecnn.bundle import atomic
from edgecnn.bundle.manifest import MANIFEST, SCHEMA_VERSION, Artifact, Manifest, StageName, StageRecord
from edgecnn.bundle.revision import of_present_files, superseded, without
from edgecnn.errors import BundleError
from edgecnn.version import __version__

MAX_MANIFEST_BYTES = 64 * 2**20


class Bundle:
    """A folder and the manifest in it.

    Attributes:
        folder: where the bundle is.
        manifest: what it claims; replaced as a whole by :meth:`commit`.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder
        self.manifest = manifest

    @classmethod
    def open(cls, folder: Path) -> "Bundle":
        """Open an existing bundle.

        Raises:
            BundleError: there is no manifest, or it is not one.
        """
        if not _has_manifest(folder):
            raise BundleError(
                f"{folder}: expected a bundle, found no {MANIFEST} in it.",
                next_step=f"edgecnn run --bundle {folder}",
            )
        return cls(folder, _read_manifest(folder / MANIFEST))

    @classmethod
    def open_or_create(cls, folder: Path) -> "Bundle":
        """Open a bundle, or begin an empty one in a folder that is made if need be."""
        if _has_manifest(folder):
            return cls.open(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:
            raise BundleError(
                f"{folder}: expected a folder, found a file.", next_step="give another folder with --bundle"
            ) from error
        except OSError as error:
            raise atomic.explain_write_error(error, folder) from error
        return cls(folder, Manifest(edgecnn_version=__version__))

    def path(self, name: str) -> Path:
        """Return where a file of the bundle is or would be."""
        return self.folder / name

    def read(self, name: str, *, next_step: str) -> bytes:
        """Return a file's bytes after comparing them with the manifest's SHA-256.

        Raises:
            BundleError: the manifest does not name it, it is gone, or it was changed.
        """
        artifact = self.manifest.artifact(name)
        if artifact is None:
            raise BundleError(f"{self.folder}: the bundle has no {name} yet.", next_step=next_step)
        try:
            data = self.path(name).read_bytes()
        except OSError as error:
            raise BundleError(
                f"{self.path(name)}: named by the manifest but not readable ({error.strerror}).",
                next_step=next_step,
            ) from error
        found = atomic.sha256_bytes(data)
        if found != artifact.sha256:
            raise BundleError(
                f"{self.path(name)}: expected SHA-256 {artifact.sha256[:12]}… as in the manifest, "
                f"found {found[:12]}…; the file was changed after it was made.",
                next_step=next_step,
            )
        return data

    def holds(self, outputs: Mapping[str, str]) -> bool:
        """Tell whether every file of ``outputs`` (name to SHA-256) is on disk, unchanged."""
        return all(
            self.path(name).is_file() and atomic.sha256_file(self.path(name)) == sha256
            for name, sha256 in outputs.items()
        )

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of this bundle; released by the system when the process dies.

        Raises:
            BundleError: another process is at work in the bundle, or the folder cannot be written.
        """
        if sys.platform == "win32":  # no folder locks there; renames are still atomic
            yield
            return
        import fcntl

        try:
            descriptor = os.open(self.folder, os.O_RDONLY)
        except OSError as error:
            raise atomic.explain_write_error(error, self.path(MANIFEST)) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BundleError(
                    f"{self.folder}: another edgecnn process is at work in this bundle.",
                    next_step="wait for it, or give another folder with --bundle",
                ) from error
            if _has_manifest(self.folder):  # it may have moved on while we waited for the lock
                self.manifest = _read_manifest(self.folder / MANIFEST)
            with contextlib.suppress(OSError):  # a read-only folder is reported by the first write
                atomic.remove_leftovers(self.folder)
            yield
        finally:
            os.close(descriptor)

    def require_writable(self) -> None:
        """Find out before the work, not after it, that the folder cannot be written.

        Raises:
            BundleError: it cannot.
            StorageError: the disk is full.
        """
        probe = self.folder / f"{atomic.TEMPORARY_PREFIX}probe"
        atomic.write_atomically(probe, b"\0" * 4096)
        probe.unlink(missing_ok=True)

    def commit(
        self,
        stage: StageName,
        record: StageRecord,
        products: Sequence[tuple[Artifact, bytes]],
        changes: Mapping[str, object],
    ) -> None:
        """Add what a stage made: its files, then the manifest, then away with what is no longer true.

        Args:
            stage: the stage that finished.
            record: its inputs, settings and outputs.
            products: the files it made, with their bytes.
            changes: manifest fields that the stage sets, by name.
        """
        old = self.manifest
        stale = superseded(old, stage, record)
        kept = without(old, stale)
        manifest = Manifest.model_validate(
            dict(kept)
            | dict(changes)
            | {
                "edgecnn_version": __version__,
                "artifacts": (
                    *(artifact for artifact in kept.artifacts if artifact.stage != stage),
                    *(artifact for artifact, _ in products),
                ),
                "stages": {**kept.stages, stage: record},
            }
        )
        manifest = of_present_files(manifest)
        files = {self.path(artifact.path): data for artifact, data in products}
        atomic.write_together({**files, self.path(MANIFEST): to_json(manifest)})
        self.manifest = manifest
        for name in {a.path for a in old.artifacts} - {a.path for a in manifest.artifacts}:
            self.path(name).unlink(missing_ok=True)

    def amend(self, changes: Mapping[str, object]) -> None:
        """Change manifest fields that no file depends on, such as the checks of a new gate."""
        manifest = Manifest.model_validate(dict(self.manifest) | dict(changes))
        if manifest != self.manifest:
            atomic.write_atomically(self.path(MANIFEST), to_json(manifest))
            self.manifest = manifest


def to_json(manifest: Manifest) -> bytes:
    """Return the manifest as indented UTF-8 JSON with a final newline."""
    return (manifest.model_dump_json(indent=2) + "\n").encode()


def _has_manifest(folder: Path) -> bool:
    try:
        return (folder / MANIFEST).is_file()
    except OSError as error:  # up to Python 3.13, a folder that may not be searched raises
        raise BundleError(
            f"{folder}: not readable ({error.strerror}).", next_step="give another folder with --bundle"
        ) from error


def _read_manifest(path: Path) -> Manifest:
    """Read and check a manifest written by anyone."""
    remedy = "restore it, or make the bundle anew with edgecnn run --bundle FOLDER"
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise BundleError(f"{path}: larger than {MAX_MANIFEST_BYTES} bytes; not a manifest.", next_step=remedy)
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BundleError(f"{path}: not readable ({error.strerror}).", next_step=remedy) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise BundleError(
            f"{path}: expected a bundle manifest of version {SCHEMA_VERSION}, "
            f"found a problem at {where}: {first['msg']}.",
            next_step=remedy,
        ) from error
