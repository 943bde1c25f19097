import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from edgecnn.data.resize import describe, to_rgb

Picture = NDArray[np.uint8]
side = st.integers(1, 48)


def triangle_weights(n_in: int, n_out: int, low: float, high: float) -> NDArray[np.float64]:
    """Weights ``[n_out, n_in]`` of a bilinear filter widened by the scale: antialiasing."""
    scale = (high - low) / n_out
    centers = low + (np.arange(n_out) + 0.5) * scale
    distance = np.abs(np.arange(n_in) + 0.5 - centers[:, None]) / max(scale, 1.0)
    weights = np.maximum(0, 1 - distance)
    total: NDArray[np.float64] = weights.sum(axis=1, keepdims=True)
    return np.divide(weights, total)


def reference(picture: Picture, height: int, width: int) -> NDArray[np.float64]:
    """The rule in floating point, written from its description."""
    rows, columns = picture.shape[:2]
    if columns * height > rows * width:  # too wide
        crop_rows, crop_columns = float(rows), rows * width / height
    else:
        crop_rows, crop_columns = columns * height / width, float(columns)
    top, left = (rows - crop_rows) / 2, (columns - crop_columns) / 2
    vertical = triangle_weights(rows, height, top, top + crop_rows)
    horizontal = triangle_weights(columns, width, left, left + crop_columns)
    resized: NDArray[np.float64] = np.einsum("yr,rcd,xc->yxd", vertical, picture.astype(float), horizontal)
    return resized


def random_picture(height: int, width: int, seed: int = 0) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def reopened(image: Image.Image, **options: object) -> Image.Image:
    """The image as Pillow opens it from a PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return Image.open(file)


@settings(max_examples=200)
@given(rows=side, columns=side, height=side, width=side, seed=st.integers(0, 9))
def test_the_rule_is_a_central_crop_and_an_antialiased_bilinear_filter(
    rows: int, columns: int, height: int, width: int, seed: int
) -> None:
    picture = random_picture(rows, columns, seed)
    found = to_rgb(Image.fromarray(picture), height, width)
    assert found.shape == (height, width, 3)
    assert found.dtype == np.uint8
    # Pillow rounds after each of the two passes
    assert np.abs(found - reference(picture, height, width)).max() <= 1.01


@settings(max_examples=500)
@given(rows=st.integers(1, 400), columns=st.integers(1, 400), height=st.integers(1, 300), width=st.integers(1, 300))
def test_no_size_is_refused_because_of_rounding(rows: int, columns: int, height: int, width: int) -> None:
    assert to_rgb(Image.new("RGB", (columns, rows)), height, width).shape == (height, width, 3)


def test_a_crop_that_rounds_beyond_the_picture_is_the_whole_picture() -> None:
    assert 28 * (29 / 28) > 29
    assert to_rgb(Image.new("RGB", (29, 29)), 28, 28).shape == (28, 28, 3)


def test_a_picture_of_that_size_is_unchanged() -> None:
    picture = random_picture(32, 32)
    np.testing.assert_array_equal(to_rgb(Image.fromarray(picture), 32, 32), picture)


def test_the_borders_that_do_not_fit_are_cut_off_equally() -> None:
    picture = np.zeros((10, 30, 3), np.uint8)
    picture[:, 10:20] = 200
    np.testing.assert_array_equal(to_rgb(Image.fromarray(picture), 10, 10), np.full((10, 10, 3), 200))


def test_a_checkerboard_becomes_grey_and_not_stripes() -> None:
    board = np.zeros((64, 64, 3), np.uint8)
    board[np.indices((64, 64)).sum(0) % 2 == 0] = 255
    assert np.abs(to_rgb(Image.fromarray(board), 16, 16).astype(int) - 127).max() <= 2


def test_greyscale_is_repeated_in_each_channel() -> None:
    grey = random_picture(8, 8)[:, :, 0]
    np.testing.assert_array_equal(to_rgb(Image.fromarray(grey), 8, 8), np.stack([grey] * 3, axis=2))


def test_sixteen_bit_greyscale_keeps_its_high_byte() -> None:
    levels = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    opened = reopened(Image.fromarray(levels))
    assert opened.mode.startswith("I")
    np.testing.assert_array_equal(to_rgb(opened, 64, 64), np.stack([levels // 256] * 3, axis=2))


def test_transparency_is_left_out() -> None:
    picture, alpha = random_picture(8, 8), np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    opened = reopened(Image.fromarray(np.concatenate([picture, alpha], axis=2)))
    assert opened.mode == "RGBA"
    np.testing.assert_array_equal(to_rgb(opened, 8, 8), picture)


@pytest.mark.parametrize("options", [{}, {"transparency": 1}, {"transparency": bytes([0, 128, 255])}])
def test_a_palette_is_looked_up(options: dict[str, object]) -> None:
    colors = random_picture(1, 3)[0]
    indices = np.arange(64, dtype=np.uint8).reshape(8, 8) % 3
    image = Image.fromarray(indices).convert("P")
    image.putpalette(colors.tobytes())
    opened = reopened(image, **options)
    assert opened.mode == "P"
    np.testing.assert_array_equal(to_rgb(opened, 8, 8), colors[indices])


def test_black_and_white_is_0_and_255() -> None:
    bits = np.indices((8, 8)).sum(0) % 2 == 0
    opened = reopened(Image.fromarray(bits))
    assert opened.mode == "1"
    np.testing.assert_array_equal(to_rgb(opened, 8, 8)[:, :, 1], np.where(bits, 255, 0))


def test_the_description_names_size_and_filter_and_tells_sizes_apart() -> None:
    assert "48x32" in describe(32, 48)
    assert "bilinear" in describe(32, 48)
    assert describe(32, 48) != describe(48, 32)
