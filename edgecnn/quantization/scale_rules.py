"""What each operator does to a factor that a channel is multiplied by: one rule an operator.

A rule gives the lanes of the node's outputs, or says why nothing may be scaled there. An operator without a rule is
such a barrier: what touches it keeps its scale. All rules speak of positive factors.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgecnn.quantization.scale_lanes import Lanes, align, only_on_axis
from edgecnn.quantization.scale_rules_shape import (
    MIXES,
    Reason,
    concat,
    cut_out,
    is_zero,
    keep_order,
    pad,
    reduce,
    split,
    transpose,
)
from edgecnn.quantization.scale_walk import Ceiling, Layer, Summand, Walk, reads
from edgecnn.quantization.weighted_layers import attribute, layout

if TYPE_CHECKING:
    from onnx import NodeProto

Float64 = NDArray[np.float64]
Rule = Callable[[Walk, "NodeProto"], Reason]


def follow(walk: Walk, node: "NodeProto") -> None:
    """Go through one node: apply its rule, and fix what it touches if the rule says so."""
    if not walk.tensors.flows(node) and not any(name in walk.lanes for name in reads(node)):
        return
    rule = RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if rule is None:
        reason: Reason = "does not keep a factor of its input"
    elif rule not in _OF_ANY_INPUT and node.input[0] not in walk.lanes:
        reason = "has parameters that depend on the image"
    else:
        reason = rule(walk, node)
    if reason is not None:
        walk.barrier(node, f"{node.op_type} {node.name} {reason}")
        return
    for output in filter(None, node.output):
        lanes = walk.lanes[output]
        if lanes.ndim and lanes.shape[0] > 1:  # the first axis counts images, however many come
            walk.table.fix(lanes, f"{node.op_type} {node.name} puts channels where images are counted")


def _same(walk: Walk, node: "NodeProto") -> Reason:
    """Scale the result: f(s x) = s f(x), value by value."""
    if any(name in walk.lanes for name in node.input[1:]):
        return "has parameters that depend on the image"
    for output in filter(None, node.output):
        walk.lanes[output] = walk.lanes[node.input[0]]
    return None


def _over_space(walk: Walk, node: "NodeProto") -> Reason:
    """Each value comes from one channel, and is scaled as it is; the places that MaxPool tells stay the same."""
    if attribute(node, "coordinate_transformation_mode", b"") == b"tf_crop_and_resize":
        return "may fill in a constant"
    before, after = (walk.tensors.shapes[name] for name in (node.input[0], node.output[0]))
    if not only_on_axis(walk.lanes[node.input[0]], 1) or before[:2] != after[:2]:
        return MIXES
    return _same(walk, node)


def _add(walk: Walk, node: "NodeProto") -> Reason:
    """Scale them alike: s x + s y = s (x + y): all summands share a scale, and constants grow with them."""
    if any(name not in walk.lanes and name not in walk.constants for name in node.input):
        return "adds a constant that is computed, or not float32"
    whole = _joined(walk, node)
    constants = [place for place, name in enumerate(node.input) if name not in walk.lanes]
    walk.summands.extend(Summand(node=node, place=place, lanes=whole) for place in constants)
    walk.lanes[node.output[0]] = whole
    return None


def _extreme(walk: Walk, node: "NodeProto") -> Reason:
    """Scale them alike: max(s x, s y) = s max(x, y), and likewise with 0."""
    if any(name not in walk.lanes and not is_zero(walk, name) for name in node.input):
        return "compares with a constant other than 0"
    walk.lanes[node.output[0]] = _joined(walk, node)
    return None


def _joined(walk: Walk, node: "NodeProto") -> Lanes:
    """Let all inputs share a scale wherever they meet, and return the lanes of what they make."""
    rank = walk.rank(node.output[0])
    first, *others = (align(walk.lanes[name], rank) for name in walk.flowing(node))
    for lanes in others:
        walk.table.join(first, lanes)
        first = np.broadcast_arrays(first, lanes)[0]
    return first


def _multiply(walk: Walk, node: "NodeProto") -> Reason:
    """Scale the result: (s x) g = s (x g): one factor carries the scale, the other is a constant or keeps its own."""
    rank = walk.rank(node.output[0])
    first, second = (walk.lanes.get(name) for name in node.input)
    if first is None or (second is not None and walk.table.is_fixed(first)):
        if node.op_type == "Div":
            return "divides by what depends on the image"
        first, second = second, first
    if first is None or (second is not None and not walk.table.is_fixed(second)):
        return "multiplies two things that depend on the image"
    walk.lanes[node.output[0]] = align(first, rank)
    return None


def _clip(walk: Walk, node: "NodeProto") -> Reason:
    """Clip to [0, inf) is Relu. Another bound allows scales at which no value that was seen meets it."""
    name = node.input[0]
    low, high = (_bound(walk, node, place) for place in (1, 2))
    if low is None or high is None:
        return "has bounds that are computed"
    if low in (0.0, -np.inf) and high == np.inf:
        return _same(walk, node)
    seen = walk.ranges.get(name)
    if seen is None:
        return f"clips to [{low:g}, {high:g}], and no ranges tell whether a value comes so far"
    lanes = walk.lanes[name]
    if not only_on_axis(lanes, 1) or seen.high.shape != lanes.shape[1:2]:
        return "clips what is not one range a channel"
    by_channel = lanes.reshape(-1)
    room = np.minimum(_room(seen.high, high), _room(-seen.low, -low))
    if (room < 1).any():
        walk.table.fix(by_channel[room < 1], f"{node.op_type} {node.name} clips it")
    walk.ceilings.append(Ceiling(lanes=by_channel, scale=np.maximum(room, 1.0)))
    walk.lanes[node.output[0]] = lanes
    return None


def _room(reached: Float64, bound: float) -> Float64:
    """Return by how much each channel may grow before it reaches a bound; below 1 where it is beyond it."""
    if bound == 0:  # met or not, at any scale
        return np.full(len(reached), np.inf)
    if bound < 0:
        return np.zeros(len(reached))
    room: Float64 = np.divide(bound, reached, out=np.full(len(reached), np.inf), where=reached > 0)
    return room


def _normalization(walk: Walk, node: "NodeProto") -> Reason:
    """What is left of batch norm is y = g (x - m) / sqrt(v + e) + b: m and b grow with x, the rest stays."""
    lanes = walk.lanes[node.input[0]]
    if len(node.output) > 1 or any(name not in walk.constants for name in node.input[1:]):
        return "is not that of inference"
    if not only_on_axis(lanes, 1):
        return MIXES
    channels = np.broadcast_to(lanes.reshape(-1), walk.tensors.shapes[node.input[2]])
    walk.summands.extend(Summand(node=node, place=place, lanes=channels) for place in (2, 3))
    walk.lanes[node.output[0]] = lanes
    return None


def _bound(walk: Walk, node: "NodeProto", place: int) -> float | None:
    """Return a bound of a Clip, infinite if there is none; None if it is computed."""
    absent = -np.inf if place == 1 else np.inf
    if len(node.input) > place and node.input[place]:
        values = walk.tensors.values.get(node.input[place])
        return None if values is None else float(values.item())
    stated = float(attribute(node, "min" if place == 1 else "max", absent))
    return absent if abs(stated) >= np.finfo(np.float32).max else stated


def _convolution(walk: Walk, node: "NodeProto") -> Reason:
    form, shape = layout(node), walk.tensors.shapes[node.input[1]]
    return _layer(walk, node, axis=1, n_inputs=shape[0] if form.inputs_first else shape[1] * form.groups)


def _matrix(walk: Walk, node: "NodeProto") -> Reason:
    shape = walk.tensors.shapes[node.input[1]]
    if len(shape) != 2 or attribute(node, "transA", 0):
        return "is not a layer"
    return _layer(walk, node, axis=-1, n_inputs=shape[0] if layout(node).inputs_first else shape[1])


def _layer(walk: Walk, node: "NodeProto", *, axis: int, n_inputs: int) -> Reason:
    """A layer takes its input's scales out of its weights and puts its outputs' in."""
    if any(name and name not in walk.constants for name in node.input[1:]):
        return "has weights that are computed, may be set by a caller, or are not float32"
    lanes, form = walk.lanes[node.input[0]], layout(node)
    if not only_on_axis(lanes, axis):
        return MIXES
    inputs = np.broadcast_to(lanes.reshape(-1), (n_inputs,)).reshape(form.groups, -1)
    n_outputs = walk.tensors.shapes[node.output[0]][axis]
    made = [1] * walk.rank(node.output[0])
    made[axis] = n_outputs
    outputs = walk.table.new(tuple(made))
    walk.lanes[node.output[0]] = outputs
    walk.layers.append(Layer(node=node, layout=form, outputs=outputs.reshape(form.groups, -1), inputs=inputs))
    return None


RULES: dict[str, Rule] = {
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "Gemm": _matrix,
    "MatMul": _matrix,
    "Relu": _same,
    "LeakyRelu": _same,
    "PRelu": _same,
    "Abs": _same,
    "Neg": _same,
    "Identity": _same,
    "Dropout": _same,
    "Clip": _clip,
    "BatchNormalization": _normalization,
    "MaxPool": _over_space,
    "AveragePool": _over_space,
    "LpPool": _over_space,
    "GlobalMaxPool": _over_space,
    "GlobalAveragePool": _over_space,
    "GlobalLpPool": _over_space,
    "Resize": _over_space,
    "Upsample": _over_space,
    "ReduceMean": reduce,
    "ReduceMax": reduce,
    "ReduceMin": reduce,
    "ReduceSum": reduce,
    "ReduceL1": reduce,
    "ReduceL2": reduce,
    "Reshape": keep_order,
    "Flatten": keep_order,
    "Squeeze": keep_order,
    "Unsqueeze": keep_order,
    "Transpose": transpose,
    "Concat": concat,
    "Split": split,
    "Slice": cut_out,
    "Pad": pad,
    "Add": _add,
    "Sub": _add,
    "Sum": _add,
    "Max": _extreme,
    "Min": _extreme,
    "Mul": _multiply,
    "Div": _multiply,
}
#: Rules that do not ask that the first input depend on the image.
_OF_ANY_INPUT: tuple[Rule, ...] = (concat, _add, _extreme, _multiply)
