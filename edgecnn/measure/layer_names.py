"""Which layer of the graph a fused operator of ONNX Runtime is, told by the names that it leaves behind."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from onnx import GraphProto, ModelProto, NodeProto

#: Every operator with weights has one of these in its name, fused and quantized ones too.
_WEIGHTED = ("Conv", "Gemm", "MatMul")
#: Operators that only convert or rearrange numbers; ONNX Runtime puts most of them in by itself.
OVERHEAD = frozenset({"QuantizeLinear", "DequantizeLinear", "Transpose", "ReorderInput", "ReorderOutput", "Cast"})
#: What ONNX Runtime adds to the name of a node that it made from others.
_ADDED = re.compile(r"^fused |_token_\d+$|_nchwc$|/duplicated$")
#: What quantizing adds to the name of a weight.
_OF_INTEGERS = re.compile(r"_(DequantizeLinear_Output|quantized)$")


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A convolution or matrix product: the name of its node (or output, if it has none), operator and weight."""

    name: str
    op: str
    weight: str


def is_weighted(op: str) -> bool:
    """Tell whether an operator multiplies by weights."""
    return any(part in op for part in _WEIGHTED) and not op.endswith("Bias")


class LayerNames:
    """The layers of one graph, and the way from an operator's name to one of them."""

    def __init__(self, model: ModelProto) -> None:
        graph = model.graph
        self._by_name = {node.name: node for node in graph.node if node.name}
        self._makers = {output: node for node in graph.node for output in node.output if output}
        self._order = {node.output[0]: index for index, node in enumerate(graph.node)}
        self._constants = {tensor.name for tensor in graph.initializer}
        self.layers = tuple(self._layer(node) for node in _layer_nodes(graph))

    def find(self, name: str, op: str) -> Layer | None:
        """Return the layer that an operator carries out, or None if it is none or cannot be told.

        Args:
            name: of the operator; of a node, or of a tensor with something added.
            op: its type after fusing.
        """
        if not is_weighted(op):
            return None
        node = self._node(name)
        while node is not None and not is_weighted(node.op_type):  # named after what was fused into it
            node = self._latest_input(node)
        return None if node is None else self._layer(node)

    def _node(self, name: str) -> NodeProto | None:
        while name not in self._by_name and name not in self._makers:
            shorter = _ADDED.sub("", name)
            if shorter == name:
                return None
            name = shorter
        return self._by_name.get(name) or self._makers[name]

    def _latest_input(self, node: NodeProto) -> NodeProto | None:
        """Return what made the input that was made last: of an addition that was fused, the layer and not the other."""
        makers = [self._makers[name] for name in node.input if name in self._makers and self._is_data(name)]
        return max(makers, key=lambda maker: self._order[maker.output[0]], default=None)

    def _is_data(self, tensor: str) -> bool:
        """Tell whether a tensor depends on the image, and is not a constant that is dequantized."""
        node = self._makers[tensor]
        return not all(i in self._constants for i in node.input if i)

    def _layer(self, node: NodeProto) -> Layer:
        return Layer(name=node.name or node.output[0], op=node.op_type, weight=self._weight(node))

    def _weight(self, node: NodeProto) -> str:
        name = node.input[1] if len(node.input) > 1 else ""
        while _OF_INTEGERS.search(name):
            name = _OF_INTEGERS.sub("", name)
        return name


def twins(of_float: LayerNames, of_int8: LayerNames) -> Mapping[str, str]:
    """Return the float layer of each int8 layer: the one of the same name, else the one of the same weight."""
    names = {layer.name for layer in of_float.layers}
    by_weight = {layer.weight: layer.name for layer in of_float.layers if layer.weight}
    found = {layer.name: layer.name if layer.name in names else by_weight.get(layer.weight) for layer in of_int8.layers}
    return {name: twin for name, twin in found.items() if twin is not None}


def _layer_nodes(graph: GraphProto) -> list[NodeProto]:
    return [node for node in graph.node if is_weighted(node.op_type)]
