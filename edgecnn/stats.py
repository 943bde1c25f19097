"""Paired tests and intervals: thin over scipy."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
#: Fewer pairs have no interval of 95%: even the whole range of five covers the median in only 94% of cases.
MIN_PAIRS = 6
#: Above this product of two sample sizes the normal approximation of the rank-sum test is as good as the exact one.
_EXACT_RANK_SUM = 2500


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A difference or ratio with its 95% confidence interval."""

    delta: float
    low: float
    high: float


def paired_drop(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> Comparison:
    """Return how much a proportion fell between two answers to the same questions, as a fraction.

    The interval is Bonett and Price's adjusted Wald interval for paired proportions ("Adjusted Wald
    Confidence Interval for a Difference of Binomial Proportions Based on Paired Data", Journal of
    Educational and Behavioral Statistics 37(4), 2012): it keeps its width where the answers agree wholly.

    Args:
        before: bool ``[N]``, right or wrong.
        after: bool ``[N]``, right or wrong, on the same items.

    Raises:
        ValueError: no items, or not as many in one as in the other.
    """
    from scipy import stats

    _require_pairs(before, after)
    n = before.size
    lost, gained = int((before & ~after).sum()), int((~before & after).sum())
    p_lost, p_gained = (lost + 1) / (n + 2), (gained + 1) / (n + 2)
    center = p_lost - p_gained
    error = np.sqrt((p_lost + p_gained - center**2) / (n + 2))
    reach = float(stats.norm.ppf(0.5 + CONFIDENCE / 2)) * float(error)
    return Comparison(delta=(lost - gained) / n, low=max(-1.0, center - reach), high=min(1.0, center + reach))


def mcnemar_p(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> float:
    """Return the two-sided p-value of McNemar's exact test (McNemar 1947): 1 where nothing changed.

    Raises:
        ValueError: no items, or not as many in one as in the other.
    """
    from scipy import stats

    _require_pairs(before, after)
    lost, gained = int((before & ~after).sum()), int((~before & after).sum())
    if lost + gained == 0:
        return 1.0
    return float(stats.binomtest(lost, lost + gained, 0.5).pvalue)


def median_ratio(
    numerators: NDArray[np.float64], denominators: NDArray[np.float64], *, confidence: float = CONFIDENCE
) -> Comparison:
    """Return the median of paired ratios with the exact interval between two of them.

    The ends are order statistics chosen by the binomial distribution (Conover 1999, "Practical Nonparametric
    Statistics", section 3.2): nothing is assumed of how the ratios are distributed, but that the pairs are
    independent.

    Args:
        numerators: float64 ``[pairs]``.
        denominators: float64 ``[pairs]``, measured in the same pairs.
        confidence: that the interval has at least.

    Raises:
        ValueError: fewer than :data:`MIN_PAIRS`, or not as many in one as in the other.
    """
    from scipy import stats

    _require_pairs(numerators, denominators)
    ratios = numerators / denominators
    if ratios.size < MIN_PAIRS:
        raise ValueError(f"expected at least {MIN_PAIRS} pairs, found {ratios.size}")
    interval: Any = stats.quantile_test(ratios, q=1.0, p=0.5).confidence_interval(confidence)
    return Comparison(delta=float(np.median(ratios)), low=float(interval.low), high=float(interval.high))


def unpaired_ratio(numerators: NDArray[np.float64], denominators: NDArray[np.float64]) -> Comparison | None:
    """Return the ratio of two samples that were not taken in pairs, with a 95% interval, exact for up to 50 of each.

    The estimate is Hodges and Lehmann's: the median of all ratios of one to the other. The interval is Moses': the
    ends are the ratios at the critical values of the rank-sum test (Hollander, Wolfe and Chicken 2014,
    "Nonparametric Statistical Methods", section 4.3). It assumes that the samples differ by a factor only.

    Args:
        numerators: float64 ``[m]``, above 0.
        denominators: float64 ``[n]``, above 0.

    Returns:
        None if there are too few for an interval of 95%.
    """
    if not numerators.size or not denominators.size:
        return None
    ratios = np.sort((numerators[:, None] / denominators).ravel())
    outside = _outside(numerators.size, denominators.size)
    if outside < 1:
        return None
    low, high = float(ratios[outside - 1]), float(ratios[-outside])
    return Comparison(delta=float(np.median(ratios)), low=low, high=high)


def _outside(m: int, n: int) -> int:
    """Return how many of the sorted ratios lie outside at each end, the end itself counted; below 1 for none."""
    tail = (1 - CONFIDENCE) / 2
    if m * n <= _EXACT_RANK_SUM:
        return int(np.searchsorted(_rank_sum_cdf(m, n), tail, "right"))
    from scipy import stats

    return int(m * n / 2 + float(stats.norm.ppf(tail)) * np.sqrt(m * n * (m + n + 1) / 12))


def _rank_sum_cdf(m: int, n: int) -> NDArray[np.float64]:
    """Return the distribution of Mann and Whitney's U under the null hypothesis: P(U <= u) for u from 0 to m n.

    By their recurrence (1947): the largest of all values is one of the m, and exceeds all n, or one of the n.
    """
    rows = [np.ones(1) for _ in range(n + 1)]
    for first in range(1, m + 1):
        new = [np.ones(1)]
        for second in range(1, n + 1):
            density = np.zeros(first * second + 1)
            density[second:] += first / (first + second) * rows[second]
            density[: new[-1].size] += second / (first + second) * new[-1]
            new.append(density)
        rows = new
    return np.cumsum(rows[n])


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Kendall's tau of values against their order, its two-sided p-value, and the rise along Theil and Sen's line."""

    tau: float
    p_value: float
    rise: float


def drift(values: NDArray[np.float64]) -> Drift:
    """Return whether values rise or fall in the order they came in: Mann and Kendall's test (Mann 1945).

    Args:
        values: float64 ``[n]``, at least three.
    """
    from scipy import stats

    order = np.arange(values.size)
    if np.ptp(values) == 0:
        return Drift(tau=0.0, p_value=1.0, rise=0.0)
    found: Any = stats.kendalltau(order, values)
    line: Any = stats.theilslopes(values, order)
    return Drift(tau=float(found.statistic), p_value=float(found.pvalue), rise=float(line.slope) * (values.size - 1))


def _require_pairs(first: NDArray[np.generic], second: NDArray[np.generic]) -> None:
    if first.ndim != 1 or first.shape != second.shape or not first.size:
        raise ValueError(f"expected two equal, non-empty vectors, found {first.shape} and {second.shape}")
