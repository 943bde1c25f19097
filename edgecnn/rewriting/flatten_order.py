"""A fully connected layer reads an image in the order it lies in memory.

    image -> Transpose to channels first -> Reshape or Flatten [-> DequantizeLinear] -> Gemm

becomes, with the rows of the weights in the other order,

    image -> Reshape [-> DequantizeLinear] -> Gemm

An image of integers that is one pixel has one order only. Said as channels last, it needs no transposition behind the
integer kernels, which all give channels last.
"""

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.rewriting.attributes import attribute, attributes, operator
from edgecnn.rewriting.editor import Editor
from edgecnn.rewriting.site import Site

if TYPE_CHECKING:
    from onnx import NodeProto

NAME = "flatten-order"
_TO_FIRST = [0, 3, 1, 2]


def reorder_flattened(editor: Editor, nodes: "list[NodeProto]") -> list[Site]:
    """Permute the weights behind each flattened image that was transposed for it alone."""
    sites = []
    for node in nodes:
        if operator(node) in ("Gemm", "MatMul"):
            site = _reorder(editor, node)
            if site is not None:
                sites.append(site)
    return sites


def _reorder(editor: Editor, node: "NodeProto") -> Site | None:
    reshape = _flattened(editor, node)
    sizes = editor.image_sizes(reshape.input[0]) if reshape is not None else None
    if reshape is None or sizes is None:
        return None
    channels, height, width = sizes
    transpose = editor.maker(reshape.input[0])
    if transpose is None or operator(transpose) != "Transpose":
        return _say_channels_last(editor, node, reshape) if height == width == 1 else None
    if attribute(transpose, "perm", []) != _TO_FIRST:
        return None
    order = np.arange(channels * height * width).reshape(channels, height, width).transpose(1, 2, 0).ravel()
    name = _permuted(editor, node, order)
    if name is None:
        return Site(
            rewrite=NAME,
            node=node.name,
            applied=False,
            reason="its weights are no matrix in the file, or not one scale an output",
        )
    with editor.changing(node):
        node.input[1] = name
    shape = editor.add_constant(f"{reshape.output[0]}.sizes", np.array((-1, order.size), np.int64))
    flat = editor.add("Reshape", [transpose.input[0], shape], f"{reshape.output[0]}.channels_last")
    editor.redirect(reshape.output[0], flat)
    return Site(rewrite=NAME, node=node.name, applied=True, reason="reads channels last; nothing is transposed for it")


def _flattened(editor: Editor, node: "NodeProto") -> "NodeProto | None":
    """Return what flattens an image for a layer, if nothing else reads what it makes."""
    if operator(node) == "Gemm" and attribute(node, "transA", 0):
        return None
    reshape = editor.maker(node.input[0])
    if reshape is not None and operator(reshape) == "DequantizeLinear":
        scale = editor.constant(reshape.input[1])
        if scale is None or scale.size != 1 or editor.only_reader(node.input[0]) is None:
            return None
        reshape = editor.maker(reshape.input[0])
    if reshape is None or editor.only_reader(reshape.output[0]) is None or not flattens(editor, reshape):
        return None
    return reshape


def _say_channels_last(editor: Editor, node: "NodeProto", reshape: "NodeProto") -> Site | None:
    """Flatten a single pixel of integers from channels last."""
    dequantize = editor.maker(node.input[0])
    if dequantize is None or operator(dequantize) != "DequantizeLinear":
        return None
    last = editor.add("Transpose", [reshape.input[0]], f"{reshape.output[0]}.last", {"perm": (0, 2, 3, 1)})
    with editor.changing(reshape):
        reshape.input[0] = last
    return Site(rewrite=NAME, node=node.name, applied=True, reason="reads its one pixel channels last")


def flattens(editor: Editor, reshape: "NodeProto") -> bool:
    """Tell whether a node makes rows of whole images."""
    if operator(reshape) not in ("Reshape", "Flatten"):
        return False
    if operator(reshape) == "Flatten":
        return bool(attribute(reshape, "axis", 1) == 1)
    shape, sizes = editor.constant(reshape.input[1]), editor.image_sizes(reshape.input[0])
    if shape is None or sizes is None or len(shape) != 2:
        return False
    each, batch = prod(sizes), (editor.sizes(reshape.input[0]) or (None,))[0]
    return tuple(shape) in {(-1, each), (0, each), (0, -1), (batch, each), (batch, -1)}


def _permuted(editor: Editor, node: "NodeProto", order: NDArray[Any]) -> str | None:
    """Add the weights with their inputs in another order; return the tensor's name."""
    axis = 1 if operator(node) == "Gemm" and attribute(node, "transB", 0) else 0
    values = editor.constant(node.input[1])
    if values is not None and values.ndim == 2:
        return editor.add_constant(f"{node.input[1]}.channels_last", np.take(values, order, axis))
    maker = editor.maker(node.input[1])
    if maker is None or operator(maker) != "DequantizeLinear" or attribute(maker, "block_size", 0):
        return None
    integers, scale = editor.constant(maker.input[0]), editor.constant(maker.input[1])
    if integers is None or integers.ndim != 2 or scale is None:
        return None
    if scale.size > 1 and attribute(maker, "axis", 1) % integers.ndim == axis:
        return None
    name = editor.add_constant(f"{maker.input[0]}.channels_last", np.take(integers, order, axis))
    return editor.add("DequantizeLinear", [name, *maker.input[1:]], f"{node.input[1]}.channels_last", attributes(maker))
