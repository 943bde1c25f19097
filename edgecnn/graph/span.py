"""From where to where each value of a tensor looks, along one axis of the image.

``low[...]`` and ``high[...]`` are the first and last position seen; both have as many axes as the tensor, with length
one along those where all values see the same. A value that sees nothing, such as padding, has low > high.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from edgecnn.graph.window import Window

Positions = NDArray[np.int32]
#: Larger arrays are not made, whatever a file asks for.
MAX_VALUES = 2**24
_NOTHING = (np.iinfo(np.int32).max, -1)


class TooLargeError(Exception):
    """An array would have more than :data:`MAX_VALUES` values."""


@dataclass(frozen=True)
class Span:
    """First and last position of the image's axis that each value sees."""

    low: Positions
    high: Positions

    @property
    def size(self) -> int:
        """How many positions the value that sees most sees, the ends and all between."""
        seen = self.high.astype(np.int64) - self.low + 1
        return max(0, int(seen.max()))

    def reshaped(self, shape: Sequence[int]) -> "Span":
        """Give the arrays themselves another shape."""
        return Span(self.low.reshape(shape), self.high.reshape(shape))


def of_image(rank: int, axis: int, size: int) -> Span:
    """Return the span of the image itself: each position sees itself."""
    _check((size,))
    positions = np.arange(size, dtype=np.int32).reshape([size if index == axis else 1 for index in range(rank)])
    return Span(positions, positions)


def nothing(rank: int) -> Span:
    """Return the span of a constant: it sees nothing of the image."""
    low, high = (np.full((1,) * rank, value, np.int32) for value in _NOTHING)
    return Span(low, high)


def merged(spans: Sequence[Span]) -> Span:
    """Return what values see that are made of several, broadcast as NumPy does."""
    low, high = spans[0].low, spans[0].high
    for span in spans[1:]:
        low, high = np.minimum(low, span.low), np.maximum(high, span.high)
    return Span(low, high)


def reduced(span: Span, axes: Sequence[int]) -> Span:
    """Return what values see that are made of all along some axes; their length becomes one."""
    return Span(span.low.min(tuple(axes), keepdims=True), span.high.max(tuple(axes), keepdims=True))


def concatenated(spans: Sequence[Span], lengths: Sequence[int], axis: int) -> Span:
    """Join tensors of the given lengths along an axis."""
    common = np.broadcast_shapes(*(_with_length(span.low.shape, axis, 1) for span in spans))
    _check((*common, sum(lengths)))

    def joined(arrays: list[Positions]) -> Positions:
        whole = [
            np.broadcast_to(array, _with_length(common, axis, length))
            for array, length in zip(arrays, lengths, strict=True)
        ]
        return np.concatenate(whole, axis)

    return _squeezed(Span(joined([span.low for span in spans]), joined([span.high for span in spans])))


def taken(span: Span, axis: int, length: int, index: "slice | NDArray[np.integer]") -> Span:
    """Return some of the values along an axis that is ``length`` long."""
    if span.low.shape[axis] == 1 and length > 1:
        return span
    where = (slice(None),) * axis + (index,)
    return Span(span.low[where], span.high[where])


def padded(span: Span, axis: int, length: int, before: int, after: int, mode: str = "constant") -> Span:
    """Add values along an axis: ones that see nothing, or as ``numpy.pad`` does in its other modes."""
    whole = _with_length(span.low.shape, axis, length)
    _check(_with_length(whole, axis, before + length + after))
    widths = [(before, after) if index == axis else (0, 0) for index in range(len(whole))]

    def pad(array: Positions, nothing: int) -> Positions:
        wide = np.broadcast_to(array, whole)
        if mode == "constant":
            return np.pad(wide, widths, constant_values=nothing)
        return np.pad(wide, widths, mode=mode)  # type: ignore[call-overload,no-any-return]

    return Span(pad(span.low, _NOTHING[0]), pad(span.high, _NOTHING[1]))


