"""The methods that choose a range: each against an independent reference, and what all of them keep."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecnn.quantization.histogram import N_BINS, Histogram
from edgecnn.quantization.range_methods import (
    ENTROPY_CANDIDATES,
    MSE_CANDIDATES,
    PERCENTILE,
    RANGE_METHODS,
    Observed,
    Range,
    RangeMethod,
    choose_range,
)

Float64 = NDArray[np.float64]
methods = pytest.mark.parametrize("method", RANGE_METHODS)
SEARCHES: tuple[RangeMethod, ...] = ("mse", "entropy")
CLIPPING: tuple[RangeMethod, ...] = ("percentile", "mse", "entropy")


def observe(values: Any, *, images: int = 1) -> Observed:
    """Return what is seen of values [images * n]."""
    array = np.asarray(values, np.float32)
    histogram = Histogram()
    histogram.add(array)
    by_image = array.reshape(images, -1).astype(np.float64)
    return Observed(
        low=float(array.min()),
        high=float(array.max()),
        mean_low=float(by_image.min(1).mean()),
        mean_high=float(by_image.max(1).mean()),
        histogram=histogram,
    )


def normal(seed: int = 0, n: int = 20_000) -> Float64:
    return np.random.default_rng(seed).normal(size=n)


def relu(values: Float64) -> Float64:
    return np.maximum(values, 0)


@st.composite
def samples(draw: st.DrawFn) -> Float64:
    """Return a few hundred values: a bulk anywhere, zeros, some far out."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    bulk = random.normal(draw(st.floats(-3, 3)), draw(st.floats(0.01, 5)), draw(st.integers(1, 300)))
    far = random.uniform(-1, 1, draw(st.integers(0, 3))) * draw(st.sampled_from([1.0, 30.0, 1e4]))
    values = np.concatenate([bulk, np.zeros(draw(st.integers(0, 200))), far])
    return relu(values) if draw(st.booleans()) else values


steps = st.sampled_from([15, 254, 255, 65535])


# What every method keeps


def test_the_table_holds_the_methods_that_can_be_named() -> None:
    assert tuple(RANGE_METHODS) == get_args(RangeMethod)
    assert len({row.summary for row in RANGE_METHODS.values()}) == len(RANGE_METHODS)


@methods
@settings(max_examples=40)
@given(values=samples(), steps=steps)
def test_zero_is_inside_and_nothing_reaches_beyond_what_was_seen(
    method: RangeMethod, values: Float64, steps: int
) -> None:
    observed = observe(values)
    found = choose_range(method, observed, steps)
    assert min(observed.low, 0) <= found.low <= 0 <= found.high <= max(observed.high, 0)
    assert math.isfinite(found.low)
    assert math.isfinite(found.high)


@methods
@settings(max_examples=20)
@given(values=samples(), steps=steps)
def test_a_symmetric_range_reaches_as_far_on_both_sides_and_no_further_than_needed(
    method: RangeMethod, values: Float64, steps: int
) -> None:
    observed = observe(values)
    found = choose_range(method, observed, steps, symmetric=True)
    assert found.low == -found.high
    assert 0 <= found.high <= max(-observed.low, observed.high)


@methods
@settings(max_examples=20)
@given(values=samples(), exponent=st.integers(-60, 60))
def test_a_power_of_two_scales_the_range_with_the_values(method: RangeMethod, values: Float64, exponent: int) -> None:
    found = choose_range(method, observe(values), 255)
    scaled = choose_range(method, observe(np.ldexp(values.astype(np.float32), exponent)), 255)
    assert scaled.low == pytest.approx(math.ldexp(found.low, exponent), rel=1e-12)
    assert scaled.high == pytest.approx(math.ldexp(found.high, exponent), rel=1e-12)


@methods
@pytest.mark.parametrize("value", [5.0, -5.0, 1e-30, 1e30, 1e-45, -3.4e38])
def test_one_value_is_reached_from_zero(method: RangeMethod, value: float) -> None:
    found = choose_range(method, observe([value] * 10), 255)
    single = float(np.float32(value))
    assert found.low <= 0 <= found.high
    reached = found.low if value < 0 else found.high
    assert reached == pytest.approx(single, rel=1e-12)
    assert (found.high if value < 0 else found.low) == 0


@methods
@pytest.mark.parametrize("symmetric", [False, True])
def test_nothing_but_zeros_has_no_width(method: RangeMethod, symmetric: bool) -> None:
    assert choose_range(method, observe(np.zeros(50)), 255, symmetric=symmetric) == Range(low=0.0, high=0.0)


@methods
@pytest.mark.parametrize("largest", [3.4e38, 1e-44])
def test_the_ends_of_float32_are_no_trouble(method: RangeMethod, largest: float) -> None:
    values = np.linspace(-1, 1, 101) * largest
    found = choose_range(method, observe(values), 255)
    assert found.low == pytest.approx(-largest, rel=0.15)
    assert found.high == pytest.approx(largest, rel=0.15)


