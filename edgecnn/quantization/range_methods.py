"""How the range that integers stand for follows from the values seen: one literal row a method."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgecnn.quantization.histogram import Histogram

RangeMethod = Literal["minmax", "average", "percentile", "entropy", "mse"]
Float64 = NDArray[np.float64]

#: Of the values, in percent, that stay inside on each side.
PERCENTILE = 99.99
#: Candidate ranges, as fractions of the observed one: finely where the best one mostly is, and on to where one value
#: among millions is fifty times as large as all others.
MSE_CANDIDATES = np.append(np.linspace(1.0, 0.2, 161), np.geomspace(0.2, 0.02, 25)[1:])
ENTROPY_CANDIDATES = np.linspace(1.0, 0.2, 65)


@dataclass(frozen=True, kw_only=True)
class Range:
    """The values of one tensor that integers will stand for; zero is always among them."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Observed:
    """What was seen of one tensor.

    Attributes:
        low: the smallest value of all.
        high: the largest value of all.
        mean_low: the smallest value of an image, on the average over the images.
        mean_high: the largest value of an image, on the average over the images.
        histogram: of all values, for the methods that need it.
    """

    low: float
    high: float
    mean_low: float
    mean_high: float
    histogram: Histogram | None = None


@dataclass(frozen=True, kw_only=True)
class Method:
    """A row of the table.

    Attributes:
        needs_histogram: whether it looks at more than the extremes.
        choose: what was seen, and the number of steps between the integers' ends, to a range.
        summary: one line for the documentation.
    """

    needs_histogram: bool
    choose: Callable[[Observed, int], Range]
    summary: str


def _minmax(observed: Observed, steps: int) -> Range:
    return Range(low=observed.low, high=observed.high)


def _average(observed: Observed, steps: int) -> Range:
    return Range(low=observed.mean_low, high=observed.mean_high)


def _percentile(observed: Observed, steps: int) -> Range:
    centers, counts = _bins(observed)
    shares = np.cumsum(counts) / counts.sum()
    outside = (1 - PERCENTILE / 100) / 2 if observed.low < 0 < observed.high else 1 - PERCENTILE / 100
    low = centers[np.searchsorted(shares, outside, side="right")] if observed.low < 0 else observed.low
    last = min(int(np.searchsorted(shares, 1 - outside)), len(centers) - 1)
    high = centers[last] if observed.high > 0 else observed.high
    return Range(low=float(low), high=float(high))


def _mse(observed: Observed, steps: int) -> Range:
    """Minimize the squared error of rounding and clipping, over ranges shrunk by the same factor at both ends.

    Nagel et al. 2021, "A White Paper on Neural Network Quantization", section 3.1.
    """
    return _search(
        observed, MSE_CANDIDATES, lambda centers, counts, low, high: _squared(centers, counts, low, high, steps)
    )


def _entropy(observed: Observed, steps: int) -> Range:
    """Minimize the divergence of the rounded from the observed values, over ranges shrunk alike at both ends.

    Migacz 2017, "8-bit Inference with TensorRT".
    """
    return _search(
        observed, ENTROPY_CANDIDATES, lambda centers, counts, low, high: _divergence(centers, counts, low, high, steps)
    )


RANGE_METHODS: dict[RangeMethod, Method] = {
    "minmax": Method(needs_histogram=False, choose=_minmax, summary="from the smallest to the largest value"),
    "average": Method(
        needs_histogram=False, choose=_average, summary="from the average image's smallest to its largest value"
    ),
    "percentile": Method(
        needs_histogram=True, choose=_percentile, summary=f"all but {100 - PERCENTILE:.2g}% of the values"
    ),
    "entropy": Method(needs_histogram=True, choose=_entropy, summary="least Kullback-Leibler divergence"),
    "mse": Method(needs_histogram=True, choose=_mse, summary="least mean squared error of rounding and clipping"),
}


def choose_range(method: RangeMethod, observed: Observed, steps: int, *, symmetric: bool = False) -> Range:
    """Return the range of one tensor; zero is in it.

    Args:
        method: a row of the table.
        observed: what was seen of the tensor.
        steps: between the integers' ends: 255 for 8 bits.
        symmetric: whether the range must reach as far below zero as above it, so that a method that looks for the
            best one looks among those alone.
    """
    if symmetric:
        reach = max(-observed.low, observed.high)
        observed = dataclasses.replace(observed, low=-reach, high=reach)
    found = RANGE_METHODS[method].choose(observed, steps)
    low, high = min(found.low, 0.0), max(found.high, 0.0)
    return Range(low=min(low, -high), high=max(-low, high)) if symmetric else Range(low=low, high=high)


def _bins(observed: Observed) -> tuple[Float64, NDArray[np.int64]]:
    assert observed.histogram is not None
    return observed.histogram.bins()


_Cost = Callable[[Float64, NDArray[np.int64], float, float], float]


def _search(observed: Observed, candidates: Float64, cost: _Cost) -> Range:
    low, high = min(observed.low, 0.0), max(observed.high, 0.0)
    if low == high:
        return Range(low=low, high=high)
    centers, counts = _bins(observed)
    best = min(candidates, key=lambda factor: cost(centers, counts, low * factor, high * factor))
    return Range(low=float(low * best), high=float(high * best))


def _squared(centers: Float64, counts: NDArray[np.int64], low: float, high: float, steps: int) -> float:
    return float(counts @ np.square(_round_trip(centers, low, high, steps)[1] - centers))


def _round_trip(values: Float64, low: float, high: float, steps: int) -> tuple[NDArray[np.int64], Float64]:
    """Return the integer of each value, from 0 to ``steps``, and what it stands for."""
    scale = (high - low) / steps
    zero_point = np.rint(-low / scale)
    integers = np.clip(np.rint(values / scale) + zero_point, 0, steps)
    return integers.astype(np.int64), (integers - zero_point) * scale


def _divergence(centers: Float64, counts: NDArray[np.int64], low: float, high: float, steps: int) -> float:
    """Return KL(P || Q): P as observed with what lies outside moved to the ends, Q as it is after rounding.

    The values of one integer cannot be told apart any more: Q spreads their count evenly over the bins that hold any.
    Clipped counts weigh on the bin at the end of P alone, which is what clipping costs. The bin of zero keeps its
    count: zero is exact in every range, and the many zeros behind a ReLU would else be spread over their neighbours,
    which a smaller range makes fewer, whatever it clips.
    """
    inside = (centers >= low) & (centers <= high)
    if not inside.any():
        return float("inf")
    integers, _ = _round_trip(centers[inside], low, high, steps)
    integers[np.abs(centers[inside]).argmin()] = steps + 1
    kept = counts[inside].astype(np.float64)
    reference = kept.copy()
    below, above = counts[centers < low].sum(), counts[centers > high].sum()
    reference[0] += below
    reference[-1] += above
    per_integer = np.bincount(integers, weights=kept, minlength=steps + 2)
    holders = np.bincount(integers, minlength=steps + 2)
    spread = per_integer[integers] / holders[integers]
    p, q = reference / reference.sum(), spread / spread.sum()
    return float((p * np.log(p / q)).sum())
