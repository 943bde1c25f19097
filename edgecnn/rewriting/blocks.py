"""The arithmetic of a blocked convolution: which blocks fit, and a kernel's copies in them.

An image of ``C`` channels is viewed as one of ``width`` times fewer columns and as many times more channels, which in
channels-last order is the same memory. One step of the blocked convolution then gives ``columns`` neighbouring outputs
(and ``rows`` rows of them) as channels of its own, by copies of the kernel shifted within a larger one of zeros. The
sums are the same sums, with zeros in between.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """A two-dimensional convolution without groups or dilation.

    Attributes:
        input: height and width of what it reads.
        output: height and width of what it gives.
        kernel: height and width.
        strides: down and across.
        pads: top, left, bottom, right.
    """

    input: tuple[int, int]
    output: tuple[int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class Blocking:
    """A blocked convolution: ``rows`` x ``columns`` outputs a step.

    Attributes:
        rows: output rows that become channels.
        columns: output columns that become channels.
        width: input columns that become channels.
        kernel: height in rows, width in blocks.
        strides: down in rows; across it is one block.
        pads: top, left, bottom, right: rows and blocks.
        offset: input columns between the kernel's edge and its first tap.
        margins: columns left and right that the image is padded by before it is viewed in blocks.
    """

    rows: int
    columns: int
    width: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    offset: int
    margins: tuple[int, int]

    def steps(self, conv: Convolution) -> int:
        """Return how often the kernel is applied to an image."""
        return conv.output[0] // self.rows * (conv.output[1] // self.columns)


def blocking(conv: Convolution, rows: int, columns: int) -> Blocking | None:
    """Return the blocked form of a convolution, or None if its sizes do not divide.

    What is padded on the left is padded in whole blocks, which makes the kernel wider; :func:`padded_blocking` pads the
    image instead.
    """
    width = columns * conv.strides[1]
    if conv.input[1] % width or conv.output[1] % columns or conv.output[0] % rows:
        return None
    left = conv.pads[1]
    left_blocks = -(-left // width)
    offset = left_blocks * width - left
    in_blocks, out_blocks = conv.input[1] // width, conv.output[1] // columns
    least = in_blocks + left_blocks - out_blocks + 1  # so that no column of the image is left over
    blocks = max(_blocks_across(conv, columns, width, offset), least)
    right_blocks = out_blocks + blocks - 1 - in_blocks - left_blocks
    return _blocking(conv, rows, columns, blocks, (left_blocks, right_blocks), offset, (0, 0))


def padded_blocking(conv: Convolution, rows: int, columns: int) -> Blocking | None:
    """Return the blocked form of a convolution over an image with its padding written out, or None if none fits."""
    width, left = columns * conv.strides[1], conv.pads[1]
    if conv.output[1] % columns or conv.output[0] % rows:
        return None
    blocks = _blocks_across(conv, columns, width, 0)
    right = (conv.output[1] // columns + blocks - 1) * width - conv.input[1] - left
    return _blocking(conv, rows, columns, blocks, (0, 0), 0, (left, right)) if right >= 0 else None


def _blocks_across(conv: Convolution, columns: int, width: int, offset: int) -> int:
    return -(-(offset + (columns - 1) * conv.strides[1] + conv.kernel[1]) // width)


def _blocking(
    conv: Convolution,
    rows: int,
    columns: int,
    blocks: int,
    side_pads: tuple[int, int],
    offset: int,
    margins: tuple[int, int],
) -> Blocking:
    down, top = conv.strides[0], conv.pads[0]
    height = conv.kernel[0] + (rows - 1) * down
    bottom = (conv.output[0] // rows - 1) * rows * down + height - conv.input[0] - top
    return Blocking(
        rows=rows,
        columns=columns,
        width=columns * conv.strides[1],
        kernel=(height, blocks),
        strides=(rows * down, 1),
        pads=(top, side_pads[0], max(0, bottom), side_pads[1]),
        offset=offset,
        margins=margins,
    )


def blocked_weight(weight: NDArray[Any], conv: Convolution, block: Blocking, *, pool_columns: int = 1) -> NDArray[Any]:
    """Return the blocked kernel.

    Args:
        weight: ``[O, C, height, width]``.
        conv: the convolution it belongs to.
        block: its blocked form.
        pool_columns: neighbouring columns that a pool behind it takes together; they come before the columns that
            stay apart, so that the pool reads one stretch of channels after the other.

    Returns:
        ``[rows * columns * O, width * C, kernel height, kernel blocks]``, outputs in the order (row, column within
        its pool, pool, channel), inputs in the order (column, channel).
    """
    outputs, channels, height, width = weight.shape
    kernel_height, blocks = block.kernel
    shape = (
        block.rows,
        pool_columns,
        block.columns // pool_columns,
        outputs,
        kernel_height,
        blocks * block.width,
        channels,
    )
    copies = np.zeros(shape, weight.dtype)
    taps = weight.transpose(0, 2, 3, 1)
    for row in range(block.rows):
        first_row = row * conv.strides[0]
        for column in range(block.columns):
            first_column = block.offset + column * conv.strides[1]
            place = (row, column % pool_columns, column // pool_columns)
            copies[place][:, first_row : first_row + height, first_column : first_column + width] = taps
    copies = copies.reshape(-1, kernel_height, blocks, block.width * channels)
    return np.ascontiguousarray(copies.transpose(0, 3, 1, 2))


def for_each_output(values: NDArray[Any], block: Blocking) -> NDArray[Any]:
    """Return a value for each blocked output from one ``[O]`` for each channel: a scale, a zero point or a bias."""
    return np.tile(values, block.rows * block.columns)


def phase_weight(weight: NDArray[Any], conv: Convolution, window: tuple[int, int]) -> NDArray[Any]:
    """Return a kernel for each place of a pool's window, shifted to it.

    Args:
        weight: ``[O, C, height, width]``.
        conv: the convolution it belongs to.
        window: height and width of the pool's window.

    Returns:
        ``[places * O, C, height', width']``, the places row by row.
    """
    outputs, channels, height, width = weight.shape
    (rows, columns), (down, across) = window, conv.strides
    shape = (rows, columns, outputs, channels, height + (rows - 1) * down, width + (columns - 1) * across)
    copies = np.zeros(shape, weight.dtype)
    for row in range(rows):
        for column in range(columns):
            top, left = row * down, column * across
            copies[row, column, :, :, top : top + height, left : left + width] = weight
    return copies.reshape(rows * columns * outputs, channels, *shape[4:])
