"""Blocked convolutions compute what the plain ones compute, for any sizes, written out pixel by pixel."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn.rewriting.blocks import (
    Blocking,
    Convolution,
    blocked_weight,
    blocking,
    for_each_output,
    padded_blocking,
    phase_weight,
)
from tests.naive_convolution import Array, convolutions, convolve, pool

Form = Callable[[Convolution, int, int], Blocking | None]
FORMS = pytest.mark.parametrize("form", [blocking, padded_blocking])
LENET = Convolution(input=(32, 32), output=(28, 28), kernel=(5, 5), strides=(1, 1), pads=(0, 0, 0, 0))


def in_blocks(image: Array, block: Blocking) -> Array:
    """View an image ``[C, H, W]`` in blocks, padded by its margins."""
    channels, height, _ = image.shape
    padded = np.pad(image, ((0, 0), (0, 0), block.margins))
    return padded.transpose(1, 2, 0).reshape(height, -1, block.width * channels).transpose(2, 0, 1)


def out_of_blocks(made: Array, block: Blocking, outputs: int, pool_columns: int) -> Array:
    """Return ``[O, height, width]`` from what a blocked convolution gives."""
    _, steps_down, steps_across = made.shape
    places = (block.rows, pool_columns, block.columns // pool_columns, outputs, steps_down, steps_across)
    ordered = made.reshape(places).transpose(3, 4, 0, 5, 2, 1)  # channel, step, row, step, pool, column within it
    return ordered.reshape(outputs, steps_down * block.rows, -1)


def blocked(image: Array, weight: Array, conv: Convolution, block: Blocking, pool_columns: int = 1) -> Array:
    kernel = blocked_weight(weight, conv, block, pool_columns=pool_columns)
    made = convolve(in_blocks(image, block), kernel, block.strides, block.pads)
    assert made.shape[1] * made.shape[2] == block.steps(conv)
    return out_of_blocks(made, block, len(weight), pool_columns)


def draw_numbers(data: st.DataObject, conv: Convolution) -> tuple[Array, Array]:
    """Draw an image and a kernel of whole numbers, none of them 0, so that none can be forgotten."""
    channels, outputs = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 24))
    random = np.random.default_rng(data.draw(st.integers(0, 9)))
    weight = random.integers(1, 128, (outputs, channels, *conv.kernel)).astype(np.int8)
    return random.integers(1, 256, (channels, *conv.input)), weight


@FORMS
@settings(max_examples=200)
@given(data=st.data())
def test_a_blocked_convolution_computes_the_same(form: Form, data: st.DataObject) -> None:
    rows, columns = data.draw(st.integers(1, 3)), data.draw(st.sampled_from([1, 2, 3, 4, 8]))
    conv = data.draw(convolutions(down=rows, across=columns, whole=form is blocking))
    block = form(conv, rows, columns)
    if block is None:
        assert form is padded_blocking  # which does not cut off what no output reads
        return
    image, weight = draw_numbers(data, conv)
    pool_columns = data.draw(st.sampled_from([one for one in range(1, columns + 1) if columns % one == 0]))
    plain = convolve(image, weight, conv.strides, conv.pads)
    np.testing.assert_array_equal(blocked(image, weight, conv, block, pool_columns), plain)


@given(convolutions(), st.integers(1, 3), st.sampled_from([1, 2, 3, 4, 8]))
def test_sizes_that_divide_are_blocked_and_no_others(conv: Convolution, rows: int, columns: int) -> None:
    width = columns * conv.strides[1]
    divides_out = conv.output[0] % rows == 0 and conv.output[1] % columns == 0
    assert (blocking(conv, rows, columns) is not None) == (divides_out and conv.input[1] % width == 0)
    padded = padded_blocking(conv, rows, columns)
    assert padded is None or divides_out
    if padded is not None:
        assert (conv.input[1] + sum(padded.margins)) % width == 0
        assert padded.pads[1] == padded.pads[3] == 0


def test_padding_written_out_makes_a_kernel_narrower_by_the_block_that_pads_on_the_left() -> None:
    conv = Convolution(input=(32, 32), output=(32, 32), kernel=(3, 3), strides=(1, 1), pads=(1, 1, 1, 1))
    within, before = blocking(conv, 1, 4), padded_blocking(conv, 1, 4)
    assert within is not None
    assert before is not None
    assert (within.kernel, within.margins) == ((3, 3), (0, 0))
    assert (before.kernel, before.margins) == ((3, 2), (1, 3))


def test_the_first_layer_of_lenet_takes_the_blocks_that_its_arithmetic_gives() -> None:
    block = blocking(LENET, 2, 4)
    assert block is not None
    assert (block.kernel, block.strides, block.width, block.steps(LENET)) == ((6, 2), (2, 1), 4, 98)
    weight = np.arange(1, 6 * 3 * 25 + 1).reshape(6, 3, 5, 5)
    kernel = blocked_weight(weight, LENET, block)
    assert kernel.shape == (48, 12, 6, 2)
    assert np.count_nonzero(kernel) == 8 * weight.size
    np.testing.assert_array_equal(kernel[:6, :3, 0, 0], weight[:, :, 0, 0])  # the first column of the first output
    np.testing.assert_array_equal(kernel[42:, 9:, 5, 1], weight[:, :, 4, 4])  # the last tap of the last


@given(data=st.data())
def test_a_pool_over_one_stretch_of_channels_after_the_other_is_the_pool_behind_it(data: st.DataObject) -> None:
    window = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 2)))
    columns = data.draw(st.sampled_from([2, 4, 8]))
    conv = data.draw(convolutions(down=window[0], across=columns))
    block = padded_blocking(conv, window[0], columns)
    if block is None:
        return
    image, weight = draw_numbers(data, conv)
    kernel = blocked_weight(weight, conv, block, pool_columns=window[1])
    made = convolve(in_blocks(image, block), kernel, block.strides, block.pads)
    taken, apart = window[0] * window[1], columns // window[1]
    # In channels-last memory a step's channels are (place in the pool, pool, channel): the pool is over the first.
    last = made.transpose(1, 2, 0).reshape(-1, taken, apart * len(weight)).max(1)
    height, width = conv.output[0] // window[0], conv.output[1] // window[1]
    pooled = last.reshape(height, width, len(weight)).transpose(2, 0, 1)
    np.testing.assert_array_equal(pooled, pool(convolve(image, weight, conv.strides, conv.pads), window))


def test_what_is_one_an_output_is_repeated_in_the_order_of_the_outputs() -> None:
    block = blocking(LENET, 2, 2)
    assert block is not None
    np.testing.assert_array_equal(for_each_output(np.array([5, 6, 7]), block), [5, 6, 7] * 4)


@given(data=st.data())
def test_the_phases_of_a_kernel_compute_the_places_of_a_pool(data: st.DataObject) -> None:
    window = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    conv = data.draw(convolutions(down=window[0], across=window[1]))
    image, weight = draw_numbers(data, conv)
    phases = phase_weight(weight, conv, window)
    strides = (conv.strides[0] * window[0], conv.strides[1] * window[1])
    plain = convolve(image, weight, conv.strides, conv.pads)
    room = (conv.pads[0], conv.pads[1], 64, 64)  # more than is needed; what is too much is cut off
    height, width = conv.output[0] // window[0], conv.output[1] // window[1]
    made = convolve(image, phases, strides, room)[:, :height, :width]
    places = made.reshape(*window, len(weight), height, width)
    for row in range(window[0]):
        for column in range(window[1]):
            np.testing.assert_array_equal(places[row, column], plain[:, row :: window[0], column :: window[1]])


@FORMS
def test_a_kernel_shifted_by_one_column_is_seen(form: Form) -> None:
    conv = Convolution(input=(9, 12), output=(8, 12), kernel=(3, 4), strides=(1, 1), pads=(1, 2, 0, 1))
    block = form(conv, 2, 4)
    assert block is not None
    random = np.random.default_rng(0)
    image, weight = random.integers(1, 256, (3, 9, 12)), random.integers(1, 128, (5, 3, 3, 4))
    plain = convolve(image, weight, conv.strides, conv.pads)
    np.testing.assert_array_equal(blocked(image, weight, conv, block), plain)
    right = blocked(image, np.roll(weight, 1, axis=3), conv, block)
    assert (right != plain).mean() > 0.9
