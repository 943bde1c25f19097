"""Layers that stay float in int8.onnx, and stay so when ONNX Runtime opens it.

ONNX Runtime quantizes the float weights of a Conv, ConvTranspose or Gemm that stands between a dequantize and a
quantize, to 8 bits with one scale for all (its WeightBiasQuantization, which no option of a file turns off)::

    Dequantize ──► Conv (float) ──► Quantize        becomes        Dequantize ──► Conv (int8, per tensor) ──► Quantize

which is what a layer was left float to be spared. It passes over a layer whose input is dequantized with a scale for
each channel, and over a Gemm whose bias is not a vector; both can be said without changing what is computed.
"""

from typing import TYPE_CHECKING

import numpy as np

from edgecnn.data.images import Images
from edgecnn.graph import onnx_file
from edgecnn.graph.remove_unused import remove_unused
from edgecnn.progress import Progress
from edgecnn.quantization.prepare import Prepared
from edgecnn.quantization.recipes import Recipe
from edgecnn.quantization.static import Quantized, quantize_prepared

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

_OPSET_PER_CHANNEL = 13


def quantize_and_keep_float(
    prepared: Prepared, images: Images, recipe: Recipe, *, threads: int, progress: Progress
) -> Quantized:
    """Quantize; layers that the recipe leaves float stay float in ONNX Runtime; see :func:`quantize_prepared`."""
    import onnx

    quantized = quantize_prepared(prepared, images, recipe, threads=threads, progress=progress)
    if not quantized.float_layers:
        return quantized
    model = onnx.load_model_from_string(quantized.data)
    if not keep_float(model):
        return quantized
    return Quantized(data=onnx_file.serialize(model), float_layers=quantized.float_layers)


def keep_float(model: "ModelProto") -> int:
    """Write the float layers of a QDQ model so that ONNX Runtime leaves them float.

    Args:
        model: changed in place; the values that it computes stay the same.

    Returns:
        How many layers were written anew.
    """
    guard = _Guard(model)
    written = sum(guard.write(node) for node in list(model.graph.node))
    remove_unused(model)
    return written


class _Guard:
    def __init__(self, model: "ModelProto") -> None:
        self._graph = model.graph
        self._constants: dict[str, TensorProto] = {tensor.name: tensor for tensor in model.graph.initializer}
        self._producers = {output: node for node in model.graph.node for output in node.output}
        self._opset = max(opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx"))

    def write(self, node: "NodeProto") -> bool:
        """Write one node anew if it is a float layer behind a dequantize; tell whether it was."""
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm") or node.input[1] not in self._constants:
            return False
        dequantize = self._producers.get(node.input[0])
        if dequantize is None or dequantize.op_type != "DequantizeLinear":
            return False
        if node.op_type == "Gemm":
            return self._with_bias_of_two_axes(node)
        return self._with_scale_a_channel(node, dequantize)

    def _with_bias_of_two_axes(self, node: "NodeProto") -> bool:
        """Give a Gemm its bias as ``[1, N]``, of zeros if it has none."""
        from onnx import numpy_helper

        weight = self._constants[node.input[1]]
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        bias = np.zeros(weight.dims[0 if transposed else 1], np.float32)
        if len(node.input) > 2 and node.input[2]:
            if node.input[2] not in self._constants:
                return False
            bias = numpy_helper.to_array(self._constants[node.input[2]])
        name = f"{node.output[0]}_float_bias"
        self._graph.initializer.append(numpy_helper.from_array(bias.reshape(1, -1), name))
        del node.input[2:]
        node.input.append(name)
        return True

    def _with_scale_a_channel(self, node: "NodeProto", dequantize: "NodeProto") -> bool:
        """Give a convolution a dequantize of its own, which says the one scale once for each channel."""
        from onnx import helper, numpy_helper

        if self._opset < _OPSET_PER_CHANNEL or dequantize.domain not in ("", "ai.onnx"):
            return False
        channels = self._channels(node)
        integers, *names = dequantize.input
        spread = []
        for kind, name in zip(("scale", "zero_point"), names, strict=False):
            value = numpy_helper.to_array(self._constants[name])
            spread.append(f"{node.output[0]}_input_{kind}")
            self._graph.initializer.append(
                numpy_helper.from_array(np.full(channels, value.reshape(-1)[0], value.dtype), spread[-1])
            )
        output = f"{node.output[0]}_input"
        own = helper.make_node("DequantizeLinear", [integers, *spread], [output], name=f"{output}_dequantize", axis=1)
        position = list(self._graph.node).index(node)
        self._graph.node.insert(position, own)
        self._graph.node[position + 1].input[0] = output
        return True

    def _channels(self, node: "NodeProto") -> int:
        weight = self._constants[node.input[1]]
        group = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
        return int(weight.dims[0] if node.op_type == "ConvTranspose" else weight.dims[1] * group)
