"""The layers of a QDQ model beside those of the float model it was made from."""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import ModelError
from edgecnn.quantization.weighted_layers import WITH_WEIGHTS, attribute

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_AS_QUANTIZED = "quantize the float model again, and give both files of the same run"


@dataclass(frozen=True, kw_only=True, eq=False)
class QuantizedTensor:
    """A constant of the QDQ graph that a DequantizeLinear reads.

    Attributes:
        dequantize: the node.
        integers: as stored.
        scale: float32, one number or one for each place along ``axis``.
        zero_point: integers of that shape.
        axis: where scales lie.
    """

    dequantize: "NodeProto"
    integers: NDArray[Any]
    scale: NDArray[np.float32]
    zero_point: NDArray[Any]
    axis: int

    def along_axis(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return scales or zero points in a shape that broadcasts against the integers."""
        if values.size == 1:
            return values.reshape((1,) * self.integers.ndim)
        shape = [1] * self.integers.ndim
        shape[self.axis] = values.size
        return values.reshape(shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerPair:
    """One layer in both graphs.

    Attributes:
        name: of the layer, in messages and records.
        float_node: in the float graph; its first output is before any activation.
        node: in the QDQ graph.
        weight: the integers of ``node``.
        depth: how many layers with weights lie before it on the longest way from the input.
    """

    name: str
    float_node: "NodeProto"
    node: "NodeProto"
    weight: QuantizedTensor
    depth: int


def match_layers(float_model: "ModelProto", quantized: "ModelProto") -> list[LayerPair]:
    """Return the layers of a QDQ model that have integer weights, each with the float layer it was made from.

    A node keeps its name when it is quantized. One without a name is found by its weights, which keep theirs but for
    a suffix.

    Raises:
        ModelError: the second model is not quantized, or was not made from the first.
    """
    reader = ConstantReader(quantized)
    candidates = [node for node in float_model.graph.node if node.op_type in WITH_WEIGHTS]
    by_name = {node.name: node for node in candidates if node.name}
    readers = Counter(node.input[1] for node in candidates)
    by_weight = {node.input[1]: node for node in candidates if readers[node.input[1]] == 1}
    depths = _depths(quantized)
    pairs = []
    for node in quantized.graph.node:
        weight = reader.dequantized(node.input[1]) if node.op_type in WITH_WEIGHTS else None
        if weight is None or (node.op_type == "MatMul" and weight.integers.ndim != 2):
            continue
        origin = weight.dequantize.input[0].removesuffix("_quantized")
        found = by_name.get(node.name) or by_weight.get(origin)
        if found is None or found.op_type != node.op_type:
            raise ModelError(
                f"the quantized model's layer {node.name or node.output[0]} ({node.op_type}, weights {origin}) has no "
                "counterpart in the float model.",
                next_step=_AS_QUANTIZED,
            )
        name = node.name or found.output[0]
        pairs.append(LayerPair(name=name, float_node=found, node=node, weight=weight, depth=depths[node.output[0]] - 1))
    if not pairs:
        raise ModelError("the model has no quantized layer.", next_step="edgecnn quantize first")
    return pairs


def _depths(model: "ModelProto") -> dict[str, int]:
    """Return for each tensor the most layers on a way from the input to it, the one that makes it included."""
    depths: dict[str, int] = {}
    for node in model.graph.node:
        before = max((depths.get(name, 0) for name in node.input), default=0)
        depths |= dict.fromkeys(node.output, before + (node.op_type in WITH_WEIGHTS))
    return depths


class ConstantReader:
    """Finds the constants of a QDQ graph."""

    def __init__(self, model: "ModelProto") -> None:
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self._producers = {output: node for node in model.graph.node for output in node.output}

    def array(self, name: str) -> NDArray[Any] | None:
        """Return an initializer's values, or None if there is none of that name."""
        from onnx import numpy_helper

        return numpy_helper.to_array(self._tensors[name]) if name in self._tensors else None

    def dequantize(self, name: str) -> "NodeProto | None":
        """Return the DequantizeLinear that makes a tensor, if one does."""
        node = self._producers.get(name)
        return node if node is not None and node.op_type == "DequantizeLinear" else None

    def scale(self, name: str) -> NDArray[np.float32] | None:
        """Return the scale of the DequantizeLinear that makes a tensor."""
        node = self.dequantize(name)
        return None if node is None else self.array(node.input[1])

    def dequantized(self, name: str) -> QuantizedTensor | None:
        """Return the constant that a tensor is dequantized from; None if it is none."""
        node = self.dequantize(name)
        integers = None if node is None else self.array(node.input[0])
        if node is None or integers is None:
            return None
        scale = self.array(node.input[1])
        assert scale is not None
        zero_point = self.array(node.input[2]) if len(node.input) > 2 else None
        return QuantizedTensor(
            dequantize=node,
            integers=integers,
            scale=scale,
            zero_point=np.zeros(scale.shape, integers.dtype) if zero_point is None else zero_point,
            axis=attribute(node, "axis", 1) % max(integers.ndim, 1),
        )
