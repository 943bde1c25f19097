"""A quantized convolution of few channels becomes one of more channels and fewer columns.

    source -> DQ -> Conv -> Q [-> MaxPool] -> result

becomes, where ``T`` transposes to channels last and back, and cancels against its neighbours:

    source [-> Pad] -> T -> Reshape -> T -> DQ -> Conv' -> Q -> T -> Reshape -> T [-> MaxPool' -> T -> Reshape -> T]

The integers stay the same integers, so the answers do too, to the last bit.
"""

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.rewriting.attributes import attribute, operator
from edgecnn.rewriting.block_choice import choose_blocking, fits_kernels
from edgecnn.rewriting.blocks import Blocking, Convolution, blocked_weight, for_each_output
from edgecnn.rewriting.convolution import read_convolution
from edgecnn.rewriting.editor import Editor
from edgecnn.rewriting.pools import pool_window
from edgecnn.rewriting.quantized import (
    QuantizedConstant,
    QuantizedLayer,
    add_dequantize,
    add_quantized_constant,
    add_rounding,
    has_signed_symmetric_weights,
    quantized_layer,
    rounding_clips_as_much,
)
from edgecnn.rewriting.site import Site

if TYPE_CHECKING:
    from onnx import NodeProto

#: The first opset whose Pad takes integers.
_OPSET_PAD = 11
_LAST, _FIRST = {"perm": (0, 2, 3, 1)}, {"perm": (0, 3, 1, 2)}


def block_convolutions(editor: Editor, nodes: "list[NodeProto]", *, name: str, pad: bool) -> list[Site]:
    """Block each quantized convolution that gains by it and whose sizes divide.

    Args:
        editor: the graph.
        nodes: those to look at.
        name: of the pass, for what is said.
        pad: whether an image may be padded first, so that the kernel need not be widened for its padding.
    """
    found = (_block(editor, node, partial(Site, rewrite=name, node=node.name), pad=pad) for node in nodes)
    return [site for site in found if site is not None]


def _block(editor: Editor, node: "NodeProto", say: "partial[Site]", *, pad: bool) -> Site | None:
    layer = quantized_layer(editor, node) if operator(node) == "Conv" else None
    if layer is None or layer.weight.values.ndim != 4 or attribute(node, "group", 1) != 1:
        return None
    if not has_signed_symmetric_weights(layer):
        return say(applied=False, reason="its weights are not int8 around 0")
    if not rounding_clips_as_much(editor, layer):
        return say(applied=False, reason="its activation does more than rounding does, and keeps it float")
    if editor.is_output(layer.result):
        return say(applied=False, reason="its integers are an output of the graph")
    outputs, channels, *_ = layer.weight.values.shape
    fits = fits_kernels(channels, outputs)
    conv = read_convolution(editor, node, layer.weight.values.shape[2:])
    if isinstance(conv, str):
        return None if fits else say(applied=False, reason=conv)
    pool = _foldable_pool(editor, layer, conv)
    window = pool_window(pool) if pool is not None else None
    block = choose_blocking(conv, channels, outputs, window or (1, 1), pad=pad and editor.opset >= _OPSET_PAD)
    if block is None:
        reason = f"its sizes ({conv.input[1]} columns in, {conv.output[1]} out) do not divide into blocks that fit"
        return None if fits else say(applied=False, reason=reason)
    folded = pool if window is not None and block.rows == window[0] and block.columns % window[1] == 0 else None
    _emit(editor, layer, conv, block, folded)
    return say(
        applied=True,
        reason=f"{block.width} columns as {block.width * channels} channels, "
        f"{block.rows}x{block.columns} outputs as {block.rows * block.columns * outputs}"
        + (f", padded by {block.margins[0]} and {block.margins[1]} columns" if any(block.margins) else "")
        + (f", the pool {folded.name} folded in" if folded is not None else ""),
    )


