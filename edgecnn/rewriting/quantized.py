"""A quantized layer as it stands in a QDQ graph.

source -> DequantizeLinear -.
weight -> DequantizeLinear -+-> Conv or Gemm -> QuantizeLinear -> result
bias   -> DequantizeLinear -'
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from edgecnn.rewriting.attributes import attribute
from edgecnn.rewriting.editor import Editor

if TYPE_CHECKING:
    from onnx import NodeProto


@dataclass(frozen=True, kw_only=True)
class QuantizedConstant:
    """Integers of a file and how they are read: ``scale * (values - zero_point)``.

    Attributes:
        values: the integers.
        scale: of shape ``[]`` or ``[O]``.
        zero_point: as ``scale``; None where the node has none.
    """

    values: NDArray[Any]
    scale: NDArray[Any]
    zero_point: NDArray[Any] | None


@dataclass(frozen=True, kw_only=True)
class QuantizedLayer:
    """A layer between integers.

    Attributes:
        node: the convolution or fully connected layer.
        source: the integer tensor it reads.
        source_parameters: names of that tensor's scale and zero point, as its DequantizeLinear has them.
        weight: its weights.
        bias: its bias, if it has one.
        quantize: the node that makes its output integer.
    """

    node: "NodeProto"
    source: str
    source_parameters: tuple[str, ...]
    weight: QuantizedConstant
    bias: QuantizedConstant | None
    quantize: "NodeProto"

    @property
    def result(self) -> str:
        """The integer tensor that it gives."""
        return str(self.quantize.output[0])


def quantized_constant(editor: Editor, tensor: str) -> QuantizedConstant | None:
    """Return the integers behind a tensor; None if they are no constants, or their scales are not one an output."""
    node = editor.maker(tensor)
    if node is None or node.op_type != "DequantizeLinear":
        return None
    found = [editor.constant(name) for name in node.input]
    values, scale, zero_point = (*found, None)[:3]
    if values is None or scale is None or (len(node.input) > 2 and zero_point is None):
        return None
    if scale.ndim > 1 or (scale.ndim == 1 and scale.size > 1 and attribute(node, "axis", 1) != 0):
        return None
    return QuantizedConstant(values=values, scale=scale, zero_point=zero_point)


def quantized_layer(editor: Editor, node: "NodeProto") -> QuantizedLayer | None:
    """Return a layer between integers; None if some of it is float."""
    dequantize = editor.maker(node.input[0])
    quantize = editor.only_reader(node.output[0])
    weight = quantized_constant(editor, node.input[1])
    has_bias = len(node.input) > 2 and node.input[2] != ""
    bias = quantized_constant(editor, node.input[2]) if has_bias else None
    if dequantize is None or dequantize.op_type != "DequantizeLinear" or weight is None or (has_bias and bias is None):
        return None
    if quantize is None or quantize.op_type != "QuantizeLinear":
        return None
    return QuantizedLayer(
        node=node,
        source=dequantize.input[0],
        source_parameters=tuple(dequantize.input[1:]),
        weight=weight,
        bias=bias,
        quantize=quantize,
    )


def add_quantized_constant(editor: Editor, stem: str, constant: QuantizedConstant) -> str:
    """Add integers and the node that reads them; return the float tensor's name."""
    names = [editor.add_constant(stem, constant.values), editor.add_constant(f"{stem}_scale", constant.scale)]
    if constant.zero_point is not None:
        names.append(editor.add_constant(f"{stem}_zero_point", constant.zero_point))
    axis = {"axis": 0} if constant.scale.ndim == 1 else {}
    return editor.add("DequantizeLinear", names, f"{stem}_dequantized", axis)
