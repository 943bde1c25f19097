"""The choice among measured ones: objective, ties, the drop budget and the Pareto front."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.measure.race import Standing
from edgecnn.quantization.recipes import recipe
from edgecnn.stats import Comparison
from edgecnn.tuning.candidate import STOCK, Candidate
from edgecnn.tuning.choice import Row, best, holds, mark_front
from edgecnn.tuning.maker import Made

INT8 = recipe("u8s8-perchannel-minmax-reduced")
WAVE = [1.1, 0.9] * 5


def drop(points: float) -> Comparison:
    return Comparison(delta=points, low=points - 0.3, high=points + 0.3)


def row(
    candidate: Candidate, cost: float, *, size: int = 100, noisy: bool = False, points: float | None = 0.0,
    dropped: int | None = None,
) -> Row:  # fmt: skip
    costs = tuple(cost * wave for wave in (WAVE if noisy else [1.0] * 10))
    ratio = Comparison(delta=cost / 20, low=cost / 20, high=cost / 20)
    standing = Standing(name=candidate.name, costs=costs, against_reference=ratio, dropped_after=dropped)
    made = Made(
        candidate=candidate,
        data=b"x" * size,
        plain=b"",
        float_layers=(),
        drop_pp=None if points is None else drop(points),
    )
    return Row(stage="recipes", candidate=candidate, made=made, standing=standing)


PLAIN, BLOCKED = Candidate(recipe=INT8), Candidate(recipe=INT8, rewrites=("blocked",))


@pytest.mark.parametrize("objective", ["latency", "throughput"])
def test_the_fastest_is_taken(objective: str) -> None:
    chosen, note = best([row(PLAIN, 12), row(BLOCKED, 10)], "latency" if objective == "latency" else "throughput")
    assert (chosen.candidate, note) == (BLOCKED, None)


def test_where_no_difference_could_be_measured_the_simpler_one_is_taken_and_that_is_said() -> None:
    chosen, note = best([row(PLAIN, 10.2, noisy=True), row(BLOCKED, 10)], "latency")
    assert chosen.candidate == PLAIN
    assert note == (
        f"no difference could be measured between {BLOCKED.name} and {PLAIN.name}; the simpler one was taken"
    )


def test_equally_simple_ones_keep_the_order_in_which_they_were_tried() -> None:
    first, second = Candidate(recipe=INT8, rewrites=("a",)), Candidate(recipe=INT8, rewrites=("b",))
    assert best([row(first, 10, noisy=True), row(second, 10)], "latency")[0].candidate == first
    assert best([row(second, 10, noisy=True), row(first, 10)], "latency")[0].candidate == second


def test_who_was_dropped_is_not_taken_however_simple() -> None:
    chosen, _ = best([row(PLAIN, 10.0, noisy=True, dropped=6), row(BLOCKED, 10)], "latency")
    assert chosen.candidate == BLOCKED


def test_for_size_the_smallest_is_taken_even_if_it_was_dropped_for_being_slow() -> None:
    chosen, _ = best([row(PLAIN, 30, size=100, dropped=6), row(BLOCKED, 10, size=110)], "size")
    assert chosen.candidate == PLAIN


def test_sizes_that_differ_by_less_than_a_hundredth_are_equal() -> None:
    chosen, _ = best([row(PLAIN, 30, size=1000), row(BLOCKED, 10, size=1010)], "size")
    assert chosen.candidate == BLOCKED
    chosen, _ = best([row(PLAIN, 30, size=1000), row(BLOCKED, 10, size=1011)], "size")
    assert chosen.candidate == PLAIN


@pytest.mark.parametrize(
    ("points", "budget", "fits"), [(0.5, 0.5, True), (2.9000000000000004, 2.9, True), (0.51, 0.5, False)]
)
def test_a_budget_is_held_in_decimals(points: float, budget: float, fits: bool) -> None:
    assert holds(drop(points), budget) is fits


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3), st.integers(1, 4)), min_size=1, max_size=8))
def test_the_front_is_what_no_other_beats(points: list[tuple[int, int, int]]) -> None:
    rows = [
        row(Candidate(rewrites=(str(index),)), cost, points=lost, size=size)
        for index, (cost, lost, size) in enumerate(points)
    ]
    found = {index for index, one in enumerate(mark_front(rows)) if one.on_front}
    expected = set(range(len(points)))
    for mine, its in itertools.permutations(range(len(points)), 2):
        a, b = points[mine], points[its]
        if all(x <= y for x, y in zip(a, b, strict=True)) and a != b:
            expected.discard(its)
    assert found == expected


def test_a_candidate_stands_on_the_front_by_its_last_judged_row() -> None:
    rows = [
        row(STOCK, 20),
        row(PLAIN, 10, points=0.1),
        row(PLAIN, 12, points=0.1),
        row(PLAIN, 11, points=None),
    ]
    assert [one.on_front for one in mark_front(rows)] == [True, False, True, False]


def test_what_was_not_measured_is_not_on_the_front() -> None:
    (found,) = mark_front([Row(stage="recipes", candidate=PLAIN, dropped="not tried: the time was over")])
    assert not found.on_front
