"""The sizes of a convolution as it stands in a graph."""

from typing import TYPE_CHECKING

from edgecnn.rewriting.attributes import attribute
from edgecnn.rewriting.blocks import Convolution
from edgecnn.rewriting.editor import Editor

if TYPE_CHECKING:
    from onnx import NodeProto


def read_convolution(editor: Editor, node: "NodeProto", kernel: tuple[int, ...]) -> Convolution | str:
    """Return the sizes of a convolution, or why its kernel cannot be shifted."""
    read, made = editor.image_sizes(node.input[0]), editor.image_sizes(node.output[0])
    if read is None or made is None:
        return "the image's size may vary"
    if attribute(node, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        return "its padding is not written out"
    if tuple(attribute(node, "dilations", (1, 1))) != (1, 1):
        return "it is dilated"
    top, left, bottom, right = attribute(node, "pads", (0, 0, 0, 0))
    down, across = attribute(node, "strides", (1, 1))
    return Convolution(
        input=read[1:],
        output=made[1:],
        kernel=(kernel[0], kernel[1]),
        strides=(down, across),
        pads=(top, left, bottom, right),
    )
