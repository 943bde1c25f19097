"""Pixels that are bytes already go into the first integer layer as they are.

    bytes [-> Transpose] -> Cast to float [-> Mul, Div, Add, Sub by a number] -> QuantizeLinear

becomes, if each of the 256 bytes comes out as itself,

    bytes [-> Transpose]
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.rewriting.attributes import operator
from edgecnn.rewriting.editor import Editor
from edgecnn.rewriting.site import Site

if TYPE_CHECKING:
    from onnx import NodeProto

NAME = "integer-input"
_ARITHMETIC = {"Mul": np.multiply, "Div": np.divide, "Add": np.add, "Sub": np.subtract}
_ALL_BYTES = np.arange(256, dtype=np.uint8)


def take_bytes(editor: Editor, nodes: "list[NodeProto]") -> list[Site]:
    """Let integers pass where bytes would become float and the same bytes again."""
    sites = []
    for node in nodes:
        if operator(node) == "Cast":
            site = _take(editor, node)
            if site is not None:
                sites.append(site)
    return sites


def _take(editor: Editor, cast: "NodeProto") -> Site | None:
    if editor.type(cast.input[0]) != "uint8" or editor.type(cast.output[0]) != "float32":
        return None
    values: NDArray[Any] = _ALL_BYTES.astype(np.float32)
    node = editor.only_reader(cast.output[0])
    while node is not None and operator(node) in _ARITHMETIC:
        number = editor.constant(node.input[1])
        if number is None or number.size != 1 or number.ndim > len(editor.sizes(cast.input[0]) or ()):
            break
        values = _ARITHMETIC[node.op_type](values, number.reshape(()))
        node = editor.only_reader(node.output[0])
    if node is None or operator(node) != "QuantizeLinear":
        return Site(rewrite=NAME, node=cast.name, applied=False, reason="what reads the pixels is not quantized")
    if editor.is_output(node.output[0]):
        return Site(rewrite=NAME, node=cast.name, applied=False, reason="its integers are an output of the graph")
    parameters = [editor.constant(name) for name in node.input[1:]]
    if len(parameters) != 2 or any(value is None or value.size != 1 for value in parameters):
        return None
    scale, zero_point = parameters
    if zero_point.dtype != np.uint8:  # type: ignore[union-attr]
        return Site(rewrite=NAME, node=cast.name, applied=False, reason="its integers are signed")
    integers = np.clip(np.rint(values / scale) + zero_point.astype(np.float32), 0, 255)  # type: ignore[union-attr]
    if not np.array_equal(integers, _ALL_BYTES):
        return Site(rewrite=NAME, node=cast.name, applied=False, reason="its integers are other than the bytes")
    editor.redirect(node.output[0], cast.input[0])
    return Site(rewrite=NAME, node=cast.name, applied=True, reason="the bytes are the integers")
