import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecnn.stats import drift, mcnemar_p, median_ratio, paired_drop, unpaired_ratio

Answers = tuple[NDArray[np.bool_], NDArray[np.bool_]]
Z_95 = 1.959963984540054


def answers(*, both: int, lost: int, gained: int, neither: int) -> Answers:
    """Two answer vectors with these counts of the four kinds of pairs."""
    before = np.repeat([True, True, False, False], [both, lost, gained, neither])
    after = np.repeat([True, False, True, False], [both, lost, gained, neither])
    return before, after


pairs = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200).map(
    lambda rows: (np.array([a for a, _ in rows]), np.array([b for _, b in rows]))
)


def test_the_interval_is_that_of_bonetts_own_program() -> None:
    # statpsych (Bonett), documentation of ci.prop.ps(.05, f00=12, f01=4, f10=26, f11=6)
    drop = paired_drop(*answers(both=6, lost=26, gained=4, neither=12))
    assert drop.low == pytest.approx(0.2548067, abs=5e-8)
    assert drop.high == pytest.approx(0.6251933, abs=5e-8)
    assert drop.delta == 22 / 48


@given(pairs)
def test_the_interval_follows_bonett_and_price(vectors: Answers) -> None:
    before, after = (vector.astype(int) for vector in vectors)
    # as if there were one more pair lost and one more gained
    difference = np.append(before - after, [1, -1]).astype(float)
    center, reach = difference.mean(), Z_95 * difference.std() / math.sqrt(len(difference))
    drop = paired_drop(*vectors)
    assert drop.low == pytest.approx(max(-1, center - reach))
    assert drop.high == pytest.approx(min(1, center + reach))
    assert drop.delta == pytest.approx(before.mean() - after.mean())
    assert drop.low <= drop.delta <= drop.high


@given(pairs)
def test_swapping_the_two_answers_mirrors_the_interval(vectors: Answers) -> None:
    forth, back = paired_drop(*vectors), paired_drop(*vectors[::-1])
    assert (back.low, back.high) == pytest.approx((-forth.high, -forth.low))


def test_full_agreement_still_leaves_a_width() -> None:
    drop = paired_drop(*answers(both=90, lost=0, gained=0, neither=10))
    assert drop.delta == 0
    assert drop.low < 0 < drop.high
    assert drop.high == pytest.approx(Z_95 * math.sqrt(2) / 102)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    lost, gained, n, runs = 0.05, 0.03, 300, 3000
    kinds = random.choice(3, size=(runs, n), p=[lost, gained, 1 - lost - gained])
    covered = 0
    for kind in kinds:
        drop = paired_drop(kind != 1, kind != 0)
        covered += drop.low <= lost - gained <= drop.high
    assert 0.94 <= covered / runs <= 0.97


@given(lost=st.integers(0, 60), gained=st.integers(0, 60), agreed=st.integers(1, 50))
def test_mcnemar_is_the_exact_binomial_sum(lost: int, gained: int, agreed: int) -> None:
    total, fewer = lost + gained, min(lost, gained)
    tail = sum(math.comb(total, count) for count in range(fewer + 1)) / 2**total
    assert mcnemar_p(*answers(both=agreed, lost=lost, gained=gained, neither=0)) == pytest.approx(min(1, 2 * tail))


def test_mcnemar_by_hand() -> None:
    # 1 of 6 changed pairs: 2 * (1 + 6) / 2**6
    assert mcnemar_p(*answers(both=50, lost=1, gained=5, neither=9)) == pytest.approx(14 / 64)
    assert mcnemar_p(*answers(both=50, lost=0, gained=0, neither=9)) == 1


@given(
    ratio=st.floats(0.01, 100),
    times=st.lists(st.floats(1, 1e6), min_size=6, max_size=40),
)
def test_a_constant_ratio_is_found_with_hardly_any_width(ratio: float, times: list[float]) -> None:
    denominators = np.array(times)
    found = median_ratio(ratio * denominators, denominators)
    assert (found.low, found.delta, found.high) == pytest.approx((ratio, ratio, ratio), rel=1e-12)
    assert found.low <= found.delta <= found.high


def test_the_median_is_over_the_pairs_and_not_the_ratio_of_medians() -> None:
    found = median_ratio(np.array([1.0, 20.0, 300.0] * 3), np.array([1.0, 10.0, 100.0] * 3))
    assert found.delta == 2
    assert 1 <= found.low <= 2 <= found.high <= 3


@pytest.mark.parametrize(("n", "low", "high"), [(6, 1, 6), (8, 1, 8), (10, 2, 9), (12, 3, 10)])
def test_the_ends_are_the_order_statistics_of_the_published_table(n: int, low: int, high: int) -> None:
    ratios = np.random.default_rng(n).permutation(np.arange(1.0, n + 1))
    found = median_ratio(ratios, np.ones(n))
    assert (found.low, found.high) == (low, high)
    # P(low-th <= median <= high-th) from the binomial distribution
    missed = sum(math.comb(n, k) for k in range(low)) / 2**n
    assert 2 * missed <= 0.05


