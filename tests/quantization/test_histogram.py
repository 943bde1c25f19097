"""The growing histogram against one counted with exact fractions, whatever the order and the batches."""

import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecnn.quantization.histogram import N_BINS, Histogram

Float32 = NDArray[np.float32]
LARGEST = float(np.finfo(np.float32).max)
SMALLEST = 1e-45  # the least denormal

any_float32 = st.floats(width=32, allow_nan=False, allow_infinity=False)
#: Mostly alike in size, as activations are; sometimes anything.
values = st.one_of(
    st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=60),
    st.lists(st.sampled_from([0.0, -0.0, 1.0, -1.0, SMALLEST, -SMALLEST, 1e30, -1e30, LARGEST, -LARGEST]), min_size=1),
    st.lists(any_float32, min_size=1, max_size=60),
)


def array(items: Sequence[float]) -> Float32:
    return np.array(items, np.float32)


def count(*batches: Sequence[float] | Float32) -> Histogram:
    histogram = Histogram()
    for batch in batches:
        histogram.add(array(list(batch)))
    return histogram


def reference(items: Sequence[float]) -> tuple[list[float], list[int]]:
    """Return centers and counts of the finest bins, a power of two wide, of which there are not too many."""
    exact = [Fraction(float(value)) for value in array(items)]
    low, high = min(exact), max(exact)
    if low == high:
        return [float(low)], [len(exact)]
    exponent = -200
    while math.floor(high / Fraction(2) ** exponent) - math.floor(low / Fraction(2) ** exponent) >= N_BINS:
        exponent += 1
    width = Fraction(2) ** exponent
    counts = Counter(math.floor(value / width) for value in exact)
    centers = [min(max((index + Fraction(1, 2)) * width, low), high) for index in sorted(counts)]
    return [float(center) for center in centers], [counts[index] for index in sorted(counts)]


def equals_reference(histogram: Histogram, items: Sequence[float]) -> None:
    centers, counts = histogram.bins()
    expected_centers, expected_counts = reference(items)
    assert counts.tolist() == expected_counts
    np.testing.assert_allclose(centers, expected_centers, rtol=1e-15)
    assert histogram.n == len(items)
    assert (histogram.low, histogram.high) == (float(array(items).min()), float(array(items).max()))


@settings(max_examples=300)
@given(values)
@example([-SMALLEST, 1e30])  # scaled down to the bins, the first is too small for float32
@example([-SMALLEST, SMALLEST, 5000.0, -1e-42])
@example([-LARGEST, LARGEST])
@example([SMALLEST, 2 * SMALLEST])
@example([1e30, float(np.nextafter(np.float32(1e30), np.float32(2e30)))])
def test_counts_are_those_of_exact_fractions(items: list[float]) -> None:
    equals_reference(count(items), items)


@settings(max_examples=200)
@given(values, st.data())
@example([-1e-40, -SMALLEST, 1.0, 1e30], None)
def test_neither_the_order_nor_the_batches_matter(items: list[float], data: st.DataObject | None) -> None:
    mixed = data.draw(st.permutations(items)) if data else items
    cuts = data.draw(st.lists(st.integers(0, len(items)), max_size=6).map(sorted)) if data else range(len(items))
    batches = [mixed[start:end] for start, end in zip([0, *cuts], [*cuts, len(items)], strict=True)]
    equals_reference(count(*batches), items)


@given(values)
def test_one_value_at_a_time_gives_the_same(items: list[float]) -> None:
    equals_reference(count(*([item] for item in items)), items)


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, LARGEST, -LARGEST, SMALLEST, -SMALLEST, 1e30])
def test_equal_values_are_one_bin_at_their_place(value: float) -> None:
    centers, counts = count([value] * 5, [value] * 7).bins()
    assert (centers.tolist(), counts.tolist()) == ([float(np.float32(value))], [12])


@pytest.mark.parametrize("value", [0.0, 3.7, -3.7, LARGEST, SMALLEST])
@pytest.mark.parametrize("other", [1.0, -1e30, 1e-40])
def test_equal_values_are_not_lost_when_another_comes(value: float, other: float) -> None:
    equals_reference(count([value] * 9, [value], [other]), [value] * 10 + [other])


@pytest.mark.parametrize("outlier", [1e30, -1e30, LARGEST, -LARGEST])
def test_one_outlier_after_small_values_joins_them_and_loses_none(outlier: float) -> None:
    small = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    histogram = count(small[:500], small[500:], [outlier])
    centers, counts = histogram.bins()
    assert (histogram.n, int(counts.sum())) == (1001, 1001)
    assert counts[np.abs(centers).argmax()] == 1
    assert np.abs(centers).max() == pytest.approx(abs(outlier), rel=2 / N_BINS)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.floats(-50, 50), st.floats(0.01, 1e4))
def test_there_are_at_least_half_as_many_bins_as_allowed_and_never_more(seed: int, shift: float, scale: float) -> None:
    drawn = (np.random.default_rng(seed).uniform(-1, 1, 200_000) * scale + shift).astype(np.float32)
    centers, counts = count(drawn).bins()
    assert N_BINS // 2 - 1 <= len(counts) <= N_BINS
    assert (np.diff(centers) > 0).all()
    width = np.diff(centers).min()
    for quantile in (0.1, 0.5, 0.9):
        below = centers[np.searchsorted(np.cumsum(counts), quantile * counts.sum())]
        assert below == pytest.approx(np.quantile(drawn.astype(np.float64), quantile), abs=width)


def test_shape_does_not_matter_and_nothing_adds_nothing() -> None:
    random = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    flat, shaped = count(random.ravel()), Histogram()
    shaped.add(random)
    shaped.add(np.zeros((0, 4), np.float32))
    assert [part.tolist() for part in flat.bins()] == [part.tolist() for part in shaped.bins()]
    assert shaped.n == 60
    assert Histogram().n == 0
