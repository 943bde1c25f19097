"""Attributes of nodes, as Python values."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx import NodeProto


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
