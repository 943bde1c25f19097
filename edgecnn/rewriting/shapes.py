"""The sizes and types of a graph's tensors, without moving its weights about."""

from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import ModelProto

#: Sizes of a tensor; None is a size that may vary, as the batch does.
Sizes = tuple[int | None, ...]
#: Initializers of more numbers than this are weights: no operator's sizes are computed from so many.
_MOST_SIZES = 1024
_VALUES = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data")


def infer_shapes(model: "ModelProto") -> tuple[dict[str, Sizes], dict[str, int]]:
    """Return the sizes and the element types of all that is not an initializer, where something tells them.

    onnx writes the whole model to bytes and reads it again; half a gigabyte of weights would take seconds on each way.
    """
    import onnx

    light = _without_weights(model)
    inferred = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
    values = (*inferred.input, *inferred.value_info, *inferred.output)
    sizes = {
        value.name: tuple(d.dim_value if d.HasField("dim_value") else None for d in value.type.tensor_type.shape.dim)
        for value in values
        if value.type.tensor_type.HasField("shape")
    }
    return sizes, {value.name: value.type.tensor_type.elem_type for value in values}


def _without_weights(model: "ModelProto") -> "ModelProto":
    light = type(model)()
    light.CopyFrom(model)
    for tensor in light.graph.initializer:
        if prod(tensor.dims) > _MOST_SIZES:
            for field in _VALUES:
                tensor.ClearField(field)
    return light
