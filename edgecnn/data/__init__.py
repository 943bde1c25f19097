"""Labelled images for training, calibration and testing, from any row of one table.

A new source is a loader ``(location, height, width) -> (train, test)`` and a row in :data:`SOURCES`.
"""

import hashlib
import importlib.metadata
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from edgecnn.bundle.atomic import sha256_file
from edgecnn.bundle.locate import cache_folder as default_cache
from edgecnn.bundle.manifest import DataRecord
from edgecnn.data import cache, cifar10, digits, folder, npz, resize
from edgecnn.data.images import Dataset, Images
from edgecnn.errors import DataError

__all__ = ["SOURCES", "Dataset", "Images", "Source", "find", "load", "record"]


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where images come from.

    Attributes:
        load: ``(location, height, width)`` to the training and the test split.
        fingerprint: hash of what is at the location; tells whether it must be decoded again.
        mirrors: whether a mirrored picture still shows its class (a mirrored 2 does not).
        summary: one line for the help.
    """

    load: Callable[[str, int, int], tuple[Images, Images]]
    fingerprint: Callable[[str], str]
    mirrors: bool
    summary: str


def _hash_digits(location: str) -> str:
    return hashlib.sha256(f"scikit-learn {importlib.metadata.version('scikit-learn')}".encode()).hexdigest()


def _hash_cifar10(location: str) -> str:
    # torchvision verifies the archive's published MD5; there is one CIFAR-10.
    return hashlib.sha256(b"CIFAR-10 python version").hexdigest()


def _hash_folder(location: str) -> str:
    digest = hashlib.sha256()
    for path in folder.files(location):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(os.fsencode(path.relative_to(location)) + f"\0{content}\n".encode())
    return digest.hexdigest()


def _hash_npz(location: str) -> str:
    return sha256_file(Path(location))


SOURCES: dict[str, Source] = {
    "digits": Source(
        load=digits.load,
        fingerprint=_hash_digits,
        mirrors=False,
        summary="scikit-learn's real handwritten digits; needs no network",
    ),
    "cifar10": Source(
        load=cifar10.load,
        fingerprint=_hash_cifar10,
        mirrors=True,
        summary="CIFAR-10, downloaded once by torchvision into the cache folder",
    ),
    "folder": Source(
        load=folder.load,
        fingerprint=_hash_folder,
        mirrors=True,
        summary=f"an image folder: {folder.LAYOUT}",
    ),
    "npz": Source(load=npz.load, fingerprint=_hash_npz, mirrors=True, summary=f"a .npz with {npz.CONTENT}"),
}


def load(source: str, *, height: int, width: int, cache_folder: Path | None = None) -> Dataset:
    """Load a data set at one image size, decoding it only if the cache does not hold it.

    Args:
        source: ``digits``, ``cifar10``, an image folder or a ``.npz`` file.
        height: of every image, in pixels.
        width: of every image, in pixels.
        cache_folder: where decoded arrays are kept; see :func:`edgecnn.bundle.locate.cache_folder`.

    Raises:
        DataError: the source does not exist, or its images cannot be used.
    """
    cache_folder = cache_folder or default_cache()
    rule = resize.describe(height, width)
    try:
        row_name, location, name = _resolve(source, cache_folder)
        row = SOURCES[row_name]
        key = hashlib.sha256(f"{row_name}\n{rule}\n{row.fingerprint(location)}".encode()).hexdigest()
    except OSError as error:
        raise DataError(
            f"{error.filename or source}: not readable ({error.strerror}).",
            next_step="make it readable, or give another --data SOURCE",
        ) from error
    if known := cache.recall_source(cache_folder, key):
        # the same images may have been decoded first under another name
        return replace(known, source=row_name, name=name)
    train, test = row.load(location, height, width)
    sha256 = cache.dataset_sha256(train, test)
    dataset = Dataset(source=row_name, name=name, sha256=sha256, resize=rule, train=train, test=test)
    cache.remember(cache_folder, key, dataset)
    return dataset


def find(wanted: DataRecord, *, cache_folder: Path | None = None) -> Dataset:
    """Return the data set that a manifest names, by content; no path is needed.

    Raises:
        DataError: it is not in the cache and cannot be made again here.
    """
    cache_folder = cache_folder or default_cache()
    if known := cache.recall(cache_folder, wanted.sha256):
        return replace(known, source=wanted.source, name=wanted.name, resize=wanted.resize)
    if wanted.source in ("digits", "cifar10"):
        height, width, _ = wanted.image_shape
        dataset = load(wanted.source, height=height, width=width, cache_folder=cache_folder)
        if dataset.sha256 == wanted.sha256:
            return dataset
    raise DataError(
        f"the bundle's images ({wanted.source} {wanted.name!r}, SHA-256 {wanted.sha256[:12]}…) "
        f"are not in the cache {cache_folder}.",
        next_step="give them again with --data SOURCE",
    )


def record(dataset: Dataset) -> DataRecord:
    """Return what the manifest says of a data set."""
    return DataRecord(
        source=dataset.source,
        name=dataset.name,
        sha256=dataset.sha256,
        classes=dataset.classes,
        n_train=len(dataset.train),
        n_test=len(dataset.test),
        image_shape=dataset.image_shape,
        resize=dataset.resize,
    )


def _resolve(source: str, cache_folder: Path) -> tuple[str, str, str]:
    """Return the table row, the location for its loader, and a name without a path."""
    if source in ("digits", "cifar10"):
        return source, str(cache_folder / source), source
    path = Path(source)
    if path.is_dir():
        return "folder", str(path), path.resolve().name
    if path.is_file() and path.suffix == ".npz":
        return "npz", str(path), path.name
    found = "a file that is not .npz" if path.is_file() else "nothing at that path"
    raise DataError(
        f"{source}: expected digits, cifar10, an image folder or a .npz file; found {found}.",
        next_step=f"--data digits, or a folder laid out as {folder.LAYOUT}",
    )
