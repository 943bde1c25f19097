"""The page's preprocessing in JavaScript, against Pillow's, to the bit."""

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from edgecnn.bundle.manifest import TensorSpec
from edgecnn.data.resize import to_rgb
from edgecnn.targets.session import feed
from tests.web import WEB, answers_of, needs_node

MODULE = WEB / "demo" / "preprocess.mjs"
sizes = st.integers(1, 40)


def picture(width: int, height: int, seed: int) -> NDArray[np.uint8]:
    """Return uint8 ``[height, width, 3]``: noise, and half of it flat at the ends of the range."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
    return np.where(rng.random((height, width, 1)) < 0.5, pixels, 255 * (pixels > 127)).astype(np.uint8)


def javascript(cases: list[tuple[NDArray[np.uint8], int, int]], *, bytes_a_pixel: int = 3) -> list[NDArray[np.uint8]]:
    """Return what the page makes of pictures: uint8 ``[H, W, 3]`` each."""
    calls: list[list[object]] = []
    for pixels, width, height in cases:
        opaque = np.full((*pixels.shape[:2], bytes_a_pixel), 255, np.uint8)
        opaque[:, :, :3] = pixels
        calls.append(
            [{"data": opaque.ravel().tolist(), "width": pixels.shape[1], "height": pixels.shape[0]}, width, height]
        )
    found = answers_of(MODULE, "toRgb", calls)
    return [
        np.array([rgb[str(i)] for i in range(len(rgb))], np.uint8).reshape(height, width, 3)  # type: ignore[index, arg-type]
        for rgb, (_, width, height) in zip(found, cases, strict=True)
    ]


@needs_node
@settings(max_examples=5, phases=[Phase.generate])  # each starts Node, and shrinking would start it a hundred times
@given(st.lists(st.tuples(sizes, sizes, sizes, sizes, st.integers(0, 9)), min_size=10, max_size=20))
def test_a_picture_of_any_size_becomes_the_pixels_that_pillow_makes(
    drawn: list[tuple[int, int, int, int, int]],
) -> None:
    cases = [(picture(w, h, seed), width, height) for w, h, width, height, seed in drawn]
    for (pixels, width, height), found in zip(cases, javascript(cases), strict=True):
        np.testing.assert_array_equal(found, to_rgb(Image.fromarray(pixels), height, width))


@needs_node
@pytest.mark.parametrize(
    ("w", "h"), [(320, 240), (97, 211), (97, 162), (97, 163), (20, 33), (32, 32), (31, 32), (32, 200), (1, 1)]
)
def test_cameras_and_odd_pictures_are_exact_too(w: int, h: int) -> None:
    pixels = picture(w, h, 3)
    (found,) = javascript([(pixels, 32, 32)], bytes_a_pixel=4)
    np.testing.assert_array_equal(found, to_rgb(Image.fromarray(pixels), 32, 32))


@needs_node
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("shape", [(1, 3, 4, 5), ("batch", 4, 5, 3)])
def test_the_input_is_laid_out_as_edgecnn_lays_it_out(dtype: str, shape: tuple[int | str, ...]) -> None:
    pixels = picture(5, 4, 0)
    expected = feed(pixels[None], TensorSpec(name="x", dtype=dtype, shape=shape))
    code_arguments: list[list[object]] = [[pixels.ravel().tolist(), {"shape": list(shape), "dtype": dtype}]]
    ((found),) = answers_of(MODULE, "feed", code_arguments)
    assert isinstance(found, dict)
    assert found["dims"] == [1, *expected.shape[1:]]
    data = np.array([found["data"][str(i)] for i in range(expected.size)], expected.dtype)
    np.testing.assert_array_equal(data.reshape(expected.shape), expected)
