"""A fully connected layer reads an image in the order it lies in memory.

    image -> Transpose to channels first -> Reshape or Flatten [-> DequantizeLinear] -> Gemm

becomes, with the rows of the weights in the other order,

    image -> Reshape [-> DequantizeLinear] -> Gemm
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.rewriting.attributes import attribute
from edgecnn.rewriting.editor import Editor
from edgecnn.rewriting.site import Site

if TYPE_CHECKING:
    from onnx import NodeProto

NAME = "flatten-order"
_TO_FIRST = [0, 3, 1, 2]


def reorder_flattened(editor: Editor) -> list[Site]:
    """Permute the weights behind each flattened image that was transposed for it alone."""
    sites = []
    for node in editor.nodes:
        if node.op_type in ("Gemm", "MatMul"):
            site = _reorder(editor, node)
            if site is not None:
                sites.append(site)
    return sites


def _reorder(editor: Editor, node: "NodeProto") -> Site | None:
    path = _flattened(editor, node)
    if path is None:
        return None
    transpose, reshape = path
    sizes = editor.sizes(reshape.input[0])
    if sizes is None or len(sizes) != 4 or None in sizes[1:]:
        return None
    channels, height, width = (int(size or 0) for size in sizes[1:])
    order = np.arange(channels * height * width).reshape(channels, height, width).transpose(1, 2, 0).ravel()
    name = _permuted(editor, node, order)
    if name is None:
        return Site(rewrite=NAME, node=node.name, applied=False, reason="its weights are not in the file")
    node.input[1] = name
    shape = editor.add_constant(f"{reshape.output[0]}.sizes", np.array((-1, order.size), np.int64))
    flat = editor.add("Reshape", [transpose.input[0], shape], f"{reshape.output[0]}.channels_last")
    editor.redirect(reshape.output[0], flat)
    return Site(rewrite=NAME, node=node.name, applied=True, reason="reads channels last; nothing is transposed for it")


def _flattened(editor: Editor, node: "NodeProto") -> "tuple[NodeProto, NodeProto] | None":
    """Return the transposition and the reshaping before a layer, if nothing else reads what they make."""
    if node.op_type == "Gemm" and attribute(node, "transA", 0):
        return None
    source = editor.maker(node.input[0])
    if source is not None and source.op_type == "DequantizeLinear" and editor.only_reader(node.input[0]) is not None:
        if len(source.input) > 1 and (scale := editor.constant(source.input[1])) is not None and scale.size == 1:
            reshape = editor.maker(source.input[0])
        else:
            return None
    else:
        reshape = source
    if (
        reshape is None
        or reshape.op_type not in ("Reshape", "Flatten")
        or editor.only_reader(reshape.output[0]) is None
    ):
        return None
    if not _flattens(editor, reshape):
        return None
    transpose = editor.maker(reshape.input[0])
    if transpose is None or transpose.op_type != "Transpose" or attribute(transpose, "perm", []) != _TO_FIRST:
        return None
    return transpose, reshape


def _flattens(editor: Editor, reshape: "NodeProto") -> bool:
    """Tell whether a node makes rows of whole images."""
    if reshape.op_type == "Flatten":
        return bool(attribute(reshape, "axis", 1) == 1)
    shape, sizes = editor.constant(reshape.input[1]), editor.sizes(reshape.input[0])
    if shape is None or sizes is None or len(shape) != 2 or None in sizes[1:]:
        return False
    each = int(np.prod([int(size or 0) for size in sizes[1:]]))
    batch = sizes[0]
    return tuple(shape) in {(-1, each), (0, each), (0, -1), (batch, each), (batch, -1)}


def _permuted(editor: Editor, node: "NodeProto", order: NDArray[Any]) -> str | None:
    """Add the weights with their inputs in another order; return the tensor's name."""
    axis = 1 if node.op_type == "Gemm" and attribute(node, "transB", 0) else 0
    values = editor.constant(node.input[1])
    if values is not None:
        return editor.add_constant(f"{node.input[1]}.channels_last", np.take(values, order, axis))
    found = _dequantized(editor, node.input[1])
    if found is None:
        return None
    maker, parts = found
    parts[0] = editor.add_constant(f"{parts[0]}.channels_last", np.take(editor.constant(parts[0]), order, axis))  # type: ignore[arg-type]
    kept = {item.name: attribute(maker, item.name, None) for item in maker.attribute}
    return editor.add("DequantizeLinear", parts, f"{node.input[1]}.channels_last", kept)


def _dequantized(editor: Editor, tensor: str) -> "tuple[NodeProto, list[str]] | None":
    """Return the node behind dequantized weights whose scale does not vary along what is permuted, and its inputs."""
    maker = editor.maker(tensor)
    if maker is None or maker.op_type != "DequantizeLinear":
        return None
    return (maker, list(maker.input)) if editor.constant(maker.input[0]) is not None else None
