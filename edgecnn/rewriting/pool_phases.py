"""A float convolution with few outputs computes the places that a max pool compares as channels of their own.

    image -> Conv -> Relu -> MaxPool with windows side by side

becomes, with a kernel that is shifted for each place of a window and strides that go a window at a time,

    image -> Conv' -> Relu -> Reshape -> MaxPool over the places -> Reshape

The sums are the same sums, in another order: answers differ by rounding. It trades multiplications with zero for
kernels that are filled: six outputs leave most of a vector of sixteen empty, twenty-four do not.
"""

from typing import TYPE_CHECKING

import numpy as np

from edgecnn.rewriting.attributes import attribute, operator
from edgecnn.rewriting.blocks import Convolution, phase_weight
from edgecnn.rewriting.convolution import read_convolution
from edgecnn.rewriting.editor import Editor
from edgecnn.rewriting.pools import pool_window
from edgecnn.rewriting.site import Site

if TYPE_CHECKING:
    from onnx import NodeProto

NAME = "pool-phases"
#: Outputs that fill a vector of AVX-512; with as many there is nothing to gain.
FULL = 16


def split_phases(editor: Editor, nodes: "list[NodeProto]") -> list[Site]:
    """Rewrite each convolution with few outputs in front of a pool."""
    found = (_split(editor, node) for node in nodes if operator(node) == "Conv")
    return [site for site in found if site is not None]


def _split(editor: Editor, node: "NodeProto") -> Site | None:
    weight = editor.constant(node.input[1])
    bias = editor.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    relu = editor.only_reader(node.output[0])
    pool = editor.only_reader(relu.output[0]) if relu is not None and operator(relu) == "Relu" else None
    window = pool_window(pool) if pool is not None else None
    if weight is None or weight.dtype != np.float32 or weight.ndim != 4 or window in (None, (1, 1)):
        return None
    assert relu is not None
    assert pool is not None
    assert window is not None
    if len(node.input) > 2 and node.input[2] and bias is None:
        return None
    if attribute(node, "group", 1) != 1 or len(weight) >= FULL:
        return None
    conv = read_convolution(editor, node, weight.shape[2:])
    if isinstance(conv, str):
        return Site(rewrite=NAME, node=node.name, applied=False, reason=conv)
    if conv.output[0] % window[0] or conv.output[1] % window[1]:
        return Site(rewrite=NAME, node=node.name, applied=False, reason="the pool leaves out some of its outputs")
    places = window[0] * window[1]
    kernel, strides = phase_weight(weight, conv, window), (conv.strides[0] * window[0], conv.strides[1] * window[1])
    inputs = [node.input[0], editor.add_constant(f"{node.output[0]}.phases_weight", kernel)]
    if bias is not None:
        inputs.append(editor.add_constant(f"{node.output[0]}.phases_bias", np.tile(bias, places)))
    attributes = {
        "kernel_shape": kernel.shape[2:],
        "strides": strides,
        "pads": phase_pads(conv, kernel.shape[2:], window),
    }
    made = editor.inherit(editor.add("Conv", inputs, f"{node.output[0]}.phases", attributes), node)
    made = editor.add("Relu", [made], relu.output[0])
    _compare(editor, made, (len(weight), conv.output[0] // window[0], conv.output[1] // window[1]), places, pool)
    return Site(
        rewrite=NAME,
        node=node.name,
        applied=True,
        reason=f"{len(kernel)} outputs in place of {len(weight)}, compared by {pool.name}",
    )


def _compare(editor: Editor, made: str, sizes: tuple[int, int, int], places: int, pool: "NodeProto") -> None:
    """Take the largest over the places, which are the slowest of the channels, in place of a pool."""
    stem, (channels, height, width) = f"{pool.output[0]}.phases", sizes
    side_by_side = editor.add_constant(f"{stem}_sizes", np.array((-1, 1, places, channels * height * width), np.int64))
    image = editor.add_constant(f"{stem}_image", np.array((-1, *sizes), np.int64))
    viewed = editor.add("Reshape", [made, side_by_side], f"{stem}_view")
    window = {"kernel_shape": (places, 1), "strides": (places, 1)}
    largest = editor.add("MaxPool", [viewed], f"{stem}_largest", window)
    editor.remove(pool)
    editor.add_as(pool.output[0], "Reshape", [largest, image])


def phase_pads(conv: Convolution, kernel: tuple[int, ...], window: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return the padding with which the shifted kernels reach just what the convolution reached."""
    top, left, _, _ = conv.pads
    ends = []
    for axis, before in ((0, top), (1, left)):
        steps, stride = conv.output[axis] // window[axis], conv.strides[axis] * window[axis]
        ends.append(max(0, (steps - 1) * stride + kernel[axis] - conv.input[axis] - before))
    return top, left, ends[0], ends[1]
