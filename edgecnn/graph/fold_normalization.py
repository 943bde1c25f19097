"""Fold a normalization of the input into the first convolution::

    x ──► Sub(mean) ──► Div(std) ──► Conv(w, b)          x ──► Conv(w / std, b - sum(w mean / std))

Any chain of Sub, Add, Mul and Div with one constant a channel is y = scale x + shift, and a convolution
of y is another convolution of x: exactly, up to float rounding, where the convolution has no padding.
A padded one adds zeros to y, which are not the zeros of x, so there only a pure scale (shift = 0) is folded.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgecnn.graph.external_data import without_large_weights
from edgecnn.graph.remove_unused import remove_unused

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

Float64 = NDArray[np.float64]
_AFFINE_OPS = ("Sub", "Add", "Mul", "Div")
_BEFORE_NORMALIZING = ("Cast", "Transpose", "Resize", "Gather")  # Gather: the channels in another order


def fold_normalization(model: "ModelProto") -> bool:
    """Fold in place the chain between the graph's input and a convolution, if there is one and it is exact.

    Returns:
        Whether anything was folded.
    """
    from onnx import numpy_helper

    inputs = {value.name for value in model.graph.input}  # what a caller may set is no constant
    constants = {tensor.name: tensor for tensor in model.graph.initializer if tensor.name not in inputs}
    constants |= _constant_nodes(model)  # TorchScript's exporter writes single numbers so
    producers = {output: node for node in model.graph.node for output in node.output}
    for conv in model.graph.node:
        if conv.op_type != "Conv" or conv.input[1] not in constants:
            continue
        weight = numpy_helper.to_array(constants[conv.input[1]]).astype(np.float64)
        chain = _affine_chain(conv.input[0], producers, constants, channels=weight.shape[1])
        if not chain or (len(conv.input) > 2 and conv.input[2] not in constants):
            continue
        if not _is_image(model, _source(chain, constants), producers, channels=weight.shape[1]):
            continue
        scale, shift = _compose(chain, constants, weight.shape[1])
        if shift.any() and _is_padded(conv):
            continue
        bias = (
            numpy_helper.to_array(constants[conv.input[2]]).astype(np.float64)
            if len(conv.input) > 2
            else np.zeros(weight.shape[0])
        )
        new_bias = bias + (weight * shift[None, :, None, None]).sum((1, 2, 3))
        _replace(model, conv, _source(chain, constants), weight * scale[None, :, None, None], new_bias)
        return True
    return False


def _constant_nodes(model: "ModelProto") -> dict[str, "TensorProto"]:
    return {
        node.output[0]: attribute.t
        for node in model.graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }


def _is_padded(conv: "NodeProto") -> bool:
    attributes = {attribute.name: attribute for attribute in conv.attribute}
    automatic = attributes["auto_pad"].s.decode() if "auto_pad" in attributes else "NOTSET"
    return any(attributes["pads"].ints) if "pads" in attributes else automatic in ("SAME_UPPER", "SAME_LOWER")


def _is_image(model: "ModelProto", name: str, producers: dict[str, "NodeProto"], *, channels: int) -> bool:
    """Tell whether a tensor is float32 ``[N, channels, H, W]``, the graph's input or that recast, resized or reordered.

    A constant with one value a channel would turn any other number of channels into as many, and a grouped
    convolution has weights for fewer channels than there are.
    """
    from onnx import TensorProto, shape_inference

    inferred = shape_inference.infer_shapes(without_large_weights(model)).graph
    types = {value.name: value.type.tensor_type for value in (*inferred.input, *inferred.value_info)}
    if name not in types or types[name].elem_type != TensorProto.FLOAT:
        return False
    dimensions = types[name].shape.dim
    if len(dimensions) != 4 or dimensions[1].dim_value != channels:
        return False
    while name in producers and producers[name].op_type in _BEFORE_NORMALIZING:
        name = producers[name].input[0]
    return any(value.name == name for value in model.graph.input)


def _affine_chain(
    name: str, producers: dict[str, "NodeProto"], constants: "dict[str, TensorProto]", *, channels: int
) -> list["NodeProto"]:
    """Return the affine nodes that lead to tensor ``name``, first to last."""
    chain: list[NodeProto] = []
    while (node := producers.get(name)) is not None and node.op_type in _AFFINE_OPS:
        variable_first = node.input[1] in constants
        constant = node.input[1] if variable_first else node.input[0]
        if constant not in constants or (node.op_type == "Div" and not variable_first):
            break
        if _per_channel(constants[constant], channels) is None:
            break
        chain.insert(0, node)
        name = node.input[0] if variable_first else node.input[1]
    return chain


def _per_channel(tensor: "TensorProto", channels: int) -> Float64 | None:
    """Return a constant as one value a channel, or None if it has another shape."""
    from onnx import numpy_helper

    values = numpy_helper.to_array(tensor).astype(np.float64)
    if values.size == 1:
        return np.full(channels, values.item())
    if values.shape in ((channels, 1, 1), (1, channels, 1, 1)):
        return values.reshape(channels)
    return None


def _source(chain: list["NodeProto"], constants: "dict[str, TensorProto]") -> str:
    """Return the tensor a chain begins with."""
    first = chain[0]
    return first.input[1] if first.input[0] in constants else first.input[0]


def _compose(chain: list["NodeProto"], constants: "dict[str, TensorProto]", channels: int) -> tuple[Float64, Float64]:
    """Return scale and shift of the whole chain, in float64."""
    scale, shift = np.ones(channels), np.zeros(channels)
    for node in chain:
        constant_first = node.input[0] in constants
        value = _per_channel(constants[node.input[0 if constant_first else 1]], channels)
        assert value is not None
        if node.op_type == "Add":
            shift = shift + value
        elif node.op_type == "Sub":
            scale, shift = (-scale, value - shift) if constant_first else (scale, shift - value)
        elif node.op_type == "Mul":
            scale, shift = scale * value, shift * value
        else:
            scale, shift = scale / value, shift / value
    return scale, shift


def _replace(model: "ModelProto", conv: "NodeProto", source: str, weight: Float64, bias: Float64) -> None:
    """Give the convolution new weights and the chain's input, and drop what nobody uses any more."""
    from onnx import numpy_helper

    graph = model.graph
    weight_name, bias_name = f"{conv.input[1]}.folded", f"{conv.input[1]}.folded_bias"
    graph.initializer.append(numpy_helper.from_array(weight.astype(np.float32), weight_name))
    graph.initializer.append(numpy_helper.from_array(bias.astype(np.float32), bias_name))
    del conv.input[:]
    conv.input.extend([source, weight_name, bias_name])
    remove_unused(model)
