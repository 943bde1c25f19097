"""Writes what the scales make of weights, biases and other constants into a graph."""

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgecnn.graph.remove_unused import remove_unused
from edgecnn.quantization.scale_walk import Layer, Walk, reads

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

Float64 = NDArray[np.float64]


class Rewriter:
    """Writes scaled constants; a constant that is read elsewhere too stays, and a copy is scaled.

    Args:
        model: changed in place.
        walk: what is to be scaled.
        scale: of each lane, float64 [lanes].
    """

    def __init__(self, model: "ModelProto", walk: Walk, scale: Float64) -> None:
        self._model, self._walk, self._scale = model, walk, scale
        self._readers = Counter(name for node in model.graph.node for name in reads(node))
        self._readers.update(output.name for output in model.graph.output)
        self._initializers = {tensor.name: tensor for tensor in model.graph.initializer}

    def rewrite(self) -> None:
        """Scale every constant that takes up a scale."""
        for layer in self._walk.layers:
            self._layer(layer)
        for summand in self._walk.summands:
            self._replace(summand.node, summand.place, self._scale[summand.lanes])
        remove_unused(self._model)

    def _layer(self, layer: Layer) -> None:
        made, read = self._scale[layer.outputs], self._scale[layer.inputs]
        weight = self._walk.constants[layer.node.input[1]]
        factor = np.ones_like(layer.layout.to_blocks(weight), np.float64)
        factor *= (made[:, :, None] / read[:, None, :])[..., None]
        self._replace(layer.node, 1, layer.layout.from_blocks(factor, weight.shape))
        if len(layer.node.input) > 2 and layer.node.input[2]:
            self._replace(layer.node, 2, made.reshape(-1))

    def _replace(self, node: "NodeProto", place: int, factor: Float64) -> None:
        """Multiply a constant input; one that all factors leave alone keeps its shape and its bytes."""
        from onnx import numpy_helper

        if (factor == 1).all():
            return
        name = node.input[place]
        scaled = (self._walk.constants[name] * factor).astype(np.float32)
        if self._readers[name] == 1 and name in self._initializers:
            self._initializers[name].CopyFrom(numpy_helper.from_array(scaled, name))
            return
        node.input[place] = f"{name}.of.{node.output[0]}.{place}"
        self._model.graph.initializer.append(numpy_helper.from_array(scaled, node.input[place]))
