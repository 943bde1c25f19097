"""Lanes: what meets shares a set, and a set is fixed with one of its lanes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.quantization.scale_lanes import LaneTable, align, compress, only_on_axis, reshape


@given(pairs=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=20))
def test_sets_are_the_connected_components_of_what_met(pairs: list[tuple[int, int]]) -> None:
    table = LaneTable()
    lanes = table.new((12,))
    members = [{lane} for lane in range(12)]
    for one, other in pairs:
        table.join(lanes[one : one + 1], lanes[other : other + 1])
        union = members[one] | members[other]
        for lane in union:
            members[lane] = union
    for one in range(12):
        for other in range(12):
            assert (table.root(one) == table.root(other)) == (other in members[one])


def test_lanes_meet_as_onnx_broadcasts() -> None:
    table = LaneTable()
    channels, single = table.new((1, 3, 1, 1)), table.new((1, 1))
    table.join(channels, align(single, 4))
    assert len(np.unique(table.roots(channels))) == 1
    assert table.root(int(single[0, 0])) == table.root(int(channels[0, 0, 0, 0]))


def test_a_set_is_fixed_with_one_of_its_lanes_and_keeps_the_first_reason() -> None:
    table = LaneTable()
    first, second = table.new((2,)), table.new((2,))
    table.fix(second, "late")
    assert table.reason(int(first[0])) is None
    table.join(first[:1], second[:1])
    assert table.reason(int(first[0])) == "late"
    table.fix(first, "later still")
    assert table.reason(int(first[0])) == "late"
    assert table.reason(int(first[1])) == "later still"
    assert table.is_fixed(first)


def test_a_set_with_a_free_lane_is_not_fixed() -> None:
    table = LaneTable()
    lanes = table.new((2,))
    table.fix(lanes[:1], "one")
    assert not table.is_fixed(lanes)


def test_a_fixed_tensor_has_one_lane() -> None:
    table = LaneTable()
    lanes = table.new_fixed(4, "why")
    assert (lanes.shape, table.is_fixed(lanes), len(table)) == ((1, 1, 1, 1), True, 1)


@given(channels=st.integers(1, 4), height=st.integers(1, 3), width=st.integers(1, 3))
def test_flattening_repeats_each_lane_for_each_pixel(channels: int, height: int, width: int) -> None:
    lanes = LaneTable().new((1, channels, 1, 1))
    flat = reshape(lanes, (1, channels, height, width), (1, channels * height * width))
    expected = np.repeat(np.arange(channels), height * width)
    np.testing.assert_array_equal(np.broadcast_to(flat, (1, expected.size))[0], expected)


def test_equal_lanes_along_an_axis_are_written_once() -> None:
    assert compress(np.array([[[1, 1], [2, 2]]])).tolist() == [[[1], [2]]]
    assert compress(np.zeros((2, 3), np.int64)).shape == (1, 1)


@pytest.mark.parametrize(("shape", "axis", "answer"), [((1, 4, 1), 1, True), ((1, 4), -1, True), ((1, 4, 2), 1, False)])
def test_lanes_differ_along_one_axis_or_not(shape: tuple[int, ...], axis: int, answer: bool) -> None:
    assert only_on_axis(LaneTable().new(shape), axis) is answer
