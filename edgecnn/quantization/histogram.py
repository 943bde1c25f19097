"""A histogram that grows with its values, and does not depend on the order in which they come.

The bins are as wide as a power of two and begin at multiples of it, so two of them make exactly one of the next width.
When a value lies outside, neighbours are joined until it fits. What comes out depends on the values alone: batches of
one image or of a hundred give the same counts.
"""

import math

import numpy as np
from numpy.typing import NDArray

#: At most; there are at least half as many between the smallest and the largest value.
N_BINS = 4096
Counts = NDArray[np.int64]
Float64 = NDArray[np.float64]


class Histogram:
    """Counts of float32 values, with the smallest and the largest of them."""

    def __init__(self) -> None:
        self.low, self.high = math.inf, -math.inf
        self._exponent: int | None = None  # a bin is 2**exponent wide; None until there are two different values
        self._first = 0  # the index of the first bin: it begins at first * 2**exponent
        self._counts: Counts = np.zeros(N_BINS, np.int64)
        self._equal = 0  # values seen while all of them were equal

    def add(self, values: NDArray[np.float32]) -> None:
        """Count values; all of them finite."""
        if not values.size:
            return
        low, high = float(values.min()), float(values.max())
        was_equal = self.low == self.high
        before = self.low
        self.low, self.high = min(self.low, low), max(self.high, high)
        if self.low == self.high:
            self._equal += values.size
            return
        self._fit()
        if was_equal and self._equal:
            self._counts[self._index(np.array([before], np.float32))[0]] += self._equal
            self._equal = 0
        self._counts += np.bincount(self._index(values.ravel()), minlength=N_BINS)

    @property
    def n(self) -> int:
        """How many values were counted."""
        return int(self._counts.sum()) + self._equal

    def bins(self) -> tuple[Float64, Counts]:
        """Return the centers of the bins that hold values, at most as far out as these go, and their counts."""
        if self._exponent is None:
            return np.array([self.low]), np.array([self._equal])
        held = np.flatnonzero(self._counts)
        width = 2.0**self._exponent
        centers = (held + self._first + 0.5) * width
        return np.clip(centers, self.low, self.high), self._counts[held]

    def _fit(self) -> None:
        """Widen the bins until there is one for the smallest and one for the largest value."""
        exponent = _exponent(self.low, self.high)
        if self._exponent is None:
            self._exponent = exponent
            self._first = math.floor(math.ldexp(self.low, -exponent))
            return
        held = np.flatnonzero(self._counts)
        shift = exponent - self._exponent
        indices = (held + self._first) >> shift
        counts = np.zeros(N_BINS, np.int64)
        self._first = math.floor(math.ldexp(self.low, -exponent))
        np.add.at(counts, indices - self._first, self._counts[held])
        self._counts, self._exponent = counts, exponent

    def _index(self, values: NDArray[np.float32]) -> NDArray[np.int64]:
        assert self._exponent is not None
        # A power of two scales exactly, but for a quotient too small for float32: a negative one would end above -0.
        scaled = np.ldexp(values if self._exponent <= 0 else values.astype(np.float64), -self._exponent)
        np.floor(scaled, out=scaled)
        return scaled.astype(np.int64) - self._first


def _exponent(low: float, high: float) -> int:
    """Return the least exponent of a bin's width for which the bins from ``low`` to ``high`` are not too many."""
    exponent = math.frexp((high - low) / N_BINS)[1] - 1
    while math.floor(math.ldexp(high, -exponent)) - math.floor(math.ldexp(low, -exponent)) >= N_BINS:
        exponent += 1
    return exponent
