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
    """

    rows: int
    columns: int
    width: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    offset: int


def blocking(conv: Convolution, rows: int, columns: int) -> Blocking | None:
    """Return the blocked form of a convolution, or None if its sizes do not divide."""
    (height, in_width), (out_height, out_width) = conv.input, conv.output
    down, across = conv.strides
    top, left, _, _ = conv.pads
    width = columns * across
    if in_width % width or out_width % columns or out_height % rows:
        return None
    left_blocks = -(-left // width)
    offset = left_blocks * width - left
    blocks = -(-(offset + (columns - 1) * across + conv.kernel[1]) // width)
    in_blocks, out_blocks = in_width // width, out_width // columns
    blocks = max(blocks, in_blocks + left_blocks - out_blocks + 1)  # no column of the image is left over
    kernel_height = conv.kernel[0] + (rows - 1) * down
    bottom = (out_height // rows - 1) * rows * down + kernel_height - height - top
    right_blocks = out_blocks + blocks - 1 - in_blocks - left_blocks
    return Blocking(
        rows=rows,
        columns=columns,
        width=width,
        kernel=(kernel_height, blocks),
        strides=(rows * down, 1),
        pads=(top, left_blocks, max(0, bottom), right_blocks),
        offset=offset,
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


def multiplications(conv: Convolution, block: Blocking, channels: int, outputs: int) -> int:
    """Return how many multiplications the blocked form takes, those with zero counted."""
    steps = conv.output[0] // block.rows * (conv.output[1] // block.columns)
    return steps * block.kernel[0] * block.kernel[1] * block.width * channels * block.rows * block.columns * outputs
