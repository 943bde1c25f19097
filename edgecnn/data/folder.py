"""An image folder: ``train/<class>/*`` and ``test/<class>/*``, JPEG or PNG, any size."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from edgecnn.data.images import Images, Split
from edgecnn.data.resize import MAX_IMAGE_PIXELS, to_rgb
from edgecnn.errors import DataError

SUFFIXES = {".jpg", ".jpeg", ".png"}
FORMATS = ("JPEG", "PNG")
LAYOUT = "train/<class>/*.jpg|png and test/<class>/*.jpg|png"
#: All images of a set are held in memory as one array.
MAX_SET_BYTES = 16 * 2**30


def load(location: str, height: int, width: int) -> tuple[Images, Images]:
    """Return both splits; the classes are the sorted folder names of ``train``.

    Raises:
        DataError: no such folder, no images, a test class that train lacks, or an unreadable image.
    """
    root = Path(location)
    classes = tuple(_class_names(root, "train"))
    unknown = sorted(set(_class_names(root, "test")) - set(classes))
    if unknown:
        raise DataError(
            f"{root}/test: has classes that {root}/train lacks: {', '.join(unknown)}.",
            next_step="add them to train, or take them out of test",
        )
    return _load_split(root, "train", classes, height, width), _load_split(root, "test", classes, height, width)


def files(location: str) -> list[Path]:
    """Return every image file of both splits, sorted: what the cache key is made of."""
    root = Path(location)
    found = [path for split in ("train", "test") for path, _ in _listing(root, split, _class_names(root, split))]
    return sorted(found)


def _class_names(root: Path, split: str) -> list[str]:
    folder = root / split
    if not folder.is_dir():
        raise DataError(
            f"{folder}: expected a folder of classes, found none.",
            next_step=f"lay the images out as {LAYOUT}",
        )
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if unreadable := [name for name in names if not name.isprintable()]:  # also names that are not UTF-8
        raise DataError(
            f"{folder}: expected class names that can be printed, found {unreadable[0]!a}.",
            next_step="rename that folder",
        )
    return names


def _listing(root: Path, split: str, classes: tuple[str, ...] | list[str]) -> list[tuple[Path, int]]:
    """Return each image file of a split with its label."""
    found = [
        (path, label)
        for label, name in enumerate(classes)
        if (root / split / name).is_dir()
        for path in sorted((root / split / name).iterdir())
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    ]
    if not found:
        raise DataError(
            f"{root / split}: expected JPEG or PNG images, found none.",
            next_step=f"lay the images out as {LAYOUT}",
        )
    return found


def _load_split(root: Path, split: Split, classes: tuple[str, ...], height: int, width: int) -> Images:
    listing = _listing(root, split, classes)
    size_bytes = len(listing) * height * width * 3
    if size_bytes > MAX_SET_BYTES:
        raise DataError(
            f"{root / split}: {len(listing)} images at {width}x{height} need {size_bytes / 2**30:.1f} GiB "
            f"in memory; the limit is {MAX_SET_BYTES / 2**30:.0f} GiB.",
            next_step="give fewer images",
        )
    pixels = np.empty((len(listing), height, width, 3), np.uint8)
    for index, (path, _) in enumerate(listing):
        pixels[index] = _decode(path, height, width)
    labels = np.array([label for _, label in listing], np.int64)
    return Images(pixels=pixels, labels=labels, classes=classes, split=split)


def _decode(path: Path, height: int, width: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Decode one stranger's picture: only JPEG and PNG, not too large, or an error that names it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MAX_IMAGE_PIXELS:
                    raise DataError(
                        f"{path}: {image.width}x{image.height} pixels; the limit is {MAX_IMAGE_PIXELS}.",
                        next_step="make it smaller, or remove it",
                    )
                return to_rgb(image, height, width)
    except (
        OSError,
        SyntaxError,  # Pillow's word for a broken PNG chunk
        ValueError,
        UnidentifiedImageError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise DataError(
            f"{path}: not a readable JPEG or PNG image ({error}).", next_step="repair the file, or remove it"
        ) from error