@methods
def test_only_a_method_that_says_so_needs_a_histogram(method: RangeMethod) -> None:
    without = dataclasses.replace(observe(normal()), histogram=None)
    if RANGE_METHODS[method].needs_histogram:
        with pytest.raises(AssertionError):
            choose_range(method, without, 255)
    else:
        assert choose_range(method, without, 255) == choose_range(method, observe(normal()), 255)


# Each against a reference


@given(samples())
def test_minmax_is_the_smallest_and_the_largest(values: Float64) -> None:
    single = values.astype(np.float32)
    found = choose_range("minmax", observe(values), 255)
    assert (found.low, found.high) == (min(float(single.min()), 0), max(float(single.max()), 0))


@given(st.integers(1, 9), st.integers(0, 2**32 - 1), st.floats(-2, 2))
def test_average_is_the_mean_of_the_images_extremes(images: int, seed: int, shift: float) -> None:
    values = (np.random.default_rng(seed).normal(size=(images, 40)) + shift).astype(np.float32)
    found = choose_range("average", observe(values, images=images), 255)
    expected = [np.mean([image.astype(np.float64).min() for image in values])]
    expected += [np.mean([image.astype(np.float64).max() for image in values])]
    assert found.low == pytest.approx(min(expected[0], 0), rel=1e-12)
    assert found.high == pytest.approx(max(expected[1], 0), rel=1e-12)


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), shift=st.floats(-4, 4), n=st.integers(1, 40_000))
def test_percentile_leaves_out_the_share_it_says_within_a_bin(seed: int, shift: float, n: int) -> None:
    values = np.sort((np.random.default_rng(seed).normal(size=n) + shift).astype(np.float32).astype(np.float64))
    found = choose_range("percentile", observe(values), 255)
    two_sided = values[0] < 0 < values[-1]
    outside = (100 - PERCENTILE) / 100 / (2 if two_sided else 1)
    bin_width = 2 * (values[-1] - values[0]) / N_BINS
    low = values[math.floor(n * outside + 1e-9)] if values[0] < 0 else 0
    high = values[max(math.ceil(n * (1 - outside) - 1e-9) - 1, 0)] if values[-1] > 0 else 0
    assert found.low == pytest.approx(min(low, 0), abs=bin_width + 1e-12)
    assert found.high == pytest.approx(max(high, 0), abs=bin_width + 1e-12)


def grid(low: float, high: float, steps: int) -> Float64:
    """Return what the integers stand for, one by one."""
    scale = (high - low) / steps
    zero_point = round(-low / scale)
    return np.array([(level - zero_point) * scale for level in range(steps + 1)])


def nearest(values: Float64, levels: Float64) -> NDArray[np.int64]:
    return np.searchsorted((levels[:-1] + levels[1:]) / 2, values)


def squared_error(values: Float64, low: float, high: float, steps: int) -> float:
    levels = grid(low, high, steps)
    return float(np.square(values - levels[nearest(values, levels)]).sum())


@settings(max_examples=25)
@given(values=samples(), steps=st.sampled_from([15, 254, 255]))
def test_mse_has_no_better_candidate_by_the_errors_of_the_values_themselves(values: Float64, steps: int) -> None:
    single = values.astype(np.float32).astype(np.float64)
    observed = observe(values)
    low, high = min(observed.low, 0.0), max(observed.high, 0.0)
    assume(low < high)
    found = choose_range("mse", observed, steps)
    errors = [squared_error(single, low * factor, high * factor, steps) for factor in MSE_CANDIDATES]
    # The histogram knows a value to half a bin, which is a small part of a step.
    allowed = 2 * len(single) * ((high - low) / N_BINS) * (high - low) / steps
    assert squared_error(single, found.low, found.high, steps) <= min(errors) + allowed + 1e-12


@settings(max_examples=25)
@given(values=samples(), steps=st.sampled_from([255, 65535]))
def test_mse_is_the_best_candidate_of_the_histogram(values: Float64, steps: int) -> None:
    observed = observe(values)
    low, high = min(observed.low, 0.0), max(observed.high, 0.0)
    assume(low < high)
    assert observed.histogram
    centers, counts = observed.histogram.bins()
    found = choose_range("mse", observed, steps)
    factor = found.high / high if high else found.low / low
    assert np.isclose(MSE_CANDIDATES, factor, rtol=1e-9).any()
    assert found.low == pytest.approx(low * factor)

    def error(low: float, high: float) -> float:
        levels = grid(low, high, steps)
        return float(counts @ np.square(centers - levels[nearest(centers, levels)]))

    some = MSE_CANDIDATES if steps == 255 else MSE_CANDIDATES[::20]
    best = min(error(low * candidate, high * candidate) for candidate in some)
    assert error(found.low, found.high) <= best * (1 + 1e-6) + 1e-12 * max(-low, high) ** 2


