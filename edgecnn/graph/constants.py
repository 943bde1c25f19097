"""What in a graph does not depend on the image: weights, and arithmetic on sizes."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import ModelError

if TYPE_CHECKING:
    from onnx import NodeProto, OperatorSetIdProto, TensorProto, TypeProto

Values = NDArray[Any]
#: Constants of at most this many values are kept: those that say where to cut, pad and reshape.
MAX_VALUES = 1024
#: What a graph computes sizes with; nothing else is run, since a file may come from anyone.
_ARITHMETIC = {
    "Abs", "Add", "And", "Cast", "Ceil", "Concat", "ConstantOfShape", "Div", "Equal", "Expand", "Flatten", "Floor",
    "Gather", "GatherND", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg",
    "Not", "Or", "Pow", "Range", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Round",
    "ScatterND", "Slice", "Split", "Sqrt", "Squeeze", "Sub", "Tile", "Transpose", "Unsqueeze", "Where",
}  # fmt: skip
_NEVER_A_WEIGHT = ("INT64", "BOOL", "STRING")
_PACKED_BITS = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}


@dataclass(frozen=True, kw_only=True)
class Constant:
    """A constant, and what of the file it is made of.

    Attributes:
        parameters: weights by name, with how many values each holds; whole numbers that say where to cut are none,
            and neither is a single number such as the 3 in a hard swish.
        stored: tensors of the file by name, with the bytes each takes, scales and zero points among them.
        item_bits: of one weight as stored: 8 for a weight that is dequantized from int8.
    """

    parameters: Mapping[str, int]
    stored: Mapping[str, int]
    item_bits: int


def item_bits(elem_type: int) -> int:
    """Return how many bits a value of an ONNX type takes in a file."""
    from onnx import TensorProto, helper

    name = TensorProto.DataType.Name(elem_type)
    return _PACKED_BITS.get(name) or 8 * int(helper.tensor_dtype_to_np_dtype(elem_type).itemsize)


def size_bytes(shape: tuple[int, ...], bits: int) -> int:
    """Return the bytes of a tensor; four-bit values lie two in a byte."""
    return -(-prod(shape) * bits // 8)


def stored_constant(name: str, elem_type: int, shape: tuple[int, ...]) -> Constant:
    """Return a constant that stands in the file itself."""
    from onnx import TensorProto

    is_weight = bool(shape) and TensorProto.DataType.Name(elem_type) not in _NEVER_A_WEIGHT
    bits = item_bits(elem_type)
    return Constant(
        parameters={name: prod(shape)} if is_weight else {}, stored={name: size_bytes(shape, bits)}, item_bits=bits
    )


def made_of(node: "NodeProto", constants: Mapping[str, Constant]) -> Constant:
    """Return what a node makes of constants alone: a dequantized weight is a weight.

    An Identity gives a weight of its own: exporters write one where two weights happen to be equal.
    """
    sources = [constants[name] for name in node.input if name]
    stored = {name: size for source in sources for name, size in source.stored.items()}
    weights = sources[:1] if node.op_type == "DequantizeLinear" else sources  # its scale is not a weight
    parameters = {name: count for source in weights for name, count in source.parameters.items()}
    if node.op_type == "Identity" and parameters:
        parameters = {node.output[0]: sum(parameters.values())}
    return Constant(parameters=parameters, stored=stored, item_bits=sources[0].item_bits if sources else 32)


def small_values(tensor: "TensorProto") -> Values | None:
    """Return the values of a small tensor, or None of a large one."""
    from onnx import numpy_helper

    return numpy_helper.to_array(tensor) if prod(tensor.dims) <= MAX_VALUES else None


def constant_values(node: "NodeProto") -> Values | None:
    """Return the values of a Constant node, or None if they are many, or text, or sparse."""
    from onnx import helper

    for attribute in node.attribute:
        if attribute.name == "value":
            return small_values(attribute.t)
        if attribute.name in ("value_int", "value_ints"):
            return np.asarray(helper.get_attribute_value(attribute), np.int64)
        if attribute.name in ("value_float", "value_floats"):
            return np.asarray(helper.get_attribute_value(attribute), np.float32)
    return None


def compute(
    node: "NodeProto",
    inputs: Mapping[str, Values],
    types: "Mapping[str, TypeProto]",
    opsets: "list[OperatorSetIdProto]",
) -> dict[str, Values]:
    """Return what a node makes of small constants; nothing for an operator that is not arithmetic on sizes.

    Args:
        node: whose inputs are all in ``inputs``.
        inputs: values by name.
        types: of its inputs and outputs; the outputs' shapes are known and small.
        opsets: of the model.

    Raises:
        ModelError: the operator cannot take these values.
    """
    if node.op_type not in _ARITHMETIC or node.domain not in ("", "ai.onnx"):
        return {}
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    sources = [name for name in dict.fromkeys(node.input) if name]
    outputs = [name for name in node.output if name]
    graph = helper.make_graph(
        [node],
        "constant",
        [helper.make_value_info(name, types[name]) for name in sources],
        [helper.make_value_info(name, types[name]) for name in outputs],
    )
    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(helper.make_model(graph, opset_imports=opsets)).run(
                None, {name: inputs[name] for name in sources}
            )
    except Exception as error:  # the evaluator raises whatever numpy does; it is named, not swallowed
        raise ModelError(
            f"{node.op_type} {node.name} cannot be computed ({type(error).__name__}: {error}).",
            next_step="export the model again with a fixed image size",
        ) from error
    return dict(zip(outputs, (np.asarray(result) for result in results), strict=True))
