"""What a node says of itself: its operator, and its attributes as Python values."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import NodeProto

#: Attributes by which a Constant node may hold numbers in place of a tensor.
_NUMBERS = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}


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


def constant_values(node: "NodeProto") -> NDArray[Any] | None:
    """Return the values of a Constant node; None for another, for text, and for values that are sparse or outside."""
    from onnx import TensorProto, numpy_helper

    found = attributes(node) if operator(node) == "Constant" else {}
    value = found.get("value")
    if isinstance(value, TensorProto) and value.data_location != TensorProto.EXTERNAL:
        return numpy_helper.to_array(value)
    for name, dtype in _NUMBERS.items():
        if name in found:
            return np.array(found[name], dtype)
    return None
