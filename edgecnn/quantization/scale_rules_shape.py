"""What operators that move values about do to the lanes of a tensor; see :mod:`edgecnn.quantization.scale_rules`."""

from typing import TYPE_CHECKING

import numpy as np

from edgecnn.quantization.scale_lanes import Lanes, compress, reshape
from edgecnn.quantization.scale_walk import Walk
from edgecnn.quantization.weighted_layers import attribute

if TYPE_CHECKING:
    from onnx import NodeProto

#: Why a node is a barrier, or None if it is none.
Reason = str | None
MIXES = "mixes what may have different scales"


def reduce(walk: Walk, node: "NodeProto") -> Reason:
    """A mean, sum or extreme over axes along which the lanes are the same."""
    lanes = walk.lanes[node.input[0]]
    axes = attribute(node, "axes", None)
    if axes is None:
        axes = walk.whole_numbers(node, 1)
    if axes is None or not axes:
        return "reduces over axes that the graph does not name"
    axes = tuple(axis % lanes.ndim for axis in axes)
    if any(lanes.shape[axis] > 1 for axis in axes):
        return MIXES
    walk.lanes[node.output[0]] = lanes if attribute(node, "keepdims", 1) else lanes.squeeze(axes)
    return None


def keep_order(walk: Walk, node: "NodeProto") -> Reason:
    """Reshape, Flatten, Squeeze and Unsqueeze leave the values in their order."""
    name, shapes = node.input[0], walk.tensors.shapes
    walk.lanes[node.output[0]] = reshape(walk.lanes[name], shapes[name], shapes[node.output[0]])
    return None


def transpose(walk: Walk, node: "NodeProto") -> Reason:
    """Axes in another order."""
    lanes = walk.lanes[node.input[0]]
    walk.lanes[node.output[0]] = lanes.transpose(attribute(node, "perm", range(lanes.ndim)[::-1]))
    return None


def concat(walk: Walk, node: "NodeProto") -> Reason:
    """Lanes one behind the other; a constant part keeps its scale."""
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


def split(walk: Walk, node: "NodeProto") -> Reason:
    """Each output gets its part of the lanes."""
    lanes, start = walk.lanes[node.input[0]], 0
    axis = attribute(node, "axis", 0) % lanes.ndim
    if not all(node.output):
        return "has a part that is left out"
    for output in node.output:
        stop = start + walk.tensors.shapes[output][axis]
        walk.lanes[output] = lanes if lanes.shape[axis] == 1 else lanes.take(range(start, stop), axis)
        start = stop
    return None


def cut_out(walk: Walk, node: "NodeProto") -> Reason:
    """Slice: the lanes that are left."""
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


def pad(walk: Walk, node: "NodeProto") -> Reason:
    """Zeros are zeros at any scale; channels made of them are free."""
    lanes, pads = walk.lanes[node.input[0]], walk.whole_numbers(node, 1)
    if pads is None or (len(node.input) > 3 and node.input[3]):
        return "pads where the graph does not say"
    zeros = attribute(node, "mode", b"constant") == b"constant"
    if zeros and len(node.input) > 2 and node.input[2] and not is_zero(walk, node.input[2]):
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


def is_zero(walk: Walk, name: str) -> bool:
    """Tell whether a tensor is a small constant of zeros."""
    return name in walk.tensors.values and not walk.tensors.values[name].any()
