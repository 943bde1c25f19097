"""What only moves integers about, or picks the largest, works on the integers themselves.

    integers -> DequantizeLinear -> MaxPool, Reshape, ... -> QuantizeLinear -> integers

with the same scale and zero point on both sides becomes

    integers -> MaxPool, Reshape, ... -> integers

and what only reshapes lets a layer before it give integers:

    layer -> Reshape, ... -> QuantizeLinear   becomes   layer -> QuantizeLinear -> Reshape, ...
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.rewriting.attributes import attributes, operator
from edgecnn.rewriting.editor import Editor
from edgecnn.rewriting.quantized import is_rounding
from edgecnn.rewriting.site import Site

if TYPE_CHECKING:
    from onnx import NodeProto

NAME = "integer-chain"
#: Operators that give some of the numbers they read, unchanged.
MOVERS = ("MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Concat", "Identity")
#: Those of them that give all they read: rounding before them is the same work as rounding behind them.
RESHAPERS = ("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity")
#: The first opset whose MaxPool takes eight bits.
_OPSET_INTEGER_POOL = 12
#: How many of a mover's inputs are images; the others are sizes and axes.
_ALL_IMAGES = ("Concat",)


def chain_integers(editor: Editor, nodes: "list[NodeProto]") -> list[Site]:
    """Take the integers past each mover between equal scales."""
    sites = []
    for node in nodes:
        if operator(node) in MOVERS and len(node.output) == 1 and _takes_integers(editor, node):
            site = _chain(editor, node)
            if site is not None:
                sites.append(site)
    return sites


def _takes_integers(editor: Editor, node: "NodeProto") -> bool:
    return operator(node) != "MaxPool" or editor.opset >= _OPSET_INTEGER_POOL


def _chain(editor: Editor, node: "NodeProto") -> Site | None:
    images = list(node.input) if operator(node) in _ALL_IMAGES else [node.input[0]]
    sources = [editor.maker(name) for name in images]
    quantize = editor.only_reader(node.output[0])
    if quantize is None or not is_rounding(editor, quantize, "QuantizeLinear"):
        return None
    if any(source is None or operator(source) != "DequantizeLinear" for source in sources):
        return _round_first(editor, node, quantize) if operator(node) in RESHAPERS else None
    after = [editor.constant(name) for name in quantize.input[1:]]
    for source in sources:
        before = [editor.constant(name) for name in source.input[1:]]  # type: ignore[union-attr]
        if not _same(before, after):
            return Site(rewrite=NAME, node=node.name, applied=False, reason="its two sides have scales of their own")
    editor.remove(quantize)
    with editor.changing(node):
        for place, source in enumerate(sources):
            node.input[place] = source.input[0]  # type: ignore[union-attr]
        node.output[0] = quantize.output[0]
    return Site(rewrite=NAME, node=node.name, applied=True, reason="works on integers")


def _round_first(editor: Editor, node: "NodeProto", quantize: "NodeProto") -> Site | None:
    """Let a layer's output be rounded before it is reshaped."""
    if editor.maker(node.input[0]) is None or editor.only_reader(node.input[0]) is None:
        return None
    kept = {name: value for name, value in attributes(quantize).items() if name != "axis"}
    result = quantize.output[0]
    rounded = editor.add("QuantizeLinear", [node.input[0], *quantize.input[1:]], f"{result}.first", kept)
    editor.remove(quantize)
    with editor.changing(node):
        node.input[0], node.output[0] = rounded, result
    return Site(rewrite=NAME, node=node.name, applied=True, reason="what it reads is rounded first")


def _same(before: "Sequence[NDArray[Any] | None]", after: "Sequence[NDArray[Any] | None]") -> bool:
    """Tell whether two scales, and two zero points, are one and the same number and type."""
    if len(before) != len(after):
        return False
    for one, other in zip(before, after, strict=True):
        if one is None or other is None or one.size != 1 or one.dtype != other.dtype or not np.array_equal(one, other):
            return False
    return True