def _foldable_pool(editor: Editor, layer: QuantizedLayer, conv: Convolution) -> "NodeProto | None":
    """Return a max pool on integers behind a layer whose windows are apart and cover all; None if there is none."""
    pool = editor.only_reader(layer.result)
    window = pool_window(pool) if pool is not None else None
    if window is None or conv.output[0] % window[0] or conv.output[1] % window[1]:
        return None
    return pool


def _emit(editor: Editor, layer: QuantizedLayer, conv: Convolution, block: Blocking, pool: "NodeProto | None") -> None:
    """Put the blocked form into the graph in place of a layer, and of the pool behind it where that is folded."""
    outputs = len(layer.weight.values)
    stem = f"{layer.result}.blocked"
    window = (pool_window(pool) if pool is not None else None) or (1, 1)
    viewed = _view_source(editor, layer, conv, block, stem)
    inputs = [add_dequantize(editor, viewed, layer.dequantize, f"{stem}_source")]
    weight = blocked_weight(layer.weight.values, conv, block, pool_columns=window[1])
    inputs.append(add_quantized_constant(editor, f"{stem}_weight", _spread(layer.weight, weight, block)))
    if layer.bias is not None:
        bias = _spread(layer.bias, for_each_output(layer.bias.values, block), block)
        inputs.append(add_quantized_constant(editor, f"{stem}_bias", bias))
    attributes = {"kernel_shape": block.kernel, "strides": block.strides, "pads": block.pads}
    made = editor.inherit(editor.add("Conv", inputs, f"{stem}_conv", attributes), layer.node)
    made = add_rounding(editor, made, layer, stem)
    height, width = conv.output[0] // block.rows, conv.output[1] // block.columns
    if pool is None:
        editor.redirect(layer.result, _view(editor, made, (height, conv.output[1], outputs), stem))
        return
    taken, apart = window[0] * window[1], block.columns // window[1]
    made = _view(editor, made, (height * width, taken, apart * outputs), stem)
    made = editor.add("MaxPool", [made], f"{stem}_pool", {"kernel_shape": (1, taken), "strides": (1, taken)})
    editor.redirect(pool.output[0], _view(editor, made, (height, width * apart, outputs), stem))


def _view_source(editor: Editor, layer: QuantizedLayer, conv: Convolution, block: Blocking, stem: str) -> str:
    """View what a layer reads in blocks, padded left and right by its zero point (which stands for 0) if need be."""
    channels = layer.weight.values.shape[1]
    left, right = block.margins
    sizes = (conv.input[0], (conv.input[1] + left + right) // block.width, block.width * channels)
    if not any(block.margins):
        return _view(editor, layer.source, sizes, stem)
    last = editor.add("Transpose", [layer.source], f"{stem}_last", _LAST)
    pads = editor.add_constant(f"{stem}_margins", np.array((0, 0, left, 0, 0, 0, right, 0), np.int64))
    padded = editor.add("Pad", [last, pads, layer.dequantize.input[2]], f"{stem}_padded")
    return _reshape(editor, padded, sizes, stem)


def _view(editor: Editor, tensor: str, sizes: tuple[int, int, int], stem: str) -> str:
    """View ``[N, C, H, W]`` as an image of other sizes (height, width, channels) in the same channels-last memory."""
    return _reshape(editor, editor.add("Transpose", [tensor], f"{stem}_last", _LAST), sizes, stem)


def _reshape(editor: Editor, last: str, sizes: tuple[int, int, int], stem: str) -> str:
    shape = editor.add_constant(f"{stem}_sizes", np.array((-1, *sizes), np.int64))
    return editor.add("Transpose", [editor.add("Reshape", [last, shape], f"{stem}_view")], f"{stem}_first", _FIRST)


def _spread(constant: QuantizedConstant, values: NDArray[Any], block: Blocking) -> QuantizedConstant:
    """Return blocked values with the scale and zero point that each of them had."""

    def spread(parameter: NDArray[Any]) -> NDArray[Any]:
        return parameter if parameter.size == 1 else for_each_output(parameter, block)

    zero_point = None if constant.zero_point is None else spread(constant.zero_point)
    return QuantizedConstant(values=values, scale=spread(constant.scale), zero_point=zero_point)
