"""One pass over a graph that finds which channels may be scaled together, and what has to be rewritten."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.graph.tensors import Tensors, read_tensors
from edgecnn.quantization.scale_lanes import Lanes, LaneTable
from edgecnn.quantization.weighted_layers import Layout

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

Float32 = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class ChannelRange:
    """What was seen of each channel of a tensor: smallest and largest value, float [C]."""

    low: NDArray[Any]
    high: NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """A layer whose weights take up the scales.

    Attributes:
        node: the layer.
        layout: how it stores its weights.
        outputs: lanes of the channels it makes, [groups, outputs].
        inputs: lanes of the channels it reads, [groups, inputs].
    """

    node: "NodeProto"
    layout: Layout
    outputs: Lanes
    inputs: Lanes


@dataclass(frozen=True, kw_only=True, eq=False)
class Summand:
    """A constant that is added to a tensor and must grow with it: input ``place`` of ``node``."""

    node: "NodeProto"
    place: int
    lanes: Lanes


@dataclass(frozen=True, kw_only=True, eq=False)
class Ceiling:
    """Scales above which an activation would be clipped that was not before, by lane."""

    lanes: Lanes
    scale: NDArray[np.float64]


class Walk:
    """What is known while going through a graph; the rules read it and write to it.

    Attributes:
        tensors: shapes and constants.
        constants: float32 constants of the file, by name.
        ranges: of inputs of Clip, by tensor.
        lanes: of each tensor that depends on the image.
        table: which lanes share a scale.
    """

    def __init__(self, model: "ModelProto", name: str, ranges: Mapping[str, ChannelRange]) -> None:
        self.tensors: Tensors = read_tensors(model, name)
        self.constants = float_constants(model)
        self.ranges = ranges
        self.table = LaneTable()
        self.lanes: dict[str, Lanes] = {}
        self.layers: list[Layer] = []
        self.summands: list[Summand] = []
        self.ceilings: list[Ceiling] = []
        self.lanes[self.tensors.image] = self.table.new_fixed(self.rank(self.tensors.image), "is the network's input")

    def rank(self, name: str) -> int:
        """Return the number of axes of a tensor."""
        return len(self.tensors.shapes[name])

    def flowing(self, node: "NodeProto") -> list[str]:
        """Return the inputs of a node that depend on the image, without repetition."""
        return [name for name in dict.fromkeys(node.input) if name in self.lanes]

    def fix(self, name: str, reason: str) -> None:
        """Leave a tensor as it is."""
        if name in self.lanes:
            self.table.fix(self.lanes[name], reason)

    def barrier(self, node: "NodeProto", reason: str) -> None:
        """Leave everything that a node touches as it is, also what its branches read from around them."""
        for name in reads(node):
            self.fix(name, reason)
        for output in filter(None, node.output):
            self.lanes[output] = self.table.new_fixed(self.rank(output), reason)

    def whole_numbers(self, node: "NodeProto", place: int) -> list[int] | None:
        """Return a constant input that says where to cut, pad or reduce; None if it is absent or computed."""
        if place >= len(node.input) or node.input[place] not in self.tensors.values:
            return None
        return [int(value) for value in self.tensors.values[node.input[place]].ravel()]


def reads(node: "NodeProto") -> list[str]:
    """Return all that a node reads, its branches and loop bodies included."""
    inner = [graph for item in node.attribute for graph in (item.g, *item.graphs)]
    return [*node.input, *(name for graph in inner for one in graph.node for name in reads(one))]


def float_constants(model: "ModelProto") -> dict[str, Float32]:
    """Return the float32 constants that stand in the file, by every name they go by.

    What is also an input of the graph may be set by a caller, and is no constant.
    """
    from onnx import numpy_helper

    inputs = {value.name for value in model.graph.input}
    arrays = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer if item.name not in inputs}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            arrays[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        elif node.op_type == "Identity" and node.input[0] in arrays:
            arrays[node.output[0]] = arrays[node.input[0]]
    return {name: array for name, array in arrays.items() if array.dtype == np.float32}
