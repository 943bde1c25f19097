"""Pools whose windows lie side by side are told from all others."""

from typing import Any

import pytest
from onnx import helper

from edgecnn.rewriting.pools import pool_window


@pytest.mark.parametrize(
    ("how", "window"),
    [
        ({}, (2, 3)),
        ({"auto_pad": "VALID"}, (2, 3)),
        ({"pads": [0, 0, 0, 0], "dilations": [1, 1], "ceil_mode": 0}, (2, 3)),
        ({"strides": [1, 1]}, None),
        ({"strides": [3, 2]}, None),
        ({"pads": [0, 0, 0, 1]}, None),
        ({"dilations": [1, 2]}, None),
        ({"ceil_mode": 1}, None),
        ({"auto_pad": "SAME_UPPER"}, None),
        ({"kernel_shape": [2], "strides": [2]}, None),
    ],
)
def test_windows_lie_side_by_side(how: dict[str, Any], window: tuple[int, int] | None) -> None:
    attributes = {"kernel_shape": [2, 3], "strides": [2, 3]} | how
    assert pool_window(helper.make_node("MaxPool", ["x"], ["y"], **attributes)) == window


def test_windows_go_one_pixel_at_a_time_if_nothing_is_said() -> None:
    assert pool_window(helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2])) is None
    assert pool_window(helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[1, 1])) == (1, 1)


def test_other_operators_and_pools_that_say_where_are_none() -> None:
    same: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}
    assert pool_window(helper.make_node("AveragePool", ["x"], ["y"], **same)) is None
    assert pool_window(helper.make_node("MaxPool", ["x"], ["y", "places"], **same)) is None
    assert pool_window(helper.make_node("MaxPool", ["x"], ["y"], domain="com.microsoft.nchwc", **same)) is None
