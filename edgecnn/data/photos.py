"""Two real photographs that come with scikit-learn, for comparing graphs when the user gave no images."""

import numpy as np
from PIL import Image

from edgecnn.data.images import Pixels
from edgecnn.data.resize import to_rgb

SEED = 0


def photo_crops(n: int, height: int, width: int) -> Pixels:
    """Return ``n`` random crops of the photographs, uint8 ``[N, H, W, 3]``; the same ones every time."""
    from sklearn.datasets import load_sample_images

    photos = [Image.fromarray(photo) for photo in load_sample_images().images]
    random = np.random.default_rng(SEED)
    crops = np.empty((n, height, width, 3), np.uint8)
    for index in range(n):
        photo = photos[index % len(photos)]
        side = int(random.integers(min(photo.size) // 4, min(photo.size)))
        left, top = (int(random.integers(0, extent - side + 1)) for extent in photo.size)
        crops[index] = to_rgb(photo.crop((left, top, left + side, top + side)), height, width)
    return crops
