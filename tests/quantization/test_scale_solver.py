"""The solver against the paper's own formula, and where several layers share a channel."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.quantization.scale_solver import MAX_LOG2_SCALE, Block, Float64, Solution, solve


def block(weights: Float64, outputs: list[int], inputs: list[int]) -> Block:
    with np.errstate(divide="ignore"):
        return Block(
            log2_range=np.log2(np.abs(weights))[None],
            log2_bias=np.full((1, len(outputs)), -np.inf),
            outputs=np.array([outputs]),
            inputs=np.array([inputs]),
        )


def run(blocks: list[Block], n_sets: int, *, fixed: tuple[int, ...] = (), power_of_two: bool = False,
        ceiling: Float64 | None = None, components: list[int] | None = None) -> Solution:  # fmt: skip
    free = np.array([index not in fixed for index in range(n_sets)])
    return solve(
        blocks,
        free,
        np.array(components or [0] * n_sets),
        np.full(n_sets, np.inf) if ceiling is None else ceiling,
        power_of_two=power_of_two,
    )


def normalized(scale: Float64) -> Float64:
    return np.asarray(scale / np.exp(np.log(scale).mean()), np.float64)


@given(seed=st.integers(0, 999), channels=st.integers(1, 6))
def test_two_layers_get_the_scales_of_the_paper(seed: int, channels: int) -> None:
    random = np.random.default_rng(seed)
    first, second = (np.exp(random.normal(0, 3, shape)) for shape in ((channels, 3), (2, channels)))
    fixed = channels
    found = run(
        [block(first, list(range(channels)), [fixed] * 3), block(second, [fixed] * 2, list(range(channels)))],
        channels + 1,
        fixed=(fixed,),
    )
    r_first, r_second = first.max(1), second.max(0)
    paper = np.sqrt(r_first * r_second) / r_first  # the factor that the first layer's channel is multiplied by
    assert found.converged
    np.testing.assert_allclose(np.exp2(found.log2_scale[:channels]), normalized(paper), rtol=2e-3)
    assert found.log2_scale[fixed] == 0


@given(seed=st.integers(0, 999))
def test_three_layers_end_with_equal_ranges_on_both_sides(seed: int) -> None:
    random = np.random.default_rng(seed)
    layers = [np.exp(random.normal(0, 2, shape)) for shape in ((4, 3), (5, 4), (2, 5))]
    sets = [[9] * 3, [0, 1, 2, 3], [4, 5, 6, 7, 8], [9] * 2]
    found = run(
        [block(w, sets[place + 1], sets[place]) for place, w in enumerate(layers)],
        10,
        fixed=(9,),
        components=[0] * 4 + [1] * 5 + [2],
    )
    scale = np.exp2(found.log2_scale)
    scaled = [w * scale[sets[place + 1]][:, None] / scale[sets[place]] for place, w in enumerate(layers)]
    for made, read in itertools.pairwise(scaled):
        ratio = made.max(1) / read.max(0)
        np.testing.assert_allclose(ratio, np.full(len(ratio), ratio[0]), rtol=0.02)


def test_factors_between_layers_are_undone() -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(size=(6, 3)), random.normal(size=(4, 6))
    factor = np.exp(random.uniform(-4, 4, 6))
    answers = []
    for f in (np.ones(6), factor):
        found = run([block(first * f[:, None], list(range(6)), [6] * 3), block(second / f, [6] * 4, list(range(6)))],
                    7, fixed=(6,))  # fmt: skip
        answers.append(normalized(np.exp2(found.log2_scale[:6]) * f))
    np.testing.assert_allclose(answers[1], answers[0], rtol=2e-3)


def test_a_channel_of_two_makers_gets_the_geometric_mean_of_their_ranges() -> None:
    made = [np.array([[8.0], [1.0]]), np.array([[2.0], [1.0]])]
    read = np.array([[1.0, 1.0]])
    found = run([*(block(w, [0, 1], [2]) for w in made), block(read, [2], [0, 1])], 3, fixed=(2,))
    assert found.log2_scale[0] - found.log2_scale[1] == pytest.approx(0.5 * (np.log2(1.0) - np.log2(4.0)), abs=2e-3)


def test_a_layer_that_reads_what_it_adds_to_comes_to_rest() -> None:
    found = run([block(np.array([[1e-9, 64.0], [1.0, 1e-9]]), [0, 1], [0, 1])], 2)
    assert found.converged
    assert found.log2_scale[1] - found.log2_scale[0] == pytest.approx(3.0, abs=0.01)  # 64 / 8 = 1 * 8


def test_a_set_that_occurs_several_times_in_a_layer_counts_once() -> None:
    read = np.array([[1.0, 4.0, 0.5, 1.0]])  # features 0 and 1 are channel 0
    found = run([block(np.array([[1.0], [1.0]]), [0, 1], [2]), block(read, [2], [0, 0, 1, 1])], 3, fixed=(2,))
    assert found.log2_scale[0] - found.log2_scale[1] == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize("dead_side", ["made", "read"])
def test_a_dead_channel_keeps_its_scale_and_does_not_move_the_others(dead_side: str) -> None:
    made, read = np.array([[4.0], [1.0], [3.0]]), np.array([[1.0, 1.0, 7.0]])
    if dead_side == "made":
        made[2] = 0
    else:
        read[:, 2] = 0
    found = run([block(made, [0, 1, 2], [3]), block(read, [3], [0, 1, 2])], 4, fixed=(3,))
    assert found.dead.tolist() == [False, False, True, False]
    assert found.log2_scale[2] == 0
    np.testing.assert_allclose(found.log2_scale[:2], [-0.5, 0.5], atol=2e-3)


def test_what_no_layer_reads_is_dead() -> None:
    found = run([block(np.ones((1, 1)), [0], [1])], 2, fixed=(1,))
    assert found.dead.tolist() == [True, False]


def test_powers_of_two_are_whole_logarithms() -> None:
    random = np.random.default_rng(0)
    blocks = [block(np.exp(random.normal(0, 3, (5, 1))), [0, 1, 2, 3, 4], [5]),
              block(np.exp(random.normal(0, 3, (1, 5))), [5], [0, 1, 2, 3, 4])]  # fmt: skip
    exact, rounded = (run(blocks, 6, fixed=(5,), power_of_two=power).log2_scale for power in (False, True))
    np.testing.assert_array_equal(rounded, np.rint(rounded))
    assert np.abs(rounded - exact).max() <= 0.5
    assert np.abs(rounded - exact).max() > 0.1


def test_scales_are_bounded() -> None:
    found = run([block(np.array([[1e30], [1e-30]]), [0, 1], [2]), block(np.ones((1, 2)), [2], [0, 1])], 3, fixed=(2,))
    np.testing.assert_array_equal(found.log2_scale, [-MAX_LOG2_SCALE, MAX_LOG2_SCALE, 0])


@pytest.mark.parametrize(("power_of_two", "expected"), [(False, 0.75), (True, 0.0)])
def test_a_ceiling_is_kept(power_of_two: bool, expected: float) -> None:
    blocks = [block(np.array([[1.0], [16.0]]), [0, 1], [2]), block(np.ones((1, 2)), [2], [0, 1])]
    ceiling = np.array([0.75, np.inf, np.inf])
    found = run(blocks, 3, fixed=(2,), ceiling=ceiling, power_of_two=power_of_two)
    np.testing.assert_allclose(found.log2_scale, [expected, -1.0, 0], atol=2e-3)


def test_nothing_to_scale_is_no_error() -> None:
    found = run([block(np.ones((2, 2)), [0, 0], [0, 0])], 1, fixed=(0,))
    assert found.log2_scale.tolist() == [0]
    assert found.converged
