"""The mean over an image is a global average pool, for which there is an integer kernel.

    image -> ReduceMean over height and width -> ...

becomes

    image -> GlobalAveragePool [-> Flatten] -> ...
"""

from typing import TYPE_CHECKING

from edgecnn.rewriting.attributes import attribute, operator
from edgecnn.rewriting.editor import Editor
from edgecnn.rewriting.site import Site

if TYPE_CHECKING:
    from onnx import NodeProto

NAME = "mean-pool"
_IMAGE_AXES = ({2, 3}, {-1, -2}, {2, -1}, {-2, 3})


def pool_means(editor: Editor, nodes: "list[NodeProto]") -> list[Site]:
    """Replace each mean over height and width by a pool."""
    return [_pool(editor, node) for node in nodes if operator(node) == "ReduceMean" and _is_over_image(editor, node)]


def _is_over_image(editor: Editor, node: "NodeProto") -> bool:
    sizes = editor.sizes(node.input[0])
    if sizes is None or len(sizes) != 4 or editor.type(node.input[0]) != "float32":
        return False
    axes = editor.constant(node.input[1]) if len(node.input) > 1 else attribute(node, "axes", None)
    return axes is not None and {int(axis) for axis in axes} in _IMAGE_AXES


def _pool(editor: Editor, node: "NodeProto") -> Site:
    keeps = bool(attribute(node, "keepdims", 1))
    result = node.output[0]
    with editor.changing(node):
        node.op_type = "GlobalAveragePool"
        del node.attribute[:]
        del node.input[1:]
        node.output[0] = result if keeps else editor.name(f"{result}.pooled")
    if not keeps:
        editor.add_as(result, "Flatten", [node.output[0]])
    return Site(rewrite=NAME, node=node.name, applied=True, reason="a global average pool")