def test_the_ratio_interval_covers_the_truth_at_least_as_often_as_it_says() -> None:
    random = np.random.default_rng(2)
    covered = 0
    for _ in range(300):
        base = random.uniform(5, 10, 10)
        found = median_ratio(2 * base * random.lognormal(0, 0.1, 10), base)
        covered += found.low <= 2 <= found.high
    assert 0.95 <= covered / 300 < 1


@pytest.mark.parametrize("compare", [paired_drop, mcnemar_p])
@pytest.mark.parametrize(("before", "after"), [(0, 0), (3, 4), (1, 4), (4, 0)])
def test_answers_that_are_not_pairs_are_refused(
    compare: Callable[[NDArray[np.bool_], NDArray[np.bool_]], object], before: int, after: int
) -> None:
    with pytest.raises(ValueError, match=rf"equal, non-empty.*\({before},\).*\({after},\)"):
        compare(np.ones(before, bool), np.ones(after, bool))


@pytest.mark.parametrize(("numerators", "denominators"), [(0, 0), (1, 1), (5, 5), (7, 8), (1, 7)])
def test_rounds_that_are_not_pairs_or_too_few_are_refused(numerators: int, denominators: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        median_ratio(np.ones(numerators), np.ones(denominators))


# Two samples that were not taken in pairs


def rank_sum_probabilities(m: int, n: int) -> list[float]:
    """P(U <= u), by counting every way to place the first sample among the ranks."""
    counts = [0] * (m * n + 1)
    for ranks in itertools.combinations(range(m + n), m):
        counts[sum(ranks) - m * (m - 1) // 2] += 1
    return [sum(counts[: u + 1]) / math.comb(m + n, m) for u in range(m * n + 1)]


@given(
    st.lists(st.floats(0.1, 10), min_size=3, max_size=6, unique=True),
    st.lists(st.floats(0.1, 10), min_size=3, max_size=6, unique=True),
)
def test_the_interval_of_a_ratio_is_where_the_rank_sum_test_turns(above: list[float], below: list[float]) -> None:
    found = unpaired_ratio(np.array(above), np.array(below))
    ratios = sorted(a / b for a in above for b in below)
    outside = sum(p <= 0.025 for p in rank_sum_probabilities(len(above), len(below)))
    if not outside:
        assert found is None
        return
    assert found is not None
    assert (found.low, found.high) == pytest.approx((ratios[outside - 1], ratios[len(ratios) - outside]))
    assert found.delta == pytest.approx(float(np.median(ratios)))


@pytest.mark.parametrize("n", [4, 10, 40, 60])
def test_the_interval_of_a_ratio_covers_the_true_one(n: int) -> None:
    random, covered = np.random.default_rng(n), 0
    for _ in range(400):
        a, b = (np.exp(random.normal(0, 0.05, n)) for _ in range(2))
        found = unpaired_ratio(3 * a, b)
        assert found is not None
        covered += found.low <= 3 <= found.high
    assert 0.925 <= covered / 400 <= 0.995


def test_large_samples_are_judged_as_small_ones_are() -> None:
    random = np.random.default_rng(5)
    a, b = np.exp(random.normal(0, 0.05, 50)), np.exp(random.normal(0, 0.05, 50))
    exact = unpaired_ratio(a, b)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgecnn.stats._EXACT_RANK_SUM", 0)
        approximate = unpaired_ratio(a, b)
    assert exact is not None
    assert approximate is not None
    assert (approximate.low, approximate.high) == pytest.approx((exact.low, exact.high), rel=2e-3)


@pytest.mark.parametrize(("m", "n"), [(0, 5), (5, 0), (1, 30), (3, 3)])
def test_too_few_values_have_no_interval(m: int, n: int) -> None:
    assert unpaired_ratio(np.linspace(1, 2, m), np.linspace(1, 2, n)) is None


# Values in the order they came


@given(st.lists(st.integers(0, 50), min_size=3, max_size=30))
def test_tau_counts_the_pairs_that_rise(numbers: list[int]) -> None:
    values = np.array(numbers, float)
    found = drift(values)
    signs = [np.sign(values[j] - values[i]) for i in range(len(values)) for j in range(i + 1, len(values))]
    ties = sum(sign == 0 for sign in signs)
    expected = sum(signs) / math.sqrt(len(signs) * (len(signs) - ties)) if ties < len(signs) else 0.0
    assert found.tau == pytest.approx(expected)
    slopes = [(values[j] - values[i]) / (j - i) for i in range(len(values)) for j in range(i + 1, len(values))]
    assert found.rise == pytest.approx(float(np.median(slopes)) * (len(values) - 1), abs=1e-9)
    assert 0 <= found.p_value <= 1


def test_noise_is_rarely_called_a_trend() -> None:
    random = np.random.default_rng(0)
    alarms = sum(drift(random.normal(size=10)).p_value < 0.01 for _ in range(1000))
    assert alarms <= 20