def divergence(observed: Observed, low: float, high: float, steps: int) -> float:
    """Return KL(P || Q), bin by bin, in words: see ``_divergence``."""
    assert observed.histogram
    centers, counts = observed.histogram.bins()
    inside = [k for k in range(len(centers)) if low <= centers[k] <= high]
    if not inside:
        return math.inf
    scale = (high - low) / steps
    zero_point = round(-low / scale)
    zero = min(inside, key=lambda k: abs(centers[k]))
    levels: dict[int, list[int]] = {}
    for k in inside:
        level = min(max(round(centers[k] / scale) + zero_point, 0), steps)
        levels.setdefault(-1 if k == zero else level, []).append(k)
    p = {k: float(counts[k]) for k in inside}
    p[inside[0]] += float(counts[centers < low].sum())
    p[inside[-1]] += float(counts[centers > high].sum())
    q = {k: sum(float(counts[j]) for j in held) / len(held) for held in levels.values() for k in held}
    total_p, total_q = sum(p.values()), sum(q.values())
    return sum(p[k] / total_p * math.log((p[k] / total_p) / (q[k] / total_q)) for k in inside)


@settings(max_examples=15)
@given(values=samples(), steps=st.sampled_from([15, 255]))
def test_entropy_is_the_candidate_of_least_divergence(values: Float64, steps: int) -> None:
    observed = observe(values)
    low, high = min(observed.low, 0.0), max(observed.high, 0.0)
    assume(low < high)
    found = choose_range("entropy", observed, steps)
    factor = found.high / high if high else found.low / low
    assert np.isclose(ENTROPY_CANDIDATES, factor, rtol=1e-9).any()
    best = min(divergence(observed, low * one, high * one, steps) for one in ENTROPY_CANDIDATES)
    assert divergence(observed, found.low, found.high, steps) <= best + 1e-9


@pytest.mark.parametrize(("candidates", "least"), [(MSE_CANDIDATES, 0.02), (ENTROPY_CANDIDATES, 0.2)])
def test_the_candidates_shrink_the_range_step_by_step(candidates: Float64, least: float) -> None:
    assert (candidates[0], candidates[-1]) == (1.0, pytest.approx(least))
    assert (np.diff(candidates) < 0).all()
    assert (candidates[1:] / candidates[:-1]).min() > 0.9


# Known cases


SHAPES: dict[str, Callable[[int], Float64]] = {
    "normal": normal,
    "relu": lambda seed: relu(normal(seed)),
    "relu that is mostly zero": lambda seed: relu(normal(seed) - 1.5),
}


@pytest.mark.parametrize("method", SEARCHES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_a_normal_with_or_without_relu_keeps_most_of_its_range_at_8_bits(
    method: RangeMethod, shape: str, seed: int
) -> None:
    values = SHAPES[shape](seed)
    found = choose_range(method, observe(values), 255)
    assert 0.5 * values.max() < found.high <= np.float32(values.max())
    assert np.mean(values > found.high) < 0.01


@pytest.mark.parametrize("shape", SHAPES)
def test_mse_clips_more_where_there_are_fewer_steps(shape: str) -> None:
    observed = observe(SHAPES[shape](0))
    four, eight, sixteen = (choose_range("mse", observed, steps).high for steps in (15, 255, 65535))
    assert four < eight <= sixteen
    assert sixteen > 0.99 * observed.high


@pytest.mark.parametrize("outlier", [100.0, 1e6, 1e30])
def test_a_far_outlier_is_kept_by_minmax_and_clipped_by_the_others(outlier: float) -> None:
    values = np.append(relu(normal(n=100_000)), outlier)
    observed = observe(values)
    assert choose_range("minmax", observed, 255).high == np.float32(outlier)
    assert choose_range("percentile", observed, 255).high < max(6, 2 * outlier / N_BINS)


@pytest.mark.parametrize("method", CLIPPING)
def test_one_outlier_among_many_is_clipped_by_what_looks_at_all_values(method: RangeMethod) -> None:
    values = np.append(relu(normal(n=1_000_000)), 15.0)
    found = choose_range(method, observe(values), 255)
    assert 2.5 < found.high < 12
    assert choose_range("minmax", observe(values), 255).high == 15


@pytest.mark.parametrize(("n", "least", "most"), [(10_000, 80, 100), (8_000_000, 3, 10)])
def test_mse_clips_a_far_outlier_once_the_others_outweigh_it(n: int, least: float, most: float) -> None:
    tenth = relu(normal(n=n // 10)).astype(np.float32)
    found = choose_range("mse", observe(np.append(np.tile(tenth, 10), np.float32(100))), 255)
    assert least < found.high <= most


@pytest.mark.parametrize("method", SEARCHES)
def test_values_spread_evenly_keep_nearly_their_whole_range(method: RangeMethod) -> None:
    found = choose_range(method, observe(np.linspace(-1, 1, 50_000)), 255)
    assert found.high > 0.97
    assert found.low == pytest.approx(-found.high)


def test_symmetric_integers_waste_half_on_a_relu_so_mse_clips_it_as_with_one_bit_less() -> None:
    values = relu(normal(n=100_000))
    symmetric = choose_range("mse", observe(values), 254, symmetric=True)
    assert symmetric.high == pytest.approx(choose_range("mse", observe(values), 127).high, rel=0.02)
