"""Blocks are chosen that fit the kernels, and only where they are estimated to pay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.rewriting.block_choice import COLUMNS, choose_blocking, fits_kernels
from edgecnn.rewriting.blocks import Convolution
from tests.naive_convolution import convolutions

PHOTO = Convolution(input=(32, 32), output=(32, 32), kernel=(3, 3), strides=(1, 1), pads=(1, 1, 1, 1))
DEEP = Convolution(input=(8, 8), output=(8, 8), kernel=(3, 3), strides=(1, 1), pads=(1, 1, 1, 1))


@pytest.mark.parametrize(
    ("channels", "outputs", "fits"), [(4, 16, True), (3, 16, False), (4, 12, False), (4, 8, False), (8, 24, True)]
)
def test_kernels_want_channels_in_fours_and_outputs_in_eights(channels: int, outputs: int, fits: bool) -> None:
    assert fits_kernels(channels, outputs) is fits


@given(
    convolutions(down=2, across=4, whole=True),
    st.integers(1, 8),
    st.integers(1, 24),
    st.sampled_from([(1, 1), (2, 2), (2, 1), (1, 2), (2, 3)]),
    st.booleans(),
)
def test_what_is_chosen_fits_the_kernels(
    conv: Convolution, channels: int, outputs: int, pool: tuple[int, int], pad: bool
) -> None:
    block = choose_blocking(conv, channels, outputs, pool, pad=pad)
    if block is None:
        return
    assert block.columns in COLUMNS
    assert fits_kernels(block.width * channels, block.rows * block.columns * outputs)
    assert block.rows == (pool[0] if block.columns % pool[1] == 0 else 1)
    assert pad or block.margins == (0, 0)


def test_a_photo_is_blocked_and_a_deep_layer_is_not() -> None:
    block = choose_blocking(PHOTO, 3, 16, (1, 1), pad=False)
    assert block is not None
    assert block.width == 4
    assert choose_blocking(DEEP, 64, 64, (1, 1), pad=False) is None


def test_a_layer_that_fits_already_is_blocked_only_if_that_saves_enough() -> None:
    few, many = (choose_blocking(PHOTO, channels, 16, (1, 1), pad=False) for channels in (4, 64))
    assert few is not None
    assert many is None


def test_padding_first_is_chosen_where_it_saves_more_than_it_costs() -> None:
    large = Convolution(input=(96, 96), output=(96, 96), kernel=(3, 3), strides=(1, 1), pads=(1, 1, 1, 1))
    block = choose_blocking(large, 3, 16, (1, 1), pad=True)
    assert block is not None
    assert block.margins != (0, 0)
    small = Convolution(input=(4, 4), output=(4, 4), kernel=(3, 3), strides=(1, 1), pads=(1, 1, 1, 1))
    block = choose_blocking(small, 3, 16, (1, 1), pad=True)
    assert block is not None
    assert block.margins == (0, 0)


def test_nothing_is_chosen_where_nothing_divides() -> None:
    odd = Convolution(input=(7, 7), output=(5, 5), kernel=(3, 3), strides=(1, 1), pads=(0, 0, 0, 0))
    assert choose_blocking(odd, 3, 8, (1, 1), pad=True) is None
