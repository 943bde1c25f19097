"""Rounding up or down: never worse than nearest, and against every choice there is."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.quantization.flip_descent import Float64, round_by_descent, round_with_feedback, squared_errors


def moments(random: np.random.Generator, groups: int, n: int, samples: int = 40) -> Float64:
    """Return second moments of correlated, mostly positive inputs."""
    x = np.maximum(random.normal(size=(groups, samples, n)) @ random.normal(size=(n, n)) + 0.5, 0)
    return np.asarray(x.swapaxes(1, 2) @ x / samples + 0.01 * np.eye(n), np.float64)


def error(rounded: Float64, exact: Float64, gram: Float64) -> Float64:
    """Return d^T G d for each output, one at a time."""
    result = np.empty(exact.shape[:2])
    for group, output in np.ndindex(*result.shape):
        d = rounded[group, output] - exact[group, output]
        result[group, output] = d @ gram[group] @ d
    return result


@given(seed=st.integers(0, 9999), groups=st.integers(1, 3), outputs=st.integers(1, 4), n=st.integers(1, 12))
def test_squared_errors_are_those_of_one_output_at_a_time(seed: int, groups: int, outputs: int, n: int) -> None:
    random = np.random.default_rng(seed)
    exact, gram = random.normal(size=(groups, outputs, n)), moments(random, groups, n)
    np.testing.assert_allclose(squared_errors(exact, gram), error(exact, np.zeros_like(exact), gram), rtol=1e-9)


@given(seed=st.integers(0, 9999), groups=st.integers(1, 3), outputs=st.integers(1, 5), n=st.integers(1, 90))
def test_weights_are_rounded_up_or_down_and_no_output_is_worse_than_nearest(
    seed: int, groups: int, outputs: int, n: int
) -> None:
    random = np.random.default_rng(seed)
    exact, gram = 20 * random.normal(size=(groups, outputs, n)), moments(random, groups, n)
    rounded = round_by_descent(exact, gram, -64, 64)
    nearest = np.clip(np.rint(exact), -64, 64)
    assert (rounded == np.rint(rounded)).all()
    assert (np.abs(rounded - np.clip(exact, -64, 64)) < 1).all()
    assert (error(rounded, exact, gram) <= error(nearest, exact, gram) * (1 + 1e-9)).all()


@given(seed=st.integers(0, 9999))
def test_no_single_flip_would_help(seed: int) -> None:
    random = np.random.default_rng(seed)
    exact, gram = 5 * random.normal(size=(1, 3, 8)), moments(random, 1, 8)
    rounded = round_by_descent(exact, gram, -64, 64)
    before = error(rounded, exact, gram)
    for index in range(8):
        flipped = rounded.copy()
        flipped[..., index] = np.floor(exact[..., index]) + np.ceil(exact[..., index]) - rounded[..., index]
        assert (error(flipped, exact, gram) >= before * (1 - 1e-6)).all()


def test_it_comes_close_to_the_best_of_all_choices() -> None:
    ratios = []
    for seed in range(30):
        random = np.random.default_rng(seed)
        exact, gram = 5 * random.normal(size=(1, 1, 8)), moments(random, 1, 8)
        choices = np.array(list(itertools.product([0, 1], repeat=8))) + np.floor(exact[0])
        best = error(choices[None], np.broadcast_to(exact, (1, 256, 8)), gram).min()
        found = error(round_by_descent(exact, gram, -64, 64), exact, gram).item()
        nearest = error(np.rint(exact), exact, gram).item()
        assert best <= found * (1 + 1e-9)
        ratios.append((found / best, nearest / best))
    found_ratio, nearest_ratio = np.mean(ratios, axis=0)
    assert found_ratio < 1.2
    assert nearest_ratio > 2


def test_uncorrelated_inputs_leave_nearest() -> None:
    exact = 9 * np.random.default_rng(0).normal(size=(2, 3, 20))
    gram = np.stack([np.diag(np.arange(1.0, 21)), np.eye(20)])
    np.testing.assert_array_equal(round_by_descent(exact, gram, -64, 64), np.rint(exact))


def test_two_equal_inputs_share_their_error() -> None:
    exact = np.array([[[0.4, 0.4]]])  # nearest: 0 + 0, off by 0.8; best: 1 + 0, off by 0.2
    gram = np.array([[[1.0, 1.0], [1.0, 1.0]]]) + 1e-6 * np.eye(2)
    assert round_by_descent(exact, gram, -64, 64).sum() == 1


@given(seed=st.integers(0, 999), high=st.integers(1, 5))
def test_integers_stay_within_the_limits(seed: int, high: int) -> None:
    random = np.random.default_rng(seed)
    exact, gram = high * random.normal(size=(1, 3, 6)), moments(random, 1, 6)
    rounded = round_by_descent(exact, gram, -high, high)
    assert np.abs(rounded).max() <= high
    outside = np.abs(exact) > high
    np.testing.assert_array_equal(rounded[outside], np.sign(exact[outside]) * high)


@pytest.mark.parametrize("n", [1, 5, 64, 65, 150])
def test_feedback_in_blocks_is_feedback_weight_by_weight(n: int) -> None:
    random = np.random.default_rng(n)
    exact, gram = 10 * random.normal(size=(2, 3, n)), moments(random, 2, n, samples=400)
    found = round_with_feedback(exact, gram, -64, 64)
    order = np.argsort(-np.einsum("gnn->n", gram), kind="stable")
    for group, output in np.ndindex(2, 3):
        goal, chosen = exact[group, output].copy(), {}
        for place, index in enumerate(order):
            ends = np.floor(exact[group, output, index]), np.ceil(exact[group, output, index])
            chosen[index] = min(ends, key=lambda end: abs(end - goal[index]))
            rest = order[place + 1 :]
            shift = chosen[index] - goal[index]  # the others move to the minimum of d^T G d, this one held
            if len(rest):
                goal[rest] -= np.linalg.solve(gram[group][np.ix_(rest, rest)], gram[group][rest, index] * shift)
        np.testing.assert_array_equal(found[group, output], [chosen[index] for index in range(n)])
