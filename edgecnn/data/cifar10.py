"""CIFAR-10 through torchvision's downloader (Krizhevsky 2009)."""

from http.client import HTTPException
from pathlib import Path

import numpy as np
from PIL import Image

from edgecnn.data.images import Images, Split
from edgecnn.data.resize import to_rgb
from edgecnn.errors import DataError


def load(location: str, height: int, width: int) -> tuple[Images, Images]:
    """Return the 50,000 training and 10,000 test images, downloaded once into the folder ``location``.

    Raises:
        DataError: torchvision is not installed, the download failed or is corrupt.
    """
    folder = Path(location)
    return _split(folder, "train", height, width), _split(folder, "test", height, width)


def _split(folder: Path, split: Split, height: int, width: int) -> Images:
    try:
        from torchvision.datasets import CIFAR10
    except ImportError as error:
        raise DataError(
            "cifar10: the downloader is torchvision's, which is not installed here.",
            next_step="pip install 'edgecnn[torch]', or give the images as a folder: --data FOLDER",
        ) from error
    try:
        raw = CIFAR10(root=str(folder), train=split == "train", download=True)
    except (OSError, RuntimeError, HTTPException) as error:
        raise DataError(
            f"cifar10: could not be downloaded into {folder} ({error}).",
            next_step="check the network, or give the images as a folder: --data FOLDER",
        ) from error
    pixels = np.asarray(raw.data, dtype=np.uint8)
    if pixels.shape[1:3] != (height, width):
        pixels = np.stack([to_rgb(Image.fromarray(picture), height, width) for picture in pixels])
    return Images(
        pixels=pixels,
        labels=np.asarray(raw.targets, dtype=np.int64),
        classes=tuple(raw.classes),
        split=split,
    )
