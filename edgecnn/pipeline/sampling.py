"""Which of the test images each target answers."""

from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import JsonValue

from edgecnn.data import Images
from edgecnn.errors import DataError, UsageError
from edgecnn.pipeline.answers import REFERENCE
from edgecnn.targets import target as target_row

#: Chooses the images where not all are asked for.
SAMPLE_SEED = 0
#: Test images on another target, and on one that is simulated, where the user does not say.
_ELSEWHERE, _SIMULATED = 1000, 200


def sample_sizes(targets: Sequence[str], n_images: int | None, available: int) -> dict[str, int]:
    """Return how many test images each target answers: as told, else all on this CPU and a sample elsewhere."""
    if n_images is not None:
        return dict.fromkeys(targets, n_images)
    default = {"measured": _ELSEWHERE, "emulated": _ELSEWHERE, "simulated": _SIMULATED}
    return {
        name: available if name == REFERENCE else min(available, default[target_row(name).clock_here])
        for name in targets
    }


def choose_images(test: Images, n: int | None) -> Images:
    """Return ``n`` of the test images, the first of a shuffle by :data:`SAMPLE_SEED`, or all of them.

    Raises:
        UsageError: less than one is asked for.
        DataError: more are asked for than there are.
    """
    if n is None or n == len(test):
        return test
    if n < 1:
        raise UsageError(f"--images must be above 0, found {n}.", next_step="--images 1000")
    if n > len(test):
        raise DataError(
            f"validate: {n} test images were asked for, there are {len(test)}.", next_step=f"--images {len(test)}"
        )
    return test.take(np.sort(np.random.default_rng(SAMPLE_SEED).permutation(len(test))[:n]))


def sampled_settings(sizes: Mapping[str, int], available: int) -> dict[str, JsonValue]:
    """Return the images that are asked for, in words for the record: nothing if it is all of them."""
    distinct = set(sizes.values())
    if distinct == {available}:
        return {}
    return {"images": distinct.pop() if len(distinct) == 1 else dict(sizes), "seed": SAMPLE_SEED}
