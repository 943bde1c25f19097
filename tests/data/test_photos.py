import numpy as np

from edgecnn.data.photos import photo_crops


def test_the_crops_are_real_pictures_of_the_size_asked_for_and_always_the_same() -> None:
    crops = photo_crops(6, 48, 64)
    assert crops.shape == (6, 48, 64, 3)
    assert crops.dtype == np.dtype(np.uint8)
    assert np.array_equal(crops, photo_crops(6, 48, 64))
    assert len({crop.tobytes() for crop in crops}) == 6
    neighbours = np.abs(np.diff(crops.astype(int), axis=2)).mean()
    strangers = np.abs(np.diff(np.random.default_rng(0).permutation(crops.astype(int).ravel()))).mean()
    assert neighbours < strangers / 2  # unlike noise, a photograph is smooth
    assert crops.std(axis=(1, 2)).min() > 3
