"""Which weights to round up and which down: descent over single flips.

With G = E[x x^T] over a layer's inputs x, the expected squared error of an output is d^T G d for the rounding error d
of its weights. Choosing up or down for each weight is a quadratic problem over 0 and 1 (Nagel et al. 2020, "Up or
Down? Adaptive Rounding for Post-Training Quantization", section 3.2, equation 13); each output channel has its own.
"""

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
MAX_SWEEPS = 50
#: A flip must lessen the error by more than this fraction of what the flipped weight alone contributes.
_MIN_GAIN = 1e-9


def squared_errors(difference: Float64, gram: Float64) -> Float64:
    """Return d^T G d: float64 [groups, outputs] from [groups, outputs, n] and [groups, n, n]."""
    errors: Float64 = np.einsum("gon,gon->go", difference @ gram, difference)
    return errors


def round_by_descent(exact: Float64, gram: Float64, low: float, high: float) -> Float64:
    """Return each weight rounded up or down so that the expected squared error of the outputs is small.

    The descent starts at the nearest integers, goes through the weights from the one that matters most to the one
    that matters least, flips all outputs' at once where that lessens the error, and ends where no flip does: the
    error is never above that of the nearest integers.

    Args:
        exact: weights in units of their scale, float64 [groups, outputs, n].
        gram: second moments of the inputs, float64 [groups, n, n].
        low: the smallest integer allowed.
        high: the largest.

    Returns:
        Whole numbers, float64 of the shape of ``exact``.
    """
    down, up = (np.clip(rounded, low, high) for rounded in (np.floor(exact), np.ceil(exact)))
    chosen = np.clip(np.rint(exact), low, high)
    slope = (chosen - exact) @ gram
    order = np.argsort(-np.einsum("gnn->n", gram), kind="stable")
    for _ in range(MAX_SWEEPS):
        if not _sweep(chosen, down + up, slope, gram, order):
            break
    return chosen


def _sweep(chosen: Float64, both: Float64, slope: Float64, gram: Float64, order: NDArray[np.int64]) -> int:
    """Try to flip each weight once, in place; return how many were flipped.

    Args:
        chosen: the integers so far.
        both: the sum of the two integers that each may be.
        slope: G d for the integers so far, kept up to date.
        gram: second moments.
        order: which weights come first.
    """
    flipped = 0
    for index in order:
        step = both[..., index] - 2 * chosen[..., index]  # to the other of the two
        curvature = gram[:, index, index][:, None] * step**2
        gain = -(2 * step * slope[..., index] + curvature)
        groups, outputs = np.nonzero(gain > _MIN_GAIN * curvature)
        if len(groups):
            chosen[groups, outputs, index] += step[groups, outputs]
            slope[groups, outputs] += step[groups, outputs, None] * gram[groups, index]
            flipped += len(groups)
    return flipped
