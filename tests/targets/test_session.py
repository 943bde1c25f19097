"""Laying pixels out as a graph wants them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.bundle.manifest import TensorSpec
from edgecnn.errors import ExitCode, ModelError
from edgecnn.targets.session import feed


def spec(dtype: str, *shape: int | str) -> TensorSpec:
    return TensorSpec(name="input", dtype=dtype, shape=shape)


@given(n=st.integers(1, 5), height=st.integers(4, 9), width=st.integers(4, 9), seed=st.integers(0, 99))
@pytest.mark.parametrize("batch", ["N", 7])
def test_every_pixel_is_where_the_layout_says(batch: int | str, n: int, height: int, width: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), np.uint8)
    first, last = spec("uint8", batch, 3, height, width), spec("uint8", batch, height, width, 3)
    unit_first, unit_last = (spec("float32", *item.shape) for item in (first, last))
    assert feed(pixels, first)[n - 1, 2, height - 1, 0] == pixels[n - 1, height - 1, 0, 2]
    moved = np.moveaxis(pixels, 3, 1)
    np.testing.assert_array_equal(feed(pixels, first), moved)
    np.testing.assert_array_equal(feed(pixels, last), pixels)
    np.testing.assert_allclose(feed(pixels, unit_first), moved / 255, rtol=1e-6)
    np.testing.assert_allclose(feed(pixels, unit_last), pixels / 255, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("shape", [("N", 3, 4, 5), ("N", 4, 5, 3)])
def test_what_is_fed_is_of_the_inputs_type_and_contiguous(dtype: str, shape: tuple[int | str, ...]) -> None:
    fed = feed(np.zeros((2, 4, 5, 3), np.uint8), spec(dtype, *shape))
    assert (fed.dtype, fed.shape) == (np.dtype(dtype), (2, *shape[1:]))
    assert fed.flags.c_contiguous


def test_bytes_become_fractions_from_zero_to_one_correctly_rounded() -> None:
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    fed = feed(pixels, spec("float32", 1, 3, 16, 16))
    assert (fed.min(), fed.max()) == (0, 1)
    np.testing.assert_array_equal(fed[0, 0].ravel(), (np.arange(256) / 255).astype(np.float32))


def test_the_images_are_not_changed() -> None:
    pixels = np.full((1, 4, 4, 3), 200, np.uint8)
    for dtype in ("float32", "uint8"):
        feed(pixels, spec(dtype, "N", 3, 4, 4))
    assert (pixels == 200).all()


@pytest.mark.parametrize(
    "shape",
    [
        ("N", 3, 4, 6),
        ("N", 3, 5, 4),
        ("N", 5, 4, 3),
        ("N", 1, 4, 5),
        ("N", 4, 5, 4),
        ("N", 3, "H", "W"),
        ("N", 60),
        ("N", 3, 4, 5, 1),
        (),
    ],
)
def test_another_size_or_layout_is_refused_with_both_sizes(shape: tuple[int | str, ...]) -> None:
    with pytest.raises(ModelError) as caught:
        feed(np.zeros((2, 4, 5, 3), np.uint8), spec("float32", *shape))
    assert caught.value.exit_code == ExitCode.BAD_INPUT
    assert f"input 'input' is {list(shape)}" in caught.value.message
    assert "the images are 4x5 with 3 channels" in caught.value.message
    assert "--data" in caught.value.next_step


@pytest.mark.parametrize("dtype", ["int8", "tensor(double)", "tensor(float16)"])
def test_another_type_is_refused_by_name(dtype: str) -> None:
    with pytest.raises(ModelError) as caught:
        feed(np.zeros((2, 4, 5, 3), np.uint8), spec(dtype, "N", 3, 4, 5))
    assert f"input 'input' is {dtype}; expected float32 or uint8" in caught.value.message
    assert "--input-type" in caught.value.next_step
