"""Attributes of nodes."""

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
