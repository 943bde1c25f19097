"""How each operator passes on what its inputs see of the image; one row an operator.

An operator without a row makes everything after it unknown.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgecnn.errors import ModelError
from edgecnn.graph import span as spans
from edgecnn.graph.resampling import source_positions
from edgecnn.graph.span import Span
from edgecnn.graph.tensors import Tensors
from edgecnn.graph.window import WINDOW_OPS, Shape

if TYPE_CHECKING:
    from onnx import NodeProto

#: Operators whose output at a position depends on their inputs at that position only.
POINTWISE = (
    "Abs", "Add", "And", "BatchNormalization", "Cast", "Ceil", "Celu", "Clip", "Cos", "DequantizeLinear", "Div",
    "Dropout", "Elu", "Equal", "Erf", "Exp", "Expand", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid",
    "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min", "Mish",
    "Mod", "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "QuantizeLinear", "Reciprocal", "Relu", "Round", "Selu",
    "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tanh", "ThresholdedRelu",
    "Where", "Xor",
)  # fmt: skip
_REDUCE = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare",
)  # fmt: skip
_GLOBAL_POOLS = ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
_ACROSS_ONE_AXIS = ("Softmax", "LogSoftmax", "Hardmax")
_SAME_ORDER = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


class Step:
    """One node: the spans of what goes in, and how to get those of what comes out."""

    def __init__(self, node: "NodeProto", inputs: dict[str, Span], tensors: Tensors) -> None:
        self.node, self.inputs, self.tensors = node, inputs, tensors
        self.attributes = {attribute.name: attribute for attribute in node.attribute}

    def results(self) -> Sequence[Span] | None:
        """Return the spans of the outputs (the last stands for all after it), or None where this cannot tell.

        Raises:
            ModelError: the node is one that no runtime would take.
        """
        rule = RULES.get(self.node.op_type) if self.node.domain in ("", "ai.onnx") else None
        if rule is None:
            return None
        try:
            found = rule(self)
        except spans.TooLargeError:
            return None
        except (ValueError, IndexError) as error:  # such as a Transpose of axes that are not there
            raise ModelError(
                f"{self.tensors.model}: {self.node.op_type} {self.node.name} makes no sense ({error}).",
                next_step="export the model again",
            ) from error
        return [found] if isinstance(found, Span) else found

    def shape(self, index: int = 0) -> Shape:
        """Return the shape of an input."""
        return self.tensors.shapes[self.node.input[index]]

    @property
    def output(self) -> Shape:
        """The shape of the first output."""
        return self.tensors.shapes[self.node.output[0]]

    def first(self) -> Span | None:
        """Return the span of the first input, if that is what depends on the image, and alone."""
        return self.inputs[self.node.input[0]] if self.inputs.keys() == {self.node.input[0]} else None

    def axis(self, default: int, rank: int) -> int:
        """Return the attribute ``axis``, counted from the front."""
        found = self.attributes["axis"].i if "axis" in self.attributes else default
        return found % rank

    def integers(self, attribute: str, index: int) -> list[int] | None:
        """Return whole numbers from an attribute, or from a constant input as newer opsets have it; None if unknown."""
        if attribute in self.attributes:
            return list(self.attributes[attribute].ints)
        if len(self.node.input) <= index or not self.node.input[index]:
            return []
        values = self.tensors.values.get(self.node.input[index])
        return None if values is None else [int(value) for value in values.reshape(-1)]

    def floats(self, index: int) -> list[float] | None:
        """Return the values of a constant input, none if it is left out; None if they are not known."""
        if len(self.node.input) <= index or not self.node.input[index]:
            return []
        values = self.tensors.values.get(self.node.input[index])
        return None if values is None else [float(value) for value in values.reshape(-1)]


_Rule = Callable[[Step], "Span | Sequence[Span] | None"]


def _pointwise(step: Step) -> Span:
    return spans.merged(list(step.inputs.values()))


def _window(step: Step) -> Span | None:
    node = step.node
    kernel = WINDOW_OPS[node.op_type]
    span = step.inputs.get(node.input[0])
    if span is None:
        return None
    window = step.tensors.window(node)
    shape = step.shape()
    for image_axis in range(len(shape) - 2):
        axis = image_axis + 2
        span = spans.slid(span, axis, image_axis, window, shape[axis], step.output[axis])
    if kernel is None:
        return span
    span = spans.mixed_channels(span, shape[1], window.groups, step.output[1])
    others = [other for name, other in step.inputs.items() if name != node.input[0]]
    everything = [spans.reduced(other, range(other.low.ndim)).reshaped((1,) * len(shape)) for other in others]
    return spans.merged([span, *everything])


def _across_channels(step: Step) -> Span | None:
    span, size = step.first(), step.attributes["size"].i
    if span is None:
        return None
    length, before = step.shape()[1], (size - 1) // 2
    wide = spans.padded(span, 1, length, before, size - 1 - before)
    return spans.merged([spans.taken(wide, 1, length + size - 1, slice(tap, tap + length)) for tap in range(size)])


def _global_pool(step: Step) -> Span | None:
    span = step.first()
    return None if span is None else spans.reduced(span, range(2, span.low.ndim))


def _whole_image(step: Step) -> Span | None:
    """Normalizations over channels and positions."""
    span = step.first()
    return None if span is None else spans.reduced(span, range(1, span.low.ndim))


def _layer_norm(step: Step) -> Span | None:
    span, rank = step.first(), len(step.shape())
    return None if span is None else spans.reduced(span, range(step.axis(-1, rank), rank))


def _one_axis(step: Step) -> Span | None:
    span = step.first()
    return None if span is None else spans.reduced(span, [step.axis(-1, span.low.ndim)])


def _reduce(step: Step) -> Span | None:
    span, axes = step.first(), step.integers("axes", 1)
    if span is None or axes is None:
        return None
    rank = span.low.ndim
    if not axes and step.attributes.keys() & {"noop_with_empty_axes"} and step.attributes["noop_with_empty_axes"].i:
        return span
    chosen = sorted({axis % rank for axis in axes} or range(rank))
    found = spans.reduced(span, chosen)
    if "keepdims" in step.attributes and not step.attributes["keepdims"].i:
        return found.reshaped([size for axis, size in enumerate(found.low.shape) if axis not in chosen])
    return found


def _gemm(step: Step) -> Span:
    left, right, *rest = step.node.input
    parts = [step.inputs[name] for name in rest if name in step.inputs]
    if left in step.inputs:
        turned = "transA" in step.attributes and step.attributes["transA"].i
        rows = spans.reduced(step.inputs[left], [0 if turned else 1])
        parts.append(spans.transposed(rows, (1, 0)) if turned else rows)
    if right in step.inputs:
        turned = "transB" in step.attributes and step.attributes["transB"].i
        columns = spans.reduced(step.inputs[right], [1 if turned else 0])
        parts.append(spans.transposed(columns, (1, 0)) if turned else columns)
    return spans.merged(parts)


def _matmul(step: Step) -> Span | None:
    left, right = step.node.input[0], step.node.input[3 if step.node.op_type == "QLinearMatMul" else 1]
    if min(len(step.tensors.shapes[left]), len(step.tensors.shapes[right])) < 2:
        return None
    parts = [spans.reduced(step.inputs[left], [step.inputs[left].low.ndim - 1])] if left in step.inputs else []
    parts += [spans.reduced(step.inputs[right], [step.inputs[right].low.ndim - 2])] if right in step.inputs else []
    return spans.merged(parts)


def _reshape(step: Step) -> Span | None:
    span = step.first()
    return None if span is None else spans.rearranged(span, step.shape(), step.output)


def order(node: "NodeProto", rank: int) -> tuple[int, ...]:
    """Return the order into which a Transpose brings the axes."""
    found = [tuple(attribute.ints) for attribute in node.attribute if attribute.name == "perm"]
    return found[0] if found else tuple(reversed(range(rank)))


def _transpose(step: Step) -> Span | None:
    span = step.first()
    return None if span is None else spans.transposed(span, order(step.node, span.low.ndim))


def _concat(step: Step) -> Span:
    rank = len(step.output)
    axis = step.axis(1, rank)
    lengths = [step.shape(index)[axis] for index in range(len(step.node.input))]
    parts = [step.inputs.get(name) or spans.nothing(rank) for name in step.node.input]
    return spans.concatenated(parts, lengths, axis)


def _split(step: Step) -> Sequence[Span] | None:
    span, rank = step.first(), len(step.shape())
    if span is None:
        return None
    axis, start, parts = step.axis(0, rank), 0, []
    for name in step.node.output:
        stop = start + step.tensors.shapes[name][axis]
        parts.append(spans.taken(span, axis, step.shape()[axis], slice(start, stop)))
        start = stop
    return parts


def _slice(step: Step) -> Span | None:
    span, shape = step.first(), step.shape()
    starts, axes, strides = step.integers("starts", 1), step.integers("axes", 3), step.integers("steps", 4)
    if span is None or starts is None or axes is None or strides is None:
        return None
    chosen = [axis % len(shape) for axis in axes] or range(len(starts))
    for axis, start, stride in zip(chosen, starts, strides or [1] * len(starts), strict=True):
        first = start + shape[axis] if start < 0 else start
        first = max(0, min(first, shape[axis] - 1))  # as ONNX says; the output's size says where it ends
        span = spans.taken(span, axis, shape[axis], first + stride * np.arange(step.output[axis]))
    return span


def _resize(step: Step) -> Span | None:
    span, scales, axes = step.first(), step.floats(2), step.integers("axes", len(step.node.input))
    if span is None or scales is None or axes is None:
        return None
    shape, output = step.shape(), step.output
    for place, axis in enumerate([axis % len(shape) for axis in axes] or range(len(shape))):
        scale = scales[place] if scales else output[axis] / shape[axis]
        if (positions := source_positions(step.node, shape[axis], output[axis], scale)) is None:
            return None
        span = spans.merged([spans.taken(span, axis, shape[axis], where) for where in positions])
    return span


def _gather(step: Step) -> Span | None:
    span, index = step.first(), step.tensors.values.get(step.node.input[1])
    if span is None or index is None or index.ndim > 1:
        return None
    axis = step.axis(0, span.low.ndim)
    length = step.shape()[axis]
    found = spans.taken(span, axis, length, (index.reshape(-1) % length).astype(np.int32))
    return found if index.ndim == 1 else found.reshaped([s for i, s in enumerate(found.low.shape) if i != axis])


def _pad(step: Step) -> Span | None:
    span, shape, pads, axes = step.first(), step.shape(), step.integers("pads", 1), step.integers("axes", 3)
    mode = step.attributes["mode"].s.decode(errors="replace") if "mode" in step.attributes else "constant"
    if span is None or pads is None or axes is None or min(pads, default=0) < 0:
        return None
    chosen = [axis % len(shape) for axis in axes] or list(range(len(shape)))
    for place, axis in enumerate(chosen):
        before, after = pads[place], pads[place + len(chosen)]
        if before or after:
            span = spans.padded(span, axis, shape[axis], before, after, mode)
    return span


RULES: dict[str, _Rule] = {
    **dict.fromkeys(POINTWISE, _pointwise),
    **dict.fromkeys(WINDOW_OPS, _window),
    **dict.fromkeys(_REDUCE, _reduce),
    **dict.fromkeys(_GLOBAL_POOLS, _global_pool),
    **dict.fromkeys(_ACROSS_ONE_AXIS, _one_axis),
    **dict.fromkeys(_SAME_ORDER, _reshape),
    "LRN": _across_channels,
    "InstanceNormalization": _global_pool,
    "GroupNormalization": _whole_image,
    "LayerNormalization": _layer_norm,
    "RMSNormalization": _layer_norm,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "QLinearMatMul": _matmul,
    "Transpose": _transpose,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Pad": _pad,
    "Resize": _resize,
}
