"""A network as a table: each layer's volumes, the arithmetic of its size, and what it costs.

Read off an ONNX graph. A quantized graph is read through its Quantize and Dequantize nodes: they stand for how a
tensor is stored, and are no layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from edgecnn.graph import receptive_field
from edgecnn.graph.constants import Constant
from edgecnn.graph.memory import Peak, peak_activation
from edgecnn.graph.span_rules import RULES
from edgecnn.graph.tensors import Tensors, read_tensors
from edgecnn.graph.window import WINDOW_OPS, Shape, Window, size_arithmetic

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

#: Where the weights of an operator stand among its inputs; the second tuple holds what comes with integer weights.
_WEIGHTS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "Conv": ((1, 2), ()),
    "ConvTranspose": ((1, 2), ()),
    "ConvInteger": ((1,), (3,)),
    "QLinearConv": ((3, 8), (4, 5)),
    "Gemm": ((0, 1, 2), ()),
    "MatMul": ((0, 1), ()),
    "MatMulInteger": ((0, 1), (2, 3)),
    "QLinearMatMul": ((0, 3), (4, 5)),
    "BatchNormalization": ((1, 2, 3, 4), ()),
    "InstanceNormalization": ((1, 2), ()),
    "GroupNormalization": ((1, 2), ()),
    "LayerNormalization": ((1, 2), ()),
    "RMSNormalization": ((1,), ()),
    "PRelu": ((1,), ()),
    "Gather": ((0,), ()),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), ((0, 1), ())),
}
_CONVOLUTIONS = ("Conv", "ConvInteger", "QLinearConv")
_PRODUCTS = {"MatMul": (0, 1), "MatMulInteger": (0, 1), "QLinearMatMul": (0, 3)}
_NO_LAYER = ("QuantizeLinear", "DequantizeLinear", "Identity")
#: Operators without a receptive field here that multiply nothing worth counting either.
_ALSO_FREE = (
    "ArgMax", "ArgMin", "Compress", "CumSum", "DepthToSpace", "EyeLike", "GatherElements", "GatherND",
    "LpNormalization", "MaxRoiPool", "MaxUnpool", "MeanVarianceNormalization", "NonZero", "OneHot",
    "ReverseSequence", "ScatterElements", "ScatterND", "SpaceToDepth", "Tile", "TopK", "Trilu", "Upsample",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Dense:
    """A fully connected layer that would do what a convolution does.

    Attributes:
        weights: one from every input to every output.
        biases: one an output, if the convolution has any.
        macs: of one call.
        weight_bytes: at the bytes the convolution stores a weight in; four a bias.
    """

    weights: int
    biases: int
    macs: int
    weight_bytes: int


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One node of the graph and its cost in one call.

    Attributes:
        name: of the node.
        op: its operator.
        inputs: shapes of what goes in, without weights and without the batch.
        outputs: shapes of what comes out, without the batch.
        window: kernel, stride and padding, for a convolution or pool.
        arithmetic: how the output's size follows from the input's, written out; empty without a window.
        parameters: values of its weights and biases.
        macs: multiplications that are added up, of convolutions and matrix products.
        weight_bytes: of the weights as stored, with the scales and zero points of integer ones.
        activation_bytes: of what comes out, as stored.
        receptive_field: how many pixels high and wide one value sees; empty without an image, None where unknown.
        dense: a fully connected layer in the place of a convolution.
        doubt: why a figure may be wrong or missing; empty if none is.
    """

    name: str
    op: str
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    window: Window | None
    arithmetic: str
    parameters: int
    macs: int
    weight_bytes: int
    activation_bytes: int
    receptive_field: tuple[int, ...] | None
    dense: Dense | None
    doubt: str


@dataclass(frozen=True, kw_only=True)
class Network:
    """All layers, in the order in which they run, and what they cost together.

    Attributes:
        image: shape of the input, without the batch.
        batch: images a call: what the file fixes, or 1 where it may vary.
        layers: see :class:`Layer`.
        parameters: of all layers; a weight that two of them share counts once.
        macs: of all layers.
        weight_bytes: of all layers; a tensor that two of them share counts once.
        activation_bytes: of all layers.
        peak: the most activation memory alive at once.
        doubts: what these figures leave out; empty if nothing.
    """

    image: Shape
    batch: int
    layers: tuple[Layer, ...]
    parameters: int
    macs: int
    weight_bytes: int
    activation_bytes: int
    peak: Peak
    doubts: tuple[str, ...]

    @property
    def neuron_weights(self) -> int:
        """Weights of one neuron of a fully connected layer that sees the whole input."""
        return prod(self.image)


def read_network(model: "ModelProto", name: str) -> Network:
    """Return the layers of a graph and their cost.

    Args:
        model: a checked ONNX model with one input of a fixed size; its batch may vary.
        name: what to call it in a message.

    Raises:
        ModelError: a size is not known, so nothing true could be said of the network.
    """
    tensors = read_tensors(model, name)
    fields = receptive_field.propagate(model, tensors)
    nodes = [node for node in model.graph.node if tensors.flows(node) and node.op_type not in _NO_LAYER]
    layers = tuple(_layer(node, tensors, fields) for node in nodes)
    parameters = {name: count for node in nodes for name, count in _parameters(node, tensors).items()}
    stored = {name: size for node in nodes for name, size in _stored(node, tensors).items()}
    return Network(
        image=tensors.shapes[tensors.image][1:],
        batch=tensors.batch,
        layers=layers,
        parameters=sum(parameters.values()),
        macs=sum(layer.macs for layer in layers),
        weight_bytes=sum(stored.values()),
        activation_bytes=sum(layer.activation_bytes for layer in layers),
        peak=peak_activation(model, tensors),
        doubts=tuple(_doubts(nodes, tensors)),
    )


