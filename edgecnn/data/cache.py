"""Decode once: a data set as four arrays on disk, found again by the hash of what they hold."""

import hashlib
import json
import os
import re
import shutil
import tempfile
import tokenize
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict

from edgecnn.bundle.locate import CACHE_VARIABLE
from edgecnn.data.images import Dataset, Images, Labels, Pixels, Split
from edgecnn.errors import DataError

SPLITS: tuple[Split, Split] = ("train", "test")


class _Description(BaseModel):
    """What stands beside the arrays in the cache."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    name: str
    resize: str
    classes: tuple[str, ...]


def dataset_sha256(train: Images, test: Images) -> str:
    """Return the hash that names a data set: its pixels, labels and classes, not its files."""
    digest = hashlib.sha256(json.dumps(train.classes).encode())
    for images in (train, test):
        digest.update(json.dumps(images.pixels.shape).encode())
        digest.update(np.ascontiguousarray(images.pixels).data)
        digest.update(np.ascontiguousarray(images.labels).data)
    return digest.hexdigest()


def remember(cache: Path, key: str, dataset: Dataset) -> None:
    """Store a decoded data set, and that the source with ``key`` decodes to it.

    Raises:
        DataError: the cache folder cannot be written.
    """
    final = cache / "datasets" / dataset.sha256
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        (cache / "sources").mkdir(exist_ok=True)
        if not final.is_dir():
            _store(final, dataset)
        index = cache / "sources" / key
        partial = index.with_name(f".{key}.{os.getpid()}")
        partial.write_text(dataset.sha256)
        partial.replace(index)
    except OSError as error:
        raise DataError(
            f"{cache}: the cache of decoded images cannot be written ({error.strerror or error}).",
            next_step=f"name another folder with --cache or ${CACHE_VARIABLE}",
        ) from error


def _store(final: Path, dataset: Dataset) -> None:
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=final.parent))
    try:
        for images in (dataset.train, dataset.test):
            np.save(partial / f"{images.split}-pixels.npy", images.pixels)
            np.save(partial / f"{images.split}-labels.npy", images.labels)
        description = _Description(
            source=dataset.source, name=dataset.name, resize=dataset.resize, classes=dataset.classes
        )
        (partial / "description.json").write_text(description.model_dump_json())
        try:
            partial.rename(final)
        except OSError:
            if not final.is_dir():  # another process may have been quicker; its arrays are the same
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def recall_source(cache: Path, key: str) -> Dataset | None:
    """Return what the source with ``key`` decoded to, if it is still in the cache."""
    try:
        sha256 = (cache / "sources" / key).read_text(encoding="ascii")
    except (OSError, ValueError):  # not there, or torn; the caller decodes the source again
        return None
    return recall(cache, sha256) if re.fullmatch("[0-9a-f]{64}", sha256) else None


def recall(cache: Path, sha256: str) -> Dataset | None:
    """Return a data set by the hash of its content; torn or changed arrays count as absent."""
    folder = cache / "datasets" / sha256
    try:
        if not folder.is_dir():
            return None
        description = _Description.model_validate_json((folder / "description.json").read_bytes())
        train, test = (_load_split(folder, split, description.classes) for split in SPLITS)
    except (OSError, ValueError, EOFError, MemoryError, tokenize.TokenError, DataError):
        # Not a fallback: the caller decodes the source again, and the result is compared by hash.
        shutil.rmtree(folder, ignore_errors=True)
        return None
    if dataset_sha256(train, test) != sha256:
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return Dataset(
        source=description.source,
        name=description.name,
        sha256=sha256,
        resize=description.resize,
        train=train,
        test=test,
    )


def _load_split(folder: Path, split: Split, classes: tuple[str, ...]) -> Images:
    pixels: Pixels = np.load(folder / f"{split}-pixels.npy", allow_pickle=False)
    labels: Labels = np.load(folder / f"{split}-labels.npy", allow_pickle=False)
    return Images(pixels=pixels, labels=labels, classes=classes, split=split)