def slid(span: Span, axis: int, image_axis: int, window: Window, length: int, output: int) -> Span:
    """Return what a window sees that slides along an axis.

    Args:
        span: of the input.
        axis: the tensor's axis.
        image_axis: which of the window's axes that is.
        window: what slides.
        length: of the input along the axis.
        output: length of the output.
    """
    kernel, dilation, stride = window.kernel[image_axis], window.dilation[image_axis], window.stride[image_axis]
    before = window.pads_before[image_axis]
    _check((kernel, *_with_length(span.low.shape, axis, max(length, output))))
    if window.transposed:
        return _slid_back(span, axis, kernel, dilation, stride, before, length, output)
    touches_image = dilation == 1 and before < kernel and window.pads_after[image_axis] < kernel
    if span.low.shape[axis] == 1 and length > 1 and touches_image:
        return span  # as all others along this axis
    last = (output - 1) * stride + dilation * (kernel - 1) + 1
    wide = padded(span, axis, length, before, max(0, last - before - length))
    taps = [
        taken(
            wide, axis, wide.low.shape[axis], slice(tap * dilation, tap * dilation + (output - 1) * stride + 1, stride)
        )
        for tap in range(kernel)
    ]
    return _squeezed(merged(taps))


def _slid_back(
    span: Span, axis: int, kernel: int, dilation: int, stride: int, before: int, length: int, output: int
) -> Span:
    """Return what a transposed convolution's outputs see: input i reaches i stride - pad + tap dilation."""
    shape = _with_length(span.low.shape, axis, output)
    low, high = np.full(shape, _NOTHING[0], np.int32), np.full(shape, _NOTHING[1], np.int32)
    source_low = np.broadcast_to(span.low, _with_length(span.low.shape, axis, length))
    source_high = np.broadcast_to(span.high, source_low.shape)
    inputs = np.arange(length)
    for tap in range(kernel):
        reached = inputs * stride - before + tap * dilation
        valid = (reached >= 0) & (reached < output)
        to, of = (slice(None),) * axis + (reached[valid],), (slice(None),) * axis + (inputs[valid],)
        low[to], high[to] = np.minimum(low[to], source_low[of]), np.maximum(high[to], source_high[of])
    return _squeezed(Span(low, high))


def mixed_channels(span: Span, channels: int, groups: int, output: int) -> Span:
    """Return what a convolution's outputs see across channels: each group mixes its own."""
    if span.low.shape[1] == 1 or groups == 1:
        return reduced(span, [1])
    rest = span.low.shape[2:]
    grouped = span.reshaped((span.low.shape[0], groups, channels // groups, *rest))
    one = reduced(grouped, [2]).reshaped((span.low.shape[0], groups, *rest))
    each = output // groups
    return _squeezed(Span(one.low.repeat(each, 1), one.high.repeat(each, 1)))


def rearranged(span: Span, shape: Sequence[int], new_shape: Sequence[int]) -> Span:
    """Return the span of a tensor that is read in the same order with another shape."""
    _check(shape)
    whole = Span(np.broadcast_to(span.low, shape), np.broadcast_to(span.high, shape))
    return _squeezed(whole.reshaped(new_shape))


def transposed(span: Span, order: Sequence[int]) -> Span:
    """Return the span with its axes in another order."""
    return Span(span.low.transpose(order), span.high.transpose(order))


def _check(shape: Sequence[int]) -> None:
    if prod(shape) > MAX_VALUES:
        raise TooLargeError


def _with_length(shape: Sequence[int], axis: int, length: int) -> tuple[int, ...]:
    return (*shape[:axis], length, *shape[axis + 1 :])


def _squeezed(span: Span) -> Span:
    """Keep one value along each axis along which all see the same."""
    for axis in range(span.low.ndim):
        first = (slice(None),) * axis + (slice(0, 1),)
        if (span.low == span.low[first]).all() and (span.high == span.high[first]).all():
            span = Span(span.low[first], span.high[first])
    return span
