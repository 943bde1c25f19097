"""Max pools whose windows lie side by side."""

from typing import TYPE_CHECKING

from edgecnn.rewriting.attributes import attribute

if TYPE_CHECKING:
    from onnx import NodeProto


def pool_window(node: "NodeProto") -> tuple[int, int] | None:
    """Return the height and width of a max pool's windows; None unless they lie side by side, without padding."""
    if node.op_type != "MaxPool" or len(node.output) > 1:
        return None
    kernel, strides = tuple(attribute(node, "kernel_shape", ())), tuple(attribute(node, "strides", (1, 1)))
    if len(kernel) != 2 or strides != kernel or any(attribute(node, "pads", (0, 0, 0, 0))):
        return None
    if tuple(attribute(node, "dilations", (1, 1))) != (1, 1) or attribute(node, "ceil_mode", 0):
        return None
    return kernel if attribute(node, "auto_pad", b"NOTSET") in (b"NOTSET", b"VALID") else None
