"""Which images set the ranges: training images, chosen by seed, never one that is also a test image."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn.data import Dataset, Images
from edgecnn.errors import DataError, ExitCode
from edgecnn.quantization.calibration import choose_calibration_images, count_calibration_images
from tests.support import make_images


def dataset(n_train: int = 20, *, n_shared: int = 0) -> Dataset:
    """Return a data set whose first ``n_shared`` training images are test images as well, under other labels."""
    train, test = make_images(n_train, seed=1, size=4), make_images(12, seed=2, size=4, split="test")
    pixels = train.pixels.copy()
    pixels[:n_shared] = test.pixels[:n_shared]
    train = Images(pixels=pixels, labels=train.labels[::-1].copy(), classes=train.classes, split="train")
    return Dataset(source="npz", name="ours.npz", sha256="a" * 64, resize="none", train=train, test=test)


def digests(images: Images) -> list[str]:
    return [hashlib.sha256(picture.tobytes()).hexdigest() for picture in images.pixels]


def refused(data: Dataset, n: int) -> DataError:
    with pytest.raises(DataError) as caught:
        choose_calibration_images(data, n, 0)
    assert caught.value.exit_code == ExitCode.BAD_INPUT
    assert caught.value.message.startswith("quantize: ")
    return caught.value


@settings(max_examples=40)
@given(n=st.integers(1, 20), seed=st.integers(0, 2**32))
def test_as_many_as_asked_for_are_chosen_and_none_twice(n: int, seed: int) -> None:
    data = dataset()
    images, record = choose_calibration_images(data, n, seed)
    chosen = digests(images)
    assert len(chosen) == len(set(chosen)) == n
    assert set(chosen) <= set(digests(data.train))
    assert list(record.image_sha256) == chosen
    assert (record.split, record.n, record.seed, record.excluded_as_test_images) == ("train", n, seed, 0)
    assert record.data_sha256 == data.sha256
    assert images.split == "train"


def test_the_same_seed_chooses_the_same_and_another_seed_others() -> None:
    data = dataset()
    first, again, other = (choose_calibration_images(data, 8, seed)[1].image_sha256 for seed in (3, 3, 4))
    assert first == again
    assert set(first) != set(other)


def test_more_images_of_a_seed_begin_with_the_fewer() -> None:
    data = dataset()
    few, many = (choose_calibration_images(data, n, 7)[1].image_sha256 for n in (5, 15))
    assert many[:5] == few


def test_an_image_keeps_its_label() -> None:
    data = dataset()
    images, _ = choose_calibration_images(data, 10, 0)
    labels = dict(zip(digests(data.train), data.train.labels.tolist(), strict=True))
    assert [labels[digest] for digest in digests(images)] == images.labels.tolist()


@settings(max_examples=40)
@given(n_shared=st.integers(0, 12), seed=st.integers(0, 2**32))
def test_images_that_are_test_images_too_are_passed_over_and_counted(n_shared: int, seed: int) -> None:
    data = dataset(n_shared=n_shared)
    assert count_calibration_images(data) == 20 - n_shared
    images, record = choose_calibration_images(data, 20 - n_shared, seed)
    assert not set(digests(images)) & set(digests(data.test))
    assert record.excluded_as_test_images <= n_shared
    assert set(digests(images)) == set(digests(data.train)[n_shared:])


def test_those_passed_over_before_the_last_one_chosen_are_counted() -> None:
    order = np.random.default_rng(0).permutation(20)
    data = dataset()
    data.train.pixels[order[:4]] = data.test.pixels[:4]
    assert choose_calibration_images(data, 1, 0)[1].excluded_as_test_images == 4


def test_a_set_of_nothing_but_test_images_is_refused_with_their_number() -> None:
    data = dataset(12, n_shared=12)
    assert count_calibration_images(data) == 0
    error = refused(data, 5)
    assert "5 calibration images were asked for" in error.message
    assert "ours.npz has 12 training images, of which 12 are test images as well" in error.message
    assert error.next_step == "give training images that are not test images"


def test_more_than_there_are_is_refused_with_a_number_that_works() -> None:
    data = dataset(n_shared=7)
    error = refused(data, 14)
    assert "20 training images, of which 7 are test images as well and were refused" in error.message
    option, number = error.next_step.split()
    assert (option, number) == ("--images", "13")
    assert len(choose_calibration_images(data, int(number), 0)[0]) == 13


@pytest.mark.parametrize("n", [0, -1])
def test_no_images_at_all_are_refused(n: int) -> None:
    error = refused(dataset(), n)
    assert f"found {n}" in error.message
    assert error.next_step == "--images 512"
