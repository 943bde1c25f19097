"""Which weights to round up and which down: descent over single flips, from two starts.

With G = E[x x^T] over a layer's inputs x, the expected squared error of an output is d^T G d for the rounding error d
of its weights. Choosing up or down for each weight is a quadratic problem over 0 and 1 (Nagel et al. 2020, "Up or
Down? Adaptive Rounding for Post-Training Quantization", section 3.2); each output channel has its own.
"""

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
MAX_SWEEPS = 50
#: A flip must lessen the error by more than this fraction of what the flipped weight alone contributes.
_MIN_GAIN = 1e-9
#: Weights rounded before those far behind hear of it: one large product is faster than many small ones.
_BLOCK = 64


def squared_errors(difference: Float64, gram: Float64) -> Float64:
    """Return d^T G d: float64 [groups, outputs] from [groups, outputs, n] and [groups, n, n]."""
    errors: Float64 = np.einsum("gon,gon->go", difference @ gram, difference)
    return errors


def round_by_descent(exact: Float64, gram: Float64, low: float, high: float) -> Float64:
    """Return each weight rounded up or down so that the expected squared error of the outputs is small.

    The descent goes through the weights from the one that matters most to the one that matters least, flips those of
    all outputs at once where that lessens the error, and ends where no single flip does. It starts at the nearest
    integers and again at those of :func:`round_with_feedback`; each output keeps the better end, so that its error is
    never above that of the nearest integers.

    Args:
        exact: weights in units of their scale, float64 [groups, outputs, n].
        gram: second moments of the inputs, float64 [groups, n, n], positive definite.
        low: the smallest integer allowed.
        high: the largest.

    Returns:
        Whole numbers, float64 of the shape of ``exact``.
    """
    nearest = np.clip(np.rint(exact), low, high)
    ends = [_descend(start, exact, gram, low, high) for start in (nearest, round_with_feedback(exact, gram, low, high))]
    errors = [squared_errors(end - exact, gram) for end in ends]
    return np.where((errors[1] < errors[0])[..., None], ends[1], ends[0])


def round_with_feedback(exact: Float64, gram: Float64, low: float, high: float) -> Float64:
    """Round one weight after the other, and let those that follow make up for the error.

    After a weight is rounded, the best the others could do is known in closed form if they need not be whole (Frantar
    et al. 2022, "GPTQ", section 3.3, with the Cholesky factor of the inverse). Here each is then rounded up or down
    from where it was at first, to whichever is nearer to where it should go.

    Args and result are those of :func:`round_by_descent`.
    """
    order = _order(gram)
    wanted = exact[..., order]
    ends = [np.clip(bound(wanted), low, high) for bound in (np.floor, np.ceil)]
    factor = _inverse_factor(gram[:, order][:, :, order])
    rounded, errors = np.empty_like(wanted), np.empty_like(wanted)
    for start in range(0, wanted.shape[-1], _BLOCK):
        stop = min(start + _BLOCK, wanted.shape[-1])
        for index in range(start, stop):
            down, up = (end[..., index] for end in ends)
            goal = wanted[..., index]
            rounded[..., index] = np.where(np.abs(up - goal) < np.abs(goal - down), up, down)
            errors[..., index] = (goal - rounded[..., index]) / factor[:, index, index][:, None]
            wanted[..., index:stop] -= errors[..., index, None] * factor[:, None, index, index:stop]
        wanted[..., stop:] -= errors[..., start:stop] @ factor[:, start:stop, stop:]
    result = np.empty_like(rounded)
    result[..., order] = rounded
    return result


def _inverse_factor(gram: Float64) -> Float64:
    """Return the upper triangular U with U^T U = G^-1, without the inverse itself.

    With rows and columns backwards G = L L^T; forwards again, that is a product of an upper triangle with its
    transpose, and U is the inverse of this triangle.
    """
    from scipy.linalg.lapack import dtrtri

    lower = np.linalg.cholesky(gram[:, ::-1, ::-1])
    inverse = np.stack([dtrtri(one, lower=1)[0] for one in lower])
    return inverse[:, ::-1, ::-1]


def _order(gram: Float64) -> NDArray[np.int64]:
    """Return the weights' places, those of the largest inputs first."""
    return np.argsort(-np.einsum("gnn->n", gram), kind="stable")


def _descend(start: Float64, exact: Float64, gram: Float64, low: float, high: float) -> Float64:
    """Flip weights until no single flip lessens the error."""
    chosen = start.copy()
    both = np.clip(np.floor(exact), low, high) + np.clip(np.ceil(exact), low, high)
    slope = (chosen - exact) @ gram
    for _ in range(MAX_SWEEPS):
        if not _sweep(chosen, both, slope, gram):
            break
    return chosen


def _sweep(chosen: Float64, both: Float64, slope: Float64, gram: Float64) -> int:
    """Try to flip each weight once, in place; return how many were flipped.

    Args:
        chosen: the integers so far.
        both: the sum of the two integers that each may be.
        slope: G d for the integers so far, kept up to date.
        gram: second moments.
    """
    flipped = 0
    for index in _order(gram):
        step = both[..., index] - 2 * chosen[..., index]  # to the other of the two
        curvature = gram[:, index, index][:, None] * step**2
        gain = -(2 * step * slope[..., index] + curvature)
        groups, outputs = np.nonzero(gain > _MIN_GAIN * curvature)
        if len(groups):
            chosen[groups, outputs, index] += step[groups, outputs]
            slope[groups, outputs] += step[groups, outputs, None] * gram[groups, index]
            flipped += len(groups)
    return flipped
