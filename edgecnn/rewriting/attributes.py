"""What a node says of itself: its operator, and its attributes as Python values."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx import NodeProto


def operator(node: "NodeProto") -> str:
    """Return which of ONNX's own operators a node is; empty for one of another domain, whatever its name.

    ONNX Runtime has operators of its own by the same names, QuantizeLinear and MaxPool among them.
    """
    return str(node.op_type) if node.domain in ("", "ai.onnx") else ""


def attribute(node: "NodeProto", name: str, default: Any) -> Any:
    """Return an attribute's value, or a default."""
    from onnx import helper

    for item in node.attribute:
        if item.name == name:
            return helper.get_attribute_value(item)
    return default


def attributes(node: "NodeProto") -> dict[str, Any]:
    """Return all attributes of a node."""
    from onnx import helper

    return {item.name: helper.get_attribute_value(item) for item in node.attribute}
