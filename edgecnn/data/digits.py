"""scikit-learn's 1,797 real handwritten digits: the data set that needs no network."""

import numpy as np
from PIL import Image

from edgecnn.data.images import Images
from edgecnn.data.resize import to_rgb

#: The original is 8x8 with 17 grey levels, 0 to 16.
GREY_LEVELS = 16
TEST_FRACTION = 0.2
SPLIT_SEED = 0


def load(location: str, height: int, width: int) -> tuple[Images, Images]:
    """Return the training (1,437) and test (360) digits, stratified, as RGB pictures.

    Args:
        location: ignored; the digits come with scikit-learn.
        height: of every picture, in pixels.
        width: of every picture, in pixels.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    grey = np.rint(bunch.images * (255 / GREY_LEVELS)).astype(np.uint8)
    pixels = np.stack([to_rgb(Image.fromarray(picture), height, width) for picture in grey])
    labels = bunch.target.astype(np.int64)
    classes = tuple(str(name) for name in bunch.target_names)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=TEST_FRACTION, random_state=SPLIT_SEED, stratify=labels
    )
    return (
        Images(pixels=pixels[train], labels=labels[train], classes=classes, split="train"),
        Images(pixels=pixels[test], labels=labels[test], classes=classes, split="test"),
    )
