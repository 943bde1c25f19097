"""A quantized layer as it stands in a QDQ graph.

source -> DequantizeLinear -.
weight -> DequantizeLinear -+-> Conv or Gemm [-> Relu or Clip] -> QuantizeLinear -> result
bias   -> DequantizeLinear -'
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.rewriting.attributes import attribute, attributes, operator
from edgecnn.rewriting.editor import Editor

if TYPE_CHECKING:
    from onnx import NodeProto

#: What works on each number alone, and may stand between a layer and its rounding.
ACTIVATIONS = ("Relu", "Clip")
_EIGHT_BITS = (np.uint8, np.int8)
#: Steps of the integers by which a Clip may end earlier than they do: rounding still gives their ends. ONNX Runtime's
#: ClipQuantFusion allows almost half a step; it is not asked about ties.
_CLOSE = 0.25


@dataclass(frozen=True, kw_only=True)
class QuantizedConstant:
    """Integers of a file and how they are read: ``scale * (values - zero_point)``.

    Attributes:
        values: the integers.
        scale: of shape ``[]``, ``[1]`` or ``[O]``.
        zero_point: as ``scale``; None where the node has none, which means 0.
    """

    values: NDArray[Any]
    scale: NDArray[Any]
    zero_point: NDArray[Any] | None

    @property
    def is_symmetric(self) -> bool:
        """Whether the integer 0 stands for 0."""
        return self.zero_point is None or not self.zero_point.any()


@dataclass(frozen=True, kw_only=True)
class QuantizedLayer:
    """A layer between tensors of eight bits with one scale each.

    Attributes:
        node: the convolution or fully connected layer.
        dequantize: the node that reads its source.
        weight: its weights.
        bias: its bias, if it has one.
        activation: what stands between it and the rounding, if anything does.
        quantize: the node that makes its output integer.
    """

    node: "NodeProto"
    dequantize: "NodeProto"
    weight: QuantizedConstant
    bias: QuantizedConstant | None
    activation: "NodeProto | None"
    quantize: "NodeProto"

    @property
    def source(self) -> str:
        """The integer tensor that it reads."""
        return str(self.dequantize.input[0])

    @property
    def result(self) -> str:
        """The integer tensor that it gives."""
        return str(self.quantize.output[0])


def quantized_constant(editor: Editor, tensor: str) -> QuantizedConstant | None:
    """Return the integers behind a tensor; None if they are no constants, or their scales are not one an output."""
    node = editor.maker(tensor)
    if node is None or operator(node) != "DequantizeLinear" or attribute(node, "block_size", 0):
        return None
    found = [editor.constant(name) for name in node.input]
    values, scale, zero_point = (*found, None)[:3]
    if values is None or scale is None or (len(node.input) > 2 and zero_point is None):
        return None
    if scale.ndim > 1 or (scale.size > 1 and attribute(node, "axis", 1) != 0):
        return None
    return QuantizedConstant(values=values, scale=scale, zero_point=zero_point)


def quantized_layer(editor: Editor, node: "NodeProto") -> QuantizedLayer | None:
    """Return a layer between integers, as ONNX Runtime has a kernel for it; None if some of it is float.

    Its kernels read and give the same kind of integer, and add a bias of 32 bits.
    """
    activation = editor.only_reader(node.output[0])
    quantize = activation
    if activation is not None and operator(activation) in ACTIVATIONS:
        quantize = editor.only_reader(activation.output[0])
    else:
        activation = None
    dequantize = editor.maker(node.input[0])
    if not is_rounding(editor, dequantize, "DequantizeLinear") or not is_rounding(editor, quantize, "QuantizeLinear"):
        return None
    weight = quantized_constant(editor, node.input[1])
    has_bias = len(node.input) > 2 and node.input[2] != ""
    bias = quantized_constant(editor, node.input[2]) if has_bias else None
    if weight is None or (has_bias and bias is None) or dequantize is None or quantize is None:
        return None
    if zero_point_type(editor, dequantize) != zero_point_type(editor, quantize):
        return None
    if bias is not None and bias.values.dtype != np.int32:
        return None
    return QuantizedLayer(
        node=node, dequantize=dequantize, weight=weight, bias=bias, activation=activation, quantize=quantize
    )


def is_rounding(editor: Editor, node: "NodeProto | None", op: str) -> bool:
    """Tell whether a node goes between float and eight bits with one scale; its zero point tells which eight."""
    if node is None or operator(node) != op:
        return False
    scale = editor.constant(node.input[1])
    return scale is not None and scale.size == 1 and zero_point_type(editor, node) in _EIGHT_BITS


def zero_point_type(editor: Editor, node: "NodeProto") -> "np.dtype[Any] | None":
    """Return the type of the integers that a node reads or gives; None if it names no zero point that is constant."""
    zero_point = editor.constant(node.input[2]) if len(node.input) > 2 else None
    return None if zero_point is None else zero_point.dtype


def rounding_clips_as_much(editor: Editor, layer: QuantizedLayer) -> bool:
    """Tell whether the ends of the integers do all that a layer's activation does; so it is without one.

    ONNX Runtime takes such an activation away, and the layer has an integer kernel; with any other it computes float.
    """
    if layer.activation is None:
        return True
    scale, zero_point = (editor.constant(name) for name in layer.quantize.input[1:3])
    assert scale is not None
    assert zero_point is not None
    limits, zero = np.iinfo(zero_point.dtype), int(zero_point.item())
    if operator(layer.activation) == "Relu":
        return zero == limits.min
    low, high = _bounds(editor, layer.activation)
    step = scale.astype(np.float32).item()
    return low <= step * (limits.min - zero + _CLOSE) and step * (limits.max - zero - _CLOSE) <= high


def _bounds(editor: Editor, clip: "NodeProto") -> tuple[float, float]:
    """Return what a Clip keeps numbers between (attributes before opset 11, then inputs); computed, it is no place."""
    found = []
    for place, (name, open_end) in enumerate((("min", -np.inf), ("max", np.inf)), start=1):
        given = len(clip.input) > place and clip.input[place] != ""
        bound = editor.constant(clip.input[place]) if given else np.array(attribute(clip, name, open_end))
        found.append(-open_end if bound is None else float(bound.item()))
    return found[0], found[1]


def has_signed_symmetric_weights(layer: QuantizedLayer) -> bool:
    """Tell whether weights are int8 around 0, as the fast kernels want them, and as a 0 between them must be read."""
    return layer.weight.values.dtype == np.int8 and layer.weight.is_symmetric


def add_quantized_constant(editor: Editor, stem: str, constant: QuantizedConstant) -> str:
    """Add integers and the node that reads them; return the float tensor's name."""
    names = [editor.add_constant(stem, constant.values), editor.add_constant(f"{stem}_scale", constant.scale)]
    if constant.zero_point is not None:
        names.append(editor.add_constant(f"{stem}_zero_point", constant.zero_point))
    axis = {"axis": 0} if constant.scale.ndim == 1 else {}
    return editor.add("DequantizeLinear", names, f"{stem}_dequantized", axis)


def add_dequantize(editor: Editor, integers: str, like: "NodeProto", stem: str) -> str:
    """Read integers with the scale and zero point of another node; return the float tensor's name."""
    return editor.add("DequantizeLinear", [integers, *like.input[1:]], stem, attributes(like))


def add_rounding(editor: Editor, made: str, layer: QuantizedLayer, stem: str) -> str:
    """Put a layer's activation and rounding behind another tensor; return the integer tensor's name."""
    if layer.activation is not None:
        inputs = [made, *layer.activation.input[1:]]
        made = editor.add(layer.activation.op_type, inputs, f"{stem}_activation", attributes(layer.activation))
    return editor.add(
        "QuantizeLinear", [made, *layer.quantize.input[1:]], f"{stem}_quantized", attributes(layer.quantize)
    )
