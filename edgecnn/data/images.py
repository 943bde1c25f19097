"""Labelled images, and the one shape they have everywhere: uint8 ``[N, H, W, C]``."""

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import DataError

Split = Literal["train", "test"]
Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Images:
    """One split of a data set.

    Attributes:
        pixels: uint8 ``[N, H, W, C]``, RGB, 0 to 255.
        labels: int64 ``[N]``, indices into ``classes``.
        classes: the class names, in label order.
        split: whether these are training or test images; calibration takes only the former.
    """

    pixels: Pixels
    labels: Labels
    classes: tuple[str, ...]
    split: Split

    def __post_init__(self) -> None:
        if self.pixels.ndim != 4 or self.pixels.dtype != np.uint8 or self.pixels.shape[3] != 3:
            raise DataError(
                f"images must be uint8 [N, H, W, 3], found {self.pixels.dtype} {list(self.pixels.shape)}.",
                next_step="give RGB pixels 0 to 255, channels last",
            )
        if self.labels.shape != self.pixels.shape[:1] or self.labels.dtype != np.int64:
            raise DataError(
                f"labels must be int64 [{len(self.pixels)}], found {self.labels.dtype} {list(self.labels.shape)}.",
                next_step="give one integer label an image",
            )
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise DataError(
                f"labels must lie in 0..{len(self.classes) - 1}, found {self.labels.min()}..{self.labels.max()}.",
                next_step="number the classes from 0, as in their list",
            )

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: NDArray[np.int64]) -> "Images":
        """Return the images at ``indices``, in that order."""
        return Images(
            pixels=np.ascontiguousarray(self.pixels[indices]),
            labels=self.labels[indices],
            classes=self.classes,
            split=self.split,
        )

    def content_sha256(self) -> list[str]:
        """Return the SHA-256 of each image's pixels, whatever its label or file name."""
        return [hashlib.sha256(image.tobytes()).hexdigest() for image in self.pixels]


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """A training and a test split that never mix.

    Attributes:
        source: the row of the source table it came from.
        name: what to call it in a report; no path.
        sha256: over both splits' pixels, labels and class names.
        resize: the rule that brought the images to their size, in words.
    """

    source: str
    name: str
    sha256: str
    resize: str
    train: Images
    test: Images

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in label order."""
        return self.train.classes

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of every image."""
        _, height, width, channels = self.train.pixels.shape
        return (height, width, channels)
