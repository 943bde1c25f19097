"""A NumPy archive: ``x`` uint8 ``[N, H, W, 3]`` and ``y``, or ``x_train, y_train, x_test, y_test``."""

import tokenize
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from edgecnn.data.images import Images, Split
from edgecnn.data.resize import to_rgb
from edgecnn.errors import DataError

CONTENT = "x (uint8 [N, H, W, 3]) and y (integers [N]), or x_train, y_train, x_test and y_test"
TEST_FRACTION = 0.2
SPLIT_SEED = 0
MAX_ARCHIVE_BYTES = 16 * 2**30
#: What zipfile, zlib and NumPy raise on damaged files; MemoryError where a header claims too large an array.
_UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    RuntimeError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
)


def load(location: str, height: int, width: int) -> tuple[Images, Images]:
    """Return both splits; an archive with only ``x`` and ``y`` is split 80:20, stratified, with seed 0.

    Raises:
        DataError: not an archive, other arrays, other types, or labels that are not 0, 1, 2, ….
    """
    arrays = _read(Path(location))
    if {"x_train", "y_train", "x_test", "y_test"} <= arrays.keys():
        train_x, train_y = arrays["x_train"], arrays["y_train"]
        test_x, test_y = arrays["x_test"], arrays["y_test"]
    elif {"x", "y"} <= arrays.keys():
        train_x, train_y, test_x, test_y = _divide(location, arrays["x"], arrays["y"])
    else:
        found = ", ".join(sorted(arrays)) or "nothing"
        raise DataError(f"{location}: expected the arrays {CONTENT}; found {found}.", next_step="rename them")
    n_classes = _count_classes(location, train_y, test_y)
    classes = tuple(str(label) for label in range(n_classes))
    return (
        _images(location, train_x, train_y, classes, "train", height, width),
        _images(location, test_x, test_y, classes, "test", height, width),
    )


def _read(path: Path) -> dict[str, NDArray[np.generic]]:
    """Read the arrays without unpickling, after bounding what they unpack to."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > MAX_ARCHIVE_BYTES:
            raise DataError(
                f"{path}: unpacks to {unpacked / 2**30:.1f} GiB; the limit is {MAX_ARCHIVE_BYTES / 2**30:.0f} GiB.",
                next_step="give fewer images",
            )
        with np.load(path, allow_pickle=False) as archive_arrays:
            # a file that is not an array, such as a README, comes as bytes
            return {name: array for name, array in archive_arrays.items() if isinstance(array, np.ndarray)}
    except _UNREADABLE as error:
        raise DataError(
            f"{path}: not a readable .npz archive ({error}).",
            next_step=f"save it with numpy.savez: {CONTENT}",
        ) from error


def _divide(
    location: str, x: NDArray[np.generic], y: NDArray[np.generic]
) -> tuple[NDArray[np.generic], NDArray[np.generic], NDArray[np.generic], NDArray[np.generic]]:
    from sklearn.model_selection import train_test_split

    try:
        train, test = train_test_split(np.arange(len(y)), test_size=TEST_FRACTION, random_state=SPLIT_SEED, stratify=y)
        return x[train], y[train], x[test], y[test]
    except (ValueError, IndexError, TypeError) as error:
        raise DataError(
            f"{location}: x and y could not be split into train and test ({error}).",
            next_step="give x_train, y_train, x_test and y_test",
        ) from error


def _count_classes(location: str, train_y: NDArray[np.generic], test_y: NDArray[np.generic]) -> int:
    for name, labels in (("train", train_y), ("test", test_y)):
        if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer) or not len(labels):
            raise DataError(
                f"{location}: {name} labels must be integers [N], found {labels.dtype} {list(labels.shape)}.",
                next_step="store one integer label an image",
            )
    known = set(np.unique(train_y).tolist())
    if known != set(range(len(known))):
        raise DataError(
            f"{location}: train labels must be 0..K-1 without gaps, found {sorted(known)[:20]}.",
            next_step="renumber the labels",
        )
    unknown = set(np.unique(test_y).tolist()) - known
    if unknown:
        raise DataError(
            f"{location}: test has labels that train lacks: {sorted(unknown)[:20]}.",
            next_step="add them to train, or take them out of test",
        )
    return len(known)


def _images(
    location: str,
    x: NDArray[np.generic],
    y: NDArray[np.generic],
    classes: tuple[str, ...],
    split: Split,
    height: int,
    width: int,
) -> Images:
    if x.dtype != np.uint8 or x.ndim != 4 or x.shape[3] != 3 or len(x) != len(y) or 0 in x.shape:
        raise DataError(
            f"{location}: {split} images must be uint8 [{len(y)}, H, W, 3], found {x.dtype} {list(x.shape)}.",
            next_step="store RGB pixels 0 to 255, channels last",
        )
    pixels = x.astype(np.uint8, copy=False)
    if pixels.shape[1:3] != (height, width):
        pixels = np.stack([to_rgb(Image.fromarray(picture), height, width) for picture in pixels])
    return Images(pixels=pixels, labels=y.astype(np.int64), classes=classes, split=split)
