"""What a quantized graph's integers are: the layers that multiply them, their weights, and the values they can have.

Both forms are read: QDQ (a float operator between DequantizeLinear and QuantizeLinear, which ONNX Runtime fuses) and
QOperator (QLinearConv and its kin).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

Interval = tuple[float, float]
_EVERYTHING: Interval = (-np.inf, np.inf)
#: Operators on integers: which input holds the weights. The activation is input 0, its zero point input 2.
_QOPERATORS = {"QLinearConv": 3, "QLinearMatMul": 3, "QGemm": 3, "ConvInteger": 1, "MatMulInteger": 1}
#: Where an operator is told the zero point of what it gives, and with it the type.
_OUTPUT_ZERO_POINT = {"QuantizeLinear": 2, "QLinearConv": 7, "QLinearMatMul": 7, "QGemm": 8}
_QDQ = ("Conv", "Gemm", "MatMul")
#: What only moves, selects or averages values: the interval of what comes in holds for what goes out.
_KEEPS = (
    "MaxPool", "NhwcMaxPool", "GlobalMaxPool", "GlobalAveragePool", "ReduceMean", "ReduceMax", "Flatten", "Reshape",
    "Transpose", "Squeeze", "Unsqueeze", "Identity", "Dropout", "DepthToSpace", "SpaceToDepth", "Slice", "Gather",
)  # fmt: skip
_BOUNDED: dict[str, Interval] = {
    "Sigmoid": (0, 1),
    "HardSigmoid": (0, 1),
    "Softmax": (0, 1),
    "Tanh": (-1, 1),
    "Sin": (-1, 1),
    "Cos": (-1, 1),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class IntegerLayer:
    """A layer that multiplies integers.

    Attributes:
        name: the node's name, or its output's.
        op: its operator.
        weights: integers ``[outputs, K]`` in the order in which a dot product is summed: for a convolution kernel
            row, kernel column, input channel. None where they are not constant.
        depthwise: whether each output channel sees one input channel of its own.
        activation: lowest and highest value that the quantized activation can have.
        signed_activation: whether that is an int8.
        wide_activation: whether it has 16 bits.
        qdq: whether the operator is a float one between DequantizeLinear and QuantizeLinear.
    """

    name: str
    op: str
    weights: NDArray[np.generic] | None
    depthwise: bool
    activation: tuple[int, int]
    signed_activation: bool
    wide_activation: bool
    qdq: bool


def integer_layers(model: "ModelProto") -> Iterator[IntegerLayer]:
    """Yield the layers of a quantized graph that multiply integers, in the graph's order."""
    graph = _Graph(model)
    for node in model.graph.node:
        if node.op_type in _QDQ:
            found = graph.dequantized(node.input[0]), graph.dequantized(node.input[1])
        elif node.op_type in _QOPERATORS:
            found = node.input[0], node.input[_QOPERATORS[node.op_type]]
        else:
            continue
        if found[0] is not None and found[1] is not None:
            yield graph.layer(node, found[0], found[1])


