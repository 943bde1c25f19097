"""Sizes of convolutions are read off the graph, or it is said why their kernels cannot be shifted."""

from typing import Any

import numpy as np
import pytest

from edgecnn.rewriting.blocks import Convolution
from edgecnn.rewriting.convolution import read_convolution
from edgecnn.rewriting.editor import Editor
from tests.graphs import Shape, make_model, node

SHAPE: Shape = ("N", 3, 9, 8)


def read(shape: Shape = SHAPE, **attributes: Any) -> Convolution | str:
    model = make_model(
        [node("Conv", ["x", "w"], ["y"], **attributes)],
        {"w": np.ones((4, 3, 3, 2))},
        inputs={"x": shape},
        outputs={"y": ("N", 4, None, None)},
    )
    editor = Editor(model)
    return read_convolution(editor, editor.nodes[0], (3, 2))


def test_what_is_not_said_has_its_default() -> None:
    assert read() == Convolution(input=(9, 8), output=(7, 7), kernel=(3, 2), strides=(1, 1), pads=(0, 0, 0, 0))
    assert read(auto_pad="VALID") == read(auto_pad="NOTSET") == read()


def test_strides_are_down_and_across_and_pads_top_left_bottom_right() -> None:
    found = read(strides=[2, 3], pads=[1, 0, 2, 3])
    assert found == Convolution(input=(9, 8), output=(5, 4), kernel=(3, 2), strides=(2, 3), pads=(1, 0, 2, 3))


@pytest.mark.parametrize(
    ("shape", "how", "reason"),
    [
        (("N", 3, "H", 8), {}, "the image's size may vary"),
        (("N", 3, 9, "W"), {}, "the image's size may vary"),
        (SHAPE, {"auto_pad": "SAME_UPPER"}, "its padding is not written out"),
        (SHAPE, {"auto_pad": "SAME_LOWER"}, "its padding is not written out"),
        (SHAPE, {"dilations": [2, 1]}, "it is dilated"),
    ],
)
def test_a_kernel_that_cannot_be_shifted_says_why(shape: Shape, how: dict[str, Any], reason: str) -> None:
    assert read(shape, **how) == reason