def _layer(node: "NodeProto", tensors: Tensors, fields: dict[str, tuple[int, ...] | None]) -> Layer:
    outputs = [output for output in node.output if output]
    window, arithmetic, doubts = None, "", []
    if node.op_type in WINDOW_OPS:
        source, output = tensors.shapes[node.input[0]], tensors.shapes[node.output[0]]
        window = tensors.window(node)
        arithmetic, doubt = size_arithmetic(window, source[2:], output[2:])
        doubts.append(doubt)
    if not _is_counted(node):
        doubts.append("its multiplications are not counted")
    if any(output in tensors.declared for output in outputs):
        doubts.append("its size is what the file says, not derived")
    return Layer(
        name=node.name or node.output[0],
        op=node.op_type,
        inputs=tuple(tensors.without_batch(source) for source in tensors.flowing_inputs(node)),
        outputs=tuple(tensors.without_batch(output) for output in outputs),
        window=window,
        arithmetic=arithmetic,
        parameters=sum(_parameters(node, tensors).values()),
        macs=_macs(node, tensors),
        weight_bytes=sum(_stored(node, tensors).values()),
        activation_bytes=sum(tensors.stored_bytes[output] for output in outputs),
        receptive_field=fields[node.output[0]],
        dense=_dense(node, tensors) if node.op_type in _CONVOLUTIONS else None,
        doubt="; ".join(filter(None, doubts)),
    )


def _is_counted(node: "NodeProto") -> bool:
    """Tell whether all that a node multiplies is known: not of a stranger's operator, nor of a graph within."""
    known = node.op_type in RULES or node.op_type in _ALSO_FREE
    return known and node.domain in ("", "ai.onnx")


def _weight_places(node: "NodeProto") -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return where a node's weights stand among its inputs, and what comes with integer ones."""
    if node.op_type == "Concat" or not _is_counted(node):
        return tuple(range(len(node.input))), ()
    return _WEIGHTS.get(node.op_type, ((), ()))


def _constants(node: "NodeProto", places: Sequence[int], tensors: Tensors) -> list[Constant]:
    names = [node.input[place] for place in places if place < len(node.input)]
    return [tensors.constants[name] for name in names if name in tensors.constants]


def _parameters(node: "NodeProto", tensors: Tensors) -> dict[str, int]:
    """Return the weights of a node, by name."""
    weights, _ = _weight_places(node)
    return {name: n for constant in _constants(node, weights, tensors) for name, n in constant.parameters.items()}


def _stored(node: "NodeProto", tensors: Tensors) -> dict[str, int]:
    """Return the tensors of the file that a node's weights are made of, by name."""
    weights, scales = _weight_places(node)
    found = [constant for constant in _constants(node, weights, tensors) if constant.parameters]
    found += _constants(node, scales, tensors) if found else []
    return {name: size for constant in found for name, size in constant.stored.items()}


def _macs(node: "NodeProto", tensors: Tensors) -> int:
    """Return the multiply-accumulates of one call; additions, pools, normalizations and activations count none."""
    shapes = [tensors.shapes[name] if name else () for name in node.input]
    output = tensors.shapes[node.output[0]]
    if node.op_type in _CONVOLUTIONS:
        return prod(output) * prod(shapes[WINDOW_OPS[node.op_type] or 1][1:])
    if node.op_type == "ConvTranspose":
        return prod(shapes[0]) * prod(shapes[1][1:])
    if node.op_type == "Gemm":
        turned = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
        return prod(output) * shapes[0][0 if turned else 1]
    if node.op_type in _PRODUCTS:
        return prod(output) * shapes[_PRODUCTS[node.op_type][0]][-1]
    return 0


def _dense(node: "NodeProto", tensors: Tensors) -> Dense:
    source, output = tensors.shapes[node.input[0]][1:], tensors.shapes[node.output[0]][1:]
    weight = node.input[WINDOW_OPS[node.op_type] or 1]
    bits = tensors.constants[weight].item_bits if weight in tensors.constants else 32
    bias = {"Conv": 2, "QLinearConv": 8}.get(node.op_type, len(node.input))
    biases = prod(output) if bias < len(node.input) and node.input[bias] else 0
    weights = prod(source) * prod(output)
    return Dense(
        weights=weights,
        biases=biases,
        macs=weights * tensors.shapes[node.input[0]][0],
        weight_bytes=-(-weights * bits // 8) + 4 * biases,
    )


def _doubts(nodes: "list[NodeProto]", tensors: Tensors) -> list[str]:
    """Return what the totals leave out."""
    uncounted = sorted({node.op_type for node in nodes if not _is_counted(node)})
    doubts = []
    if uncounted:
        doubts.append(f"the multiplications of {', '.join(uncounted)} are not known here, and not in the totals")
    if tensors.batch > 1:
        doubts.append(f"the file takes {tensors.batch} images a call: MACs and activation bytes are of all of them")
    return doubts
