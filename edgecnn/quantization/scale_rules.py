"""What each operator does to a factor that a channel is multiplied by: one rule an operator.

A rule gives the lanes of the node's outputs, or says why nothing may be scaled there. An operator without a rule is
such a barrier: what touches it keeps its scale. All rules speak of positive factors.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from edgecnn.quantization.scale_lanes import Lanes, align, compress, only_on_axis, reshape
from edgecnn.quantization.scale_walk import Ceiling, Layer, Summand, Walk
from edgecnn.quantization.weighted_layers import attribute, layout

if TYPE_CHECKING:
    from onnx import NodeProto

#: Why a node is a barrier, or None if it is none.
Reason = str | None
Rule = Callable[[Walk, "NodeProto"], Reason]
_MIXES = "mixes what may have different scales"


def follow(walk: Walk, node: "NodeProto") -> None:
    """Go through one node: apply its rule, and fix what it touches if the rule says so."""
    if not walk.tensors.flows(node):
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
    """f(s x) = s f(x), value by value."""
    if any(name in walk.lanes for name in node.input[1:]):
        return "has parameters that depend on the image"
    for output in filter(None, node.output):
        walk.lanes[output] = walk.lanes[node.input[0]]
    return None


def _over_space(walk: Walk, node: "NodeProto") -> Reason:
    """Each value comes from one channel, and is scaled as it is."""
    if len([name for name in node.output if name]) > 1:
        return "gives indices as well"
    if attribute(node, "coordinate_transformation_mode", b"") == b"tf_crop_and_resize":
        return "may fill in a constant"
    before, after = (walk.tensors.shapes[name] for name in (node.input[0], node.output[0]))
    if not only_on_axis(walk.lanes[node.input[0]], 1) or before[:2] != after[:2]:
        return _MIXES
    return _same(walk, node)


def _reduce(walk: Walk, node: "NodeProto") -> Reason:
    lanes = walk.lanes[node.input[0]]
    axes = attribute(node, "axes", None)
    if axes is None:
        axes = walk.whole_numbers(node, 1)
    if axes is None or not axes:
        return "reduces over axes that the graph does not name"
    axes = tuple(axis % lanes.ndim for axis in axes)
    if any(lanes.shape[axis] > 1 for axis in axes):
        return _MIXES
    walk.lanes[node.output[0]] = lanes if attribute(node, "keepdims", 1) else lanes.squeeze(axes)
    return None


def _reshape(walk: Walk, node: "NodeProto") -> Reason:
    """Reshape, Flatten, Squeeze and Unsqueeze leave the values in their order."""
    name, shapes = node.input[0], walk.tensors.shapes
    walk.lanes[node.output[0]] = reshape(walk.lanes[name], shapes[name], shapes[node.output[0]])
    return None


def _transpose(walk: Walk, node: "NodeProto") -> Reason:
    lanes = walk.lanes[node.input[0]]
    walk.lanes[node.output[0]] = lanes.transpose(attribute(node, "perm", range(lanes.ndim)[::-1]))
    return None


def _concat(walk: Walk, node: "NodeProto") -> Reason:
    axis = attribute(node, "axis", 0) % walk.rank(node.output[0])
    parts = []
    for name in node.input:
        if name in walk.lanes:
            part = walk.lanes[name]
        else:
            part = walk.table.new_fixed(walk.rank(name), f"{node.op_type} {node.name} joins it to a constant")
        parts.append(np.repeat(part, walk.tensors.shapes[name][axis] // part.shape[axis], axis))
    common = np.broadcast_shapes(*(part[_first(part, axis)].shape for part in parts))
    whole = [np.broadcast_to(part, (*common[:axis], part.shape[axis], *common[axis + 1 :])) for part in parts]
    walk.lanes[node.output[0]] = compress(np.concatenate(whole, axis))
    return None


def _first(lanes: Lanes, axis: int) -> tuple[slice, ...]:
    return tuple(slice(0, 1) if index == axis else slice(None) for index in range(lanes.ndim))


def _split(walk: Walk, node: "NodeProto") -> Reason:
    lanes, start = walk.lanes[node.input[0]], 0
    axis = attribute(node, "axis", 0) % lanes.ndim
    if not all(node.output):
        return "has a part that is left out"
    for output in node.output:
        stop = start + walk.tensors.shapes[output][axis]
        walk.lanes[output] = lanes if lanes.shape[axis] == 1 else lanes.take(range(start, stop), axis)
        start = stop
    return None


def _slice(walk: Walk, node: "NodeProto") -> Reason:
    lanes = walk.lanes[node.input[0]]
    starts, ends = walk.whole_numbers(node, 1), walk.whole_numbers(node, 2)
    if starts is None or ends is None:
        return "cuts where the graph does not say"
    axes = walk.whole_numbers(node, 3) or list(range(len(starts)))
    steps = walk.whole_numbers(node, 4) or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if lanes.shape[axis] > 1:
            if step < 0:
                return "runs backwards over the channels"
            lanes = lanes.take(range(lanes.shape[axis])[start:end:step], axis)
    walk.lanes[node.output[0]] = lanes
    return None


def _pad(walk: Walk, node: "NodeProto") -> Reason:
    """Zeros are zeros at any scale; channels made of them are free."""
    lanes, pads = walk.lanes[node.input[0]], walk.whole_numbers(node, 1)
    if pads is None or (len(node.input) > 3 and node.input[3]):
        return "pads where the graph does not say"
    zeros = attribute(node, "mode", b"constant") == b"constant"
    if zeros and len(node.input) > 2 and node.input[2] and not _is_zero(walk, node.input[2]):
        return "pads with a value other than 0"
    for axis, (before, after) in enumerate(zip(pads[: lanes.ndim], pads[lanes.ndim :], strict=True)):
        if lanes.shape[axis] == 1 or not (before or after):
            continue
        if min(before, after) < 0 or not zeros:
            return "pads over the channels"
        edges = [walk.table.new(_with_size(lanes, axis, size)) for size in (before, after)]
        lanes = np.concatenate([edges[0], lanes, edges[1]], axis)
    walk.lanes[node.output[0]] = lanes
    return None


def _with_size(lanes: Lanes, axis: int, size: int) -> tuple[int, ...]:
    return (*lanes.shape[:axis], size, *lanes.shape[axis + 1 :])


def _is_zero(walk: Walk, name: str) -> bool:
    return name in walk.tensors.values and not walk.tensors.values[name].any()


def _add(walk: Walk, node: "NodeProto") -> Reason:
    """s x + s y = s (x + y): all summands share a scale, and constants grow with them."""
    if any(name not in walk.lanes and name not in walk.constants for name in node.input):
        return "adds a constant that is computed, or not float32"
    whole = _joined(walk, node)
    constants = [place for place, name in enumerate(node.input) if name not in walk.lanes]
    walk.summands.extend(Summand(node=node, place=place, lanes=whole) for place in constants)
    walk.lanes[node.output[0]] = whole
    return None


def _extreme(walk: Walk, node: "NodeProto") -> Reason:
    """max(s x, s y) = s max(x, y), and likewise with 0."""
    if any(name not in walk.lanes and not _is_zero(walk, name) for name in node.input):
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
    """(s x) g = s (x g): one factor carries the scale, the other is a constant or keeps its own."""
    rank = walk.rank(node.output[0])
    first, second = (walk.lanes.get(name) for name in node.input)
    if first is None or (second is not None and node.op_type == "Mul" and walk.table.is_fixed(first)):
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


def _room(reached: np.ndarray, bound: float) -> np.ndarray:
    """Return by how much each channel may grow before it reaches a bound; below 1 where it is beyond it."""
    if bound == 0:  # met or not, at any scale
        return np.full(len(reached), np.inf)
    if bound < 0:
        return np.zeros(len(reached))
    return np.divide(bound, reached, out=np.full(len(reached), np.inf), where=reached > 0)


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
        return _MIXES
    inputs = np.broadcast_to(lanes.reshape(-1), (n_inputs,)).reshape(form.groups, -1)
    n_outputs = walk.tensors.shapes[node.output[0]][axis]
    made = [1] * walk.rank(node.output[0])
    made[axis] = n_outputs
    outputs = walk.table.new(tuple(made))
    walk.lanes[node.output[0]] = outputs
    walk.layers.append(
        Layer(node=node, layout=form, outputs=outputs.reshape(form.groups, -1), inputs=inputs)
    )
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
    "MaxPool": _over_space,
    "AveragePool": _over_space,
    "LpPool": _over_space,
    "GlobalMaxPool": _over_space,
    "GlobalAveragePool": _over_space,
    "GlobalLpPool": _over_space,
    "Resize": _over_space,
    "Upsample": _over_space,
    "ReduceMean": _reduce,
    "ReduceMax": _reduce,
    "ReduceMin": _reduce,
    "ReduceSum": _reduce,
    "ReduceL1": _reduce,
    "ReduceL2": _reduce,
    "Reshape": _reshape,
    "Flatten": _reshape,
    "Squeeze": _reshape,
    "Unsqueeze": _reshape,
    "Transpose": _transpose,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Pad": _pad,
    "Add": _add,
    "Sub": _add,
    "Sum": _add,
    "Max": _extreme,
    "Min": _extreme,
    "Mul": _multiply,
    "Div": _multiply,
}
#: Rules that do not ask that the first input depend on the image.
_OF_ANY_INPUT: tuple[Rule, ...] = (_concat, _add, _extreme, _multiply)
