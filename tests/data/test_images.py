import hashlib
from typing import Any

import numpy as np
import pytest

from edgecnn.data.images import Dataset, Images
from edgecnn.errors import DataError
from tests.support import make_images


def images(**changes: Any) -> Images:
    fields: dict[str, Any] = {
        "pixels": np.zeros((3, 4, 5, 3), np.uint8),
        "labels": np.array([0, 1, 1]),
        "classes": ("a", "b"),
        "split": "train",
    }
    return Images(**(fields | changes))


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((3, 4, 5, 3), np.float32),
        np.zeros((3, 4, 5, 1), np.uint8),
        np.zeros((3, 4, 5, 4), np.uint8),
        np.zeros((3, 3, 4, 5), np.uint8),
        np.zeros((4, 5, 3), np.uint8),
    ],
)
def test_pixels_that_are_not_rgb_bytes_are_refused(pixels: np.ndarray[Any, Any]) -> None:
    with pytest.raises(DataError) as raised:
        images(pixels=pixels)
    assert f"uint8 [N, H, W, 3], found {pixels.dtype} {list(pixels.shape)}" in raised.value.message
    assert raised.value.next_step


@pytest.mark.parametrize("labels", [np.array([0, 1]), np.array([[0], [1], [1]]), np.array([0, 1, 1], np.int32)])
def test_labels_that_are_not_one_integer_an_image_are_refused(labels: np.ndarray[Any, Any]) -> None:
    with pytest.raises(DataError) as raised:
        images(labels=labels)
    assert f"int64 [3], found {labels.dtype} {list(labels.shape)}" in raised.value.message


@pytest.mark.parametrize(("labels", "found"), [([0, 1, 2], "0..2"), ([-1, 0, 1], "-1..1")])
def test_labels_outside_of_the_classes_are_refused(labels: list[int], found: str) -> None:
    with pytest.raises(DataError) as raised:
        images(labels=np.array(labels))
    assert f"0..1, found {found}" in raised.value.message


def test_a_split_may_be_empty() -> None:
    assert len(images(pixels=np.zeros((0, 4, 5, 3), np.uint8), labels=np.zeros(0, np.int64))) == 0


def test_take_keeps_the_order_asked_for_and_the_split() -> None:
    before = make_images(10, split="test")
    after = before.take(np.array([7, 2, 2]))
    np.testing.assert_array_equal(after.pixels, np.stack([before.pixels[7], before.pixels[2], before.pixels[2]]))
    assert after.labels.tolist() == [before.labels[7], before.labels[2], before.labels[2]]
    assert (after.classes, after.split, len(after)) == (before.classes, "test", 3)


def test_an_images_hash_is_that_of_its_pixels_alone() -> None:
    first = make_images(6)
    second = Images(pixels=first.pixels[::-1], labels=first.labels, classes=first.classes, split="test")
    assert second.content_sha256() == first.content_sha256()[::-1]
    assert len(set(first.content_sha256())) == 6
    assert first.content_sha256()[0] == hashlib.sha256(bytes(first.pixels[0].ravel().tolist())).hexdigest()


def test_a_data_set_knows_its_classes_and_the_shape_of_its_images() -> None:
    train = images()
    dataset = Dataset(source="npz", name="n", sha256="0" * 64, resize="r", train=train, test=images(split="test"))
    assert dataset.classes == ("a", "b")
    assert dataset.image_shape == (4, 5, 3)
