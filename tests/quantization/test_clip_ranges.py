"""Ranges of what is clipped, streamed, and what equalization makes of them."""

import numpy as np
import pytest
from onnx import ModelProto, helper

from edgecnn.errors import DataError
from edgecnn.progress import SILENT
from edgecnn.quantization.clip_ranges import clip_ranges
from edgecnn.quantization.equalization import equalize
from tests.graphs import Array, copy, evaluate, node, small_cnn
from tests.support import make_images
from tests.unbalanced import CHANNELS, sandwich

IMAGES = make_images(75, size=8)
X = IMAGES.pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)


def clipped() -> ModelProto:
    """Return a network whose ReLU6 clips its largest channels only, and that ends flat."""
    return sandwich(
        [node("Clip", ["a", "zero", "six"], ["c"], name="middle"), node("Flatten", ["c"], ["b"])],
        {"zero": np.array(0.0), "six": np.array(6.0)},
        read=256,
        last="Gemm",
    )


def seen(model: ModelProto) -> Array:
    watched = copy(model)
    watched.graph.output[0].CopyFrom(helper.make_tensor_value_info("a", 1, ["N", CHANNELS, 8, 8]))
    return evaluate(watched, {"x": X})[0]


def test_ranges_are_those_of_all_images_at_once() -> None:
    (name, found), *others = clip_ranges(clipped(), IMAGES, threads=1, progress=SILENT).items()
    values = seen(clipped())
    assert (name, others) == ("a", [])
    np.testing.assert_allclose(found.low, values.min((0, 2, 3)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.high, values.max((0, 2, 3)), rtol=1e-4, atol=1e-5)


def test_with_ranges_the_channels_that_are_not_clipped_are_scaled_and_no_image_tells() -> None:
    model = clipped()
    ranges = clip_ranges(model, IMAGES, threads=1, progress=SILENT)
    room = int((ranges["a"].high < 6).sum())
    assert 0 < room < CHANNELS
    result = equalize(model, ranges=ranges)
    assert result.groups[0].n_channels == room
    np.testing.assert_array_equal(evaluate(result.model, {"x": X})[0], evaluate(model, {"x": X})[0])


def test_a_network_that_does_not_clip_is_not_run() -> None:
    assert clip_ranges(small_cnn(), make_images(3, size=99), threads=1, progress=SILENT) == {}


def test_progress_counts_images() -> None:
    seen: list[tuple[str, int, int]] = []

    class Listener:
        def say(self, text: str) -> None: ...

        def update(self, task: str, done: int, total: int, detail: str = "") -> None:
            seen.append((task, done, total))

    clip_ranges(clipped(), IMAGES, threads=1, progress=Listener())
    assert seen == [("watch clips", 32, 75), ("watch clips", 64, 75), ("watch clips", 75, 75)]


def test_test_images_are_refused() -> None:
    with pytest.raises(DataError, match="watch clips: takes training images only"):
        clip_ranges(clipped(), make_images(3, size=8, split="test"), threads=1, progress=SILENT)
