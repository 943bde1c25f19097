"""Paired tests and intervals: thin over scipy."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
#: Fewer pairs have no interval of 95%: even the whole range of five covers the median in only 94% of cases.
MIN_PAIRS = 6


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


def _require_pairs(first: NDArray[np.generic], second: NDArray[np.generic]) -> None:
    if first.ndim != 1 or first.shape != second.shape or not first.size:
        raise ValueError(f"expected two equal, non-empty vectors, found {first.shape} and {second.shape}")