class _Graph:
    """The graph's constants and producers, and the intervals that were worked out so far."""

    def __init__(self, model: "ModelProto") -> None:
        from onnx import numpy_helper

        self._producers = {output: node for node in model.graph.node for output in node.output}
        self._constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self._constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        self._intervals: dict[str, Interval] = {}

    def dequantized(self, name: str) -> str | None:
        """Return the integers that a DequantizeLinear turns into ``name``, or None if nothing does."""
        producer = self._producers.get(name)
        return producer.input[0] if producer is not None and producer.op_type == "DequantizeLinear" else None

    def layer(self, node: "NodeProto", activation: str, weight: str) -> IntegerLayer:
        values = self._constants.get(weight)
        group = _attribute(node, "group", 1)
        dtype = self._dtype(activation)
        if node.op_type in _QOPERATORS and (told := self._constant(node, 2)) is not None:
            dtype = told.dtype
        low, high = self._integers(activation, dtype)
        return IntegerLayer(
            name=node.name or node.output[0],
            op=node.op_type,
            weights=None if values is None else _rows(node, values),
            depthwise=values is not None and group > 1 and values.shape[:2] == (group, 1),
            activation=(low, high),
            signed_activation=dtype == np.int8,
            wide_activation=dtype.itemsize > 1,
            qdq=node.op_type in _QDQ,
        )

    def _dtype(self, name: str) -> np.dtype[Any]:
        """Return the type of quantized values: that of the zero point they are made with, uint8 without one."""
        producer = self._producers.get(name)
        while producer is not None and producer.op_type in _KEEPS:
            producer = self._producers.get(producer.input[0])
        if producer is not None and producer.op_type in _OUTPUT_ZERO_POINT:
            zero = self._constant(producer, _OUTPUT_ZERO_POINT[producer.op_type])
            if zero is not None:
                return np.dtype(zero.dtype)
        return np.dtype(np.uint8)

    def _constant(self, node: "NodeProto", index: int) -> NDArray[Any] | None:
        """Return a constant input of a node; None if it is left out or not constant."""
        return self._constants.get(node.input[index]) if index < len(node.input) else None

    def _integers(self, name: str, dtype: np.dtype[Any]) -> tuple[int, int]:
        """Return the lowest and highest value of a quantized tensor; all of its type, unless something is known."""
        limits = np.iinfo(dtype)
        low, high = self._interval(name)
        return int(max(low, limits.min)), int(min(high, limits.max))

    def _interval(self, name: str) -> Interval:
        if name not in self._intervals:
            producer = self._producers.get(name)
            self._intervals[name] = _EVERYTHING if producer is None else self._after(producer)
        return self._intervals[name]

    def _after(self, node: "NodeProto") -> Interval:
        """Return where the values lie that a node gives."""
        if node.op_type in _BOUNDED:
            return _BOUNDED[node.op_type]
        if node.op_type in _KEEPS:
            return self._interval(node.input[0])
        if node.op_type == "Relu":
            low, high = self._interval(node.input[0])
            return max(low, 0.0), max(high, 0.0)
        if node.op_type == "AveragePool":  # padding may count as zeros
            low, high = self._interval(node.input[0])
            return min(low, 0.0), max(high, 0.0)
        if node.op_type == "Concat":
            parts = [self._interval(each) for each in node.input]
            return min(low for low, _ in parts), max(high for _, high in parts)
        if node.op_type == "Clip":
            return self._clipped(node)
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            return self._rescaled(node)
        return _EVERYTHING

    def _clipped(self, node: "NodeProto") -> Interval:
        low, high = self._interval(node.input[0])
        least, most = self._constant(node, 1), self._constant(node, 2)
        if least is not None:
            low, high = max(low, float(least)), max(high, float(least))
        if most is not None:
            low, high = min(low, float(most)), min(high, float(most))
        return low, high

    def _rescaled(self, node: "NodeProto") -> Interval:
        """Return the interval on the other side of a scale and zero point, rounded as ONNX Runtime rounds."""
        scale, zero = self._constant(node, 1), self._constant(node, 2)
        if len(node.input) < 3:
            zero = np.zeros((), np.uint8)
        if scale is None or zero is None or scale.size != 1 or float(scale.reshape(())) <= 0:
            return _EVERYTHING
        ends = np.asarray(self._interval(node.input[0]), np.float32)
        step, point = np.float32(scale.reshape(())), np.float32(zero.reshape(()))
        limits = np.iinfo(zero.dtype)
        if node.op_type == "DequantizeLinear":
            ends = (np.clip(ends, limits.min, limits.max) - point) * step
        else:
            with np.errstate(over="ignore"):
                ends = np.clip(np.rint(ends / step) + point, limits.min, limits.max)
        return float(ends[0]), float(ends[1])


def _rows(node: "NodeProto", values: NDArray[np.generic]) -> NDArray[np.generic]:
    """Return weights as ``[outputs, K]``, K in the order in which ONNX Runtime's kernels sum."""
    if node.op_type in ("Conv", "QLinearConv", "ConvInteger"):  # [M, C/group, kernel...]: channels innermost
        return np.moveaxis(values, 1, -1).reshape(len(values), -1)
    if _attribute(node, "transB", 0):
        return values
    if values.ndim == 1:
        return values[None]
    return np.moveaxis(values, -1, -2).reshape(-1, values.shape[-2])


def _attribute(node: "NodeProto", name: str, default: int) -> int:
    return next((attribute.i for attribute in node.attribute if attribute.name == name), default)
