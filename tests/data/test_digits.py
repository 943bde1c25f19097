from collections import Counter

import numpy as np
from sklearn.datasets import load_digits

from edgecnn.data import digits


def test_all_digits_are_split_once_into_train_and_test() -> None:
    train, test = digits.load("", 8, 8)
    assert (len(train), len(test)) == (1437, 360)
    assert (train.split, test.split) == ("train", "test")
    original = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
    everything = np.concatenate([train.pixels, test.pixels])
    assert Counter(map(bytes, everything[..., 0])) == Counter(map(bytes, original))


def test_every_picture_keeps_its_label() -> None:
    bunch = load_digits()
    grey = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    label_of = {bytes(picture): int(label) for picture, label in zip(grey, bunch.target, strict=True)}
    assert len(label_of) == 1797
    for split in digits.load("", 8, 8):
        assert [label_of[bytes(picture)] for picture in split.pixels[..., 0]] == split.labels.tolist()
        assert split.classes == tuple("0123456789")


def test_both_splits_have_the_same_mixture_of_classes() -> None:
    train, test = digits.load("", 8, 8)
    share_of_test = np.bincount(test.labels) / (np.bincount(train.labels) + np.bincount(test.labels))
    assert np.abs(share_of_test - 0.2).max() < 0.005


def test_the_pictures_are_grey_of_the_size_asked_for_and_use_the_whole_range() -> None:
    train, _ = digits.load("", 24, 32)
    assert train.pixels.shape == (1437, 24, 32, 3)
    assert (train.pixels[..., :1] == train.pixels).all()
    assert (train.pixels.min(), train.pixels.max()) == (0, 255)


def test_loading_twice_gives_the_same() -> None:
    for first, second in zip(digits.load("", 16, 16), digits.load("elsewhere", 16, 16), strict=True):
        np.testing.assert_array_equal(first.pixels, second.pixels)
        np.testing.assert_array_equal(first.labels, second.labels)
