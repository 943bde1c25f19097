"""Convolutions and pools written out pixel by pixel, to hold faster ones against."""

from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecnn.rewriting.blocks import Convolution

Array = NDArray[Any]


def convolve(image: Array, weight: Array, strides: tuple[int, int], pads: tuple[int, int, int, int]) -> Array:
    """Return ``[O, height, width]`` of an image ``[C, H, W]`` and a kernel ``[O, C, h, w]``; whole numbers stay exact.

    ``pads`` are top, left, bottom, right.
    """
    padded = np.pad(image.astype(np.float64), ((0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    outputs, _, tall, wide = weight.shape
    matrix = weight.reshape(outputs, -1).astype(np.float64)
    height, width = (padded.shape[1] - tall) // strides[0] + 1, (padded.shape[2] - wide) // strides[1] + 1
    made = np.empty((outputs, height, width))
    for row in range(height):
        for column in range(width):
            top, left = row * strides[0], column * strides[1]
            made[:, row, column] = matrix @ padded[:, top : top + tall, left : left + wide].ravel()
    return made


def pool(image: Array, window: tuple[int, int]) -> Array:
    """Return the largest of each window ``[h, w]`` of an image ``[C, H, W]``; windows lie side by side."""
    channels, height, width = image.shape
    made = np.empty((channels, height // window[0], width // window[1]), image.dtype)
    for row in range(made.shape[1]):
        for column in range(made.shape[2]):
            top, left = row * window[0], column * window[1]
            made[:, row, column] = image[:, top : top + window[0], left : left + window[1]].max((1, 2))
    return made


@st.composite
def convolutions(draw: st.DrawFn, *, down: int = 1, across: int = 1, whole: bool = False) -> Convolution:
    """Draw the sizes of a convolution whose outputs are a multiple of ``down`` rows and ``across`` columns.

    With ``whole``, the columns of the image are a multiple of the columns that so many outputs step over.
    """
    tall, top, bottom, high, rows = draw(_axes(down, whole=False))
    wide, left, right, broad, columns = draw(_axes(across, whole=whole))
    strides = (tall[1], wide[1])
    return Convolution(
        input=(high, broad),
        output=(rows, columns),
        kernel=(tall[0], wide[0]),
        strides=strides,
        pads=(top, left, bottom, right),
    )


@st.composite
def _axes(draw: st.DrawFn, multiple: int, *, whole: bool) -> tuple[tuple[int, int], int, int, int, int]:
    """Draw a kernel's size and stride, padding before and behind, and how much goes in and out."""
    kernel, stride, before = draw(st.integers(1, 7)), draw(st.integers(1, 3)), draw(st.integers(0, 4))
    found = [
        (behind, size, 1 + (size + before + behind - kernel) // stride)
        for size in range(1, 8 * stride * 3)
        for behind in range(5)
        if size + before + behind >= kernel and not (whole and size % (multiple * stride))
    ]
    fitting = [one for one in found if one[2] % multiple == 0 and one[2] <= 3 * multiple]
    assume(fitting)
    behind, size, made = draw(st.sampled_from(fitting))
    return (kernel, stride), before, behind, size, made
