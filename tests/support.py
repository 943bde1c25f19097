"""Makers of small things to test with; fixtures are in ``conftest.py``."""

import numpy as np

from edgecnn.data.images import Images


def make_images(n: int = 24, *, seed: int = 0, classes: int = 3, split: str = "train", size: int = 32) -> Images:
    """Return random images with every class among them."""
    random = np.random.default_rng(seed)
    return Images(
        pixels=random.integers(0, 256, (n, size, size, 3), np.uint8),
        labels=np.arange(n, dtype=np.int64) % classes,
        classes=tuple(f"class{index}" for index in range(classes)),
        split="train" if split == "train" else "test",
    )
