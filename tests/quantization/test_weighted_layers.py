"""Layers seen alike: every operator's weights as [groups, outputs, inputs, kernel]."""

from typing import Any

import numpy as np
import pytest

from edgecnn.quantization.weighted_layers import attribute, layout
from tests.graphs import evaluate, make_model, node

#: Operator, attributes, shape of the weights, groups, and output and input of a weight stored at [3, 1].
ROWS: list[tuple[str, dict[str, Any], tuple[int, ...], int, int, int]] = [
    ("Conv", {}, (4, 6, 1, 1), 1, 3, 1),
    ("Conv", {"group": 2}, (4, 3, 1, 1), 2, 3, 4),
    ("Conv", {"group": 6}, (6, 1, 1, 1), 6, 3, 3),
    ("ConvTranspose", {}, (6, 4, 1, 1), 1, 1, 3),
    ("ConvTranspose", {"group": 2}, (6, 2, 1, 1), 2, 3, 3),
    ("Gemm", {}, (6, 4), 1, 1, 3),
    ("Gemm", {"transB": 1}, (4, 6), 1, 3, 1),
    ("MatMul", {}, (6, 4), 1, 1, 3),
]


@pytest.mark.parametrize(("op", "attributes", "shape", "groups", "output", "read"), ROWS)
def test_blocks_say_which_input_goes_to_which_output(
    op: str, attributes: dict[str, Any], shape: tuple[int, ...], groups: int, output: int, read: int
) -> None:
    one = node(op, ["x", "w"], ["y"], **attributes)
    weight = np.zeros(shape)
    weight[3, min(1, shape[1] - 1)] = 1
    blocks = layout(one).to_blocks(weight)
    assert blocks.shape[0] == groups
    ((group, o, i, _),) = np.argwhere(blocks)
    assert (group * blocks.shape[1] + o, group * blocks.shape[2] + i) == (output, read)
    feature = len(shape) == 2
    x = np.zeros((1, 6) if feature else (1, 6, 1, 1), np.float32)
    x[0, read] = 1
    model = make_model([one], {"w": weight}, inputs={"x": x.shape}, outputs={"y": [None] * x.ndim})
    (y,) = evaluate(model, {"x": x})
    assert np.flatnonzero(y).tolist() == [output]


@pytest.mark.parametrize(("op", "attributes", "shape"), [row[:3] for row in ROWS])
def test_blocks_go_back_to_where_they_came_from(op: str, attributes: dict[str, Any], shape: tuple[int, ...]) -> None:
    form = layout(node(op, ["x", "w"], ["y"], **attributes))
    weight = np.arange(np.prod(shape)).reshape(shape)
    np.testing.assert_array_equal(form.from_blocks(form.to_blocks(weight), shape), weight)


def test_an_attribute_that_is_absent_has_its_default() -> None:
    assert attribute(node("Conv", ["x", "w"], ["y"], group=3), "group", 1) == 3
    assert attribute(node("Conv", ["x", "w"], ["y"]), "group", 1) == 1
