"""Paired tests and intervals: thin over scipy."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
_RESAMPLES = 2000


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

    if before.shape != after.shape or not before.size:
        raise ValueError(f"expected two equal, non-empty vectors, found {before.shape} and {after.shape}")
    n = before.size
    lost, gained = int((before & ~after).sum()), int((~before & after).sum())
    p_lost, p_gained = (lost + 1) / (n + 2), (gained + 1) / (n + 2)
    center = p_lost - p_gained
    error = np.sqrt((p_lost + p_gained - center**2) / (n + 2))
    reach = float(stats.norm.ppf(0.5 + CONFIDENCE / 2)) * float(error)
    return Comparison(delta=(lost - gained) / n, low=max(-1.0, center - reach), high=min(1.0, center + reach))


def mcnemar_p(before: NDArray[np.bool_], after: NDArray[np.bool_]) -> float:
    """Return the two-sided p-value of McNemar's exact test (McNemar 1947): 1 where nothing changed."""
    from scipy import stats

    lost, gained = int((before & ~after).sum()), int((~before & after).sum())
    if lost + gained == 0:
        return 1.0
    return float(stats.binomtest(lost, lost + gained, 0.5).pvalue)


def median_ratio(numerators: NDArray[np.float64], denominators: NDArray[np.float64], *, seed: int) -> Comparison:
    """Return the median of paired ratios with a bootstrap interval over the pairs (Efron 1979, percentile).

    Args:
        numerators: float64 ``[rounds]``.
        denominators: float64 ``[rounds]``, measured in the same rounds.
        seed: of the resampling.

    Raises:
        ValueError: fewer than two rounds.
    """
    from scipy import stats

    ratios = numerators / denominators
    if ratios.size < 2:
        raise ValueError(f"expected at least two rounds, found {ratios.size}")
    delta = float(np.median(ratios))
    if np.ptp(ratios) == 0:  # scipy warns of a degenerate distribution
        return Comparison(delta=delta, low=delta, high=delta)
    interval = stats.bootstrap(
        (ratios,),
        np.median,
        confidence_level=CONFIDENCE,
        n_resamples=_RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Comparison(delta=delta, low=float(interval.low), high=float(interval.high))
