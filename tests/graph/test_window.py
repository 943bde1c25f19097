"""Kernel, stride and padding, and the arithmetic of sizes: whether it is what PyTorch and ONNX Runtime do."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

from edgecnn.errors import ModelError
from edgecnn.graph.window import Window, pool_sizes, read_window, size_arithmetic
from tests.graphs import evaluate, make_model, node

WEIGHT = (4, 3, 3, 5)


def conv(**attributes: Any) -> Window:
    return read_window(node("Conv", ["x", "w"], ["y"], **attributes), (1, 3, 9, 8), (1, 4, 5, 4), WEIGHT, "net.onnx")


def window(**changes: Any) -> Window:
    plain: dict[str, Any] = {
        "kernel": (5, 5), "stride": (1, 1), "pads_before": (0, 0), "pads_after": (0, 0), "dilation": (1, 1),
        "groups": 1, "rounds_up": False, "transposed": False, "output_padding": (0, 0),
    }  # fmt: skip
    return Window(**(plain | changes))


def test_defaults_come_from_the_kernel() -> None:
    assert conv() == window(kernel=(3, 5))


def test_everything_that_a_node_may_say() -> None:
    found = conv(strides=[2, 3], pads=[1, 0, 2, 4], dilations=[1, 2], group=1, kernel_shape=[3, 5])
    expected = window(kernel=(3, 5), stride=(2, 3), pads_before=(1, 0), pads_after=(2, 4), dilation=(1, 2))
    assert found == expected


@pytest.mark.parametrize(
    ("mode", "before", "after"),
    [("SAME_UPPER", (1, 1), (1, 2)), ("SAME_LOWER", (1, 2), (1, 1)), ("VALID", (0, 0), (0, 0))],
)
def test_automatic_pads_are_said_in_numbers(mode: str, before: tuple[int, int], after: tuple[int, int]) -> None:
    found = conv(auto_pad=mode, strides=[2, 2])
    assert (found.pads_before, found.pads_after) == (before, after)


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"group": 3}, r"weights \[4, 3, 3, 5\] in 3 groups, which do not fit its input of 3 channels"),
        ({"group": 0}, "in 0 groups"),
        ({"kernel_shape": [3, 3]}, r"its kernel \[3, 3\]"),
        ({"strides": [1, -2]}, r"strides \[1, -2\]"),
        ({"dilations": [0, 1]}, r"dilations \[0, 1\]"),
    ],
)
def test_what_no_runtime_takes_is_refused(attributes: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=rf"net\.onnx: Conv make_y has .*{words}") as caught:
        conv(**attributes)
    assert caught.value.next_step


# The arithmetic.


def test_the_formula_with_its_numbers() -> None:
    assert size_arithmetic(window(), (32, 32), (28, 28)) == ("(32 - 5 + 2*0)/1 + 1 = 28", "")


def test_what_is_left_over_is_cut_off_and_seen() -> None:
    seven = window(kernel=(7, 7), stride=(2, 2), pads_before=(3, 3), pads_after=(3, 3))
    assert size_arithmetic(seven, (224, 224), (112, 112)) == ("(224 - 7 + 2*3)/2 + 1 = 112.5 → 112", "")


def test_pads_of_one_side_dilation_and_other_widths_are_spelled_out() -> None:
    odd = window(kernel=(3, 5), pads_before=(0, 2), pads_after=(1, 2), dilation=(2, 1))
    text, doubt = size_arithmetic(odd, (16, 20), (13, 20))
    assert text == "H: (16 - (2*(3 - 1) + 1) + 0 + 1)/1 + 1 = 13; W: (20 - 5 + 2*2)/1 + 1 = 20"
    assert doubt == ""


def test_a_size_that_was_rounded_up_is_a_doubt() -> None:
    pool = window(kernel=(3, 3), stride=(2, 2), rounds_up=True)
    text, doubt = size_arithmetic(pool, (112, 113), (56, 56))
    assert text == "H: (112 - 3 + 2*0)/2 + 1 = 55.5 → 55, in the graph 56; W: (113 - 3 + 2*0)/2 + 1 = 56"
    assert doubt == "H is 56 in the graph, not 55 (ceil_mode)"


def test_a_size_that_does_not_follow_at_all_is_a_doubt_without_a_reason() -> None:
    assert size_arithmetic(window(), (32,), (30,))[1] == "axis 0 is 30 in the graph, not 28"


def test_a_transposed_convolution_runs_backwards() -> None:
    backwards = window(
        kernel=(3, 3), stride=(2, 2), pads_before=(1, 1), pads_after=(1, 1), transposed=True, output_padding=(1, 1)
    )
    assert size_arithmetic(backwards, (7, 7), (14, 14)) == ("(7 - 1)*2 - 2*1 + 3 + 1 = 14", "")


SIZES = st.integers(1, 4)
OPERATORS = st.sampled_from(["Conv", "MaxPool", "AveragePool", "LpPool", "ConvTranspose"])


@given(data=st.data(), op=OPERATORS)
def test_the_arithmetic_gives_the_size_that_is_really_made(data: st.DataObject, op: str) -> None:
    kernel = data.draw(st.tuples(SIZES, SIZES))
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": data.draw(st.tuples(SIZES, SIZES))}
    if op.startswith("Conv"):
        attributes |= {"dilations": data.draw(st.tuples(SIZES, SIZES))}
        attributes["pads"] = data.draw(st.tuples(*[st.integers(0, 3)] * 4))
    else:
        attributes["pads"] = [data.draw(st.integers(0, kernel[index % 2] - 1)) for index in range(4)]
        attributes["ceil_mode"] = data.draw(st.integers(0, 1))
    weight = {"Conv": (1, 1, *kernel), "ConvTranspose": (1, 1, *kernel)}.get(op)
    layer = node(op, ["x", *(["w"] if weight else [])], ["y"], **attributes)
    constants = {} if weight is None else {"w": np.ones(weight, np.float32)}
    source = (1, 1, *data.draw(st.tuples(st.integers(5, 14), st.integers(5, 14))))
    try:
        made = evaluate(make_model([layer], constants, inputs={"x": source}), {"x": np.ones(source, np.float32)})
    except (Fail, InvalidArgument, RuntimeException):  # nothing is left of the image
        return
    output = made[0].shape
    if 0 in output:
        return
    found = read_window(layer, source, output, weight, "net.onnx")
    text, doubt = size_arithmetic(found, source[2:], output[2:])
    if not found.rounds_up:
        assert doubt == ""
    for axis, part in enumerate((text if "; " in text else f"{text}; {text}").split("; ")):
        formula, _, rest = part.removeprefix("H: ").removeprefix("W: ").partition(" = ")
        value = float(eval(formula))
        numbers = [float(number) for number in re.findall(r"[\d.]+", rest)]
        assert numbers[0] == pytest.approx(value, abs=1e-3)
        assert numbers[-1] == output[2 + axis]
        assert int(value) == (numbers[1] if len(numbers) > 1 else numbers[0])


@given(data=st.data(), op=st.sampled_from(["MaxPool", "AveragePool", "LpPool"]))
def test_pools_that_round_up_are_as_large_as_runtimes_make_them(data: st.DataObject, op: str) -> None:
    kernel = data.draw(st.tuples(SIZES, SIZES))
    pads = [data.draw(st.integers(0, kernel[index % 2] - 1)) for index in range(4)]
    strides = data.draw(st.tuples(SIZES, SIZES))
    pool = node(op, ["x"], ["y"], kernel_shape=kernel, pads=pads, strides=strides, ceil_mode=1)
    source = (1, 1, *data.draw(st.tuples(st.integers(4, 14), st.integers(4, 14))))
    (made,) = evaluate(make_model([pool], {}, inputs={"x": source}), {"x": np.ones(source, np.float32)})
    assert pool_sizes(pool, source, (1, 1, 0, 0), "net.onnx") == made.shape
