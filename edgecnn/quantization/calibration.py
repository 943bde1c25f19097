"""Which images set the ranges: training images, chosen by seed, and none that is also a test image."""

import numpy as np

from edgecnn.bundle.manifest import CalibrationRecord
from edgecnn.data import Dataset, Images
from edgecnn.errors import DataError


def count_calibration_images(dataset: Dataset) -> int:
    """Return how many training images are not test images as well."""
    test_content = set(dataset.test.content_sha256())
    return sum(content not in test_content for content in dataset.train.content_sha256())


def choose_calibration_images(dataset: Dataset, n: int, seed: int) -> tuple[Images, CalibrationRecord]:
    """Return ``n`` training images and what the manifest says of them.

    An image whose pixels also occur in the test split is passed over: calibrating on it would let the
    test set vouch for itself.

    Raises:
        DataError: fewer than ``n`` training images are left.
    """
    if n < 1:
        raise DataError(f"quantize: expected at least one calibration image, found {n}.", next_step="--images 512")
    test_content = set(dataset.test.content_sha256())
    order = np.random.default_rng(seed).permutation(len(dataset.train))
    chosen: list[int] = []
    hashes: list[str] = []
    excluded = 0
    for index in order:
        if len(chosen) == n:
            break
        (content,) = dataset.train.take(np.array([index])).content_sha256()
        if content in test_content:
            excluded += 1
        else:
            chosen.append(int(index))
            hashes.append(content)
    if len(chosen) < n:
        raise DataError(
            f"quantize: {n} calibration images were asked for; {dataset.name} has {len(dataset.train)} training "
            f"images, of which {excluded} are test images as well and were refused.",
            next_step=f"--images {len(chosen)}" if chosen else "give training images that are not test images",
        )
    record = CalibrationRecord(
        split="train",
        n=n,
        seed=seed,
        data_sha256=dataset.sha256,
        excluded_as_test_images=excluded,
        image_sha256=tuple(hashes),
    )
    return dataset.train.take(np.array(chosen)), record
