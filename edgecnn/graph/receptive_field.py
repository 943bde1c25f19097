"""How much of the image one value of each tensor sees.

Not by formula: each tensor carries from where to where its values look along each axis of the image, through padding,
branches that meet and channels that are cut and shuffled. The field of a tensor is the largest extent among its values.
It may have holes, where a dilated kernel skips, and it is never larger than the image.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgecnn.graph import span as spans
from edgecnn.graph.span import Span
from edgecnn.graph.span_rules import POINTWISE, Step, order
from edgecnn.graph.tensors import Tensors

if TYPE_CHECKING:
    from onnx import ModelProto


def propagate(model: "ModelProto", tensors: Tensors) -> dict[str, tuple[int, ...] | None]:
    """Return, for every tensor that depends on the image, how far its values see along each axis of the image.

    Height and width for a picture; nothing for an input without such axes. None after an operator this cannot be
    right about.
    """
    axes = image_axes(model, tensors)
    tracks = [_track(model, tensors, axis) for axis in axes]
    names = [name for name in tensors.shapes if name not in tensors.constants]
    fields: dict[str, tuple[int, ...] | None] = {}
    for name in names:
        found = [track.get(name) for track in tracks]
        fields[name] = None if any(one is None for one in found) else tuple(one.size for one in found if one)
    return fields


def image_axes(model: "ModelProto", tensors: Tensors) -> tuple[int, ...]:
    """Return the input's axes that are neither batch nor channels: by a Transpose in front, else [N, C, H, W]."""
    rank = len(tensors.shapes[tensors.image])
    channel, names = 1, {tensors.image}
    for node in model.graph.node:
        if not tensors.flows(node) or not node.input or node.input[0] not in names:
            continue
        if node.op_type == "Transpose":
            channel = order(node, rank)[1]
            break
        if node.op_type in POINTWISE:
            names |= set(node.output)
    return tuple(axis for axis in range(1, rank) if axis != channel)


def _track(model: "ModelProto", tensors: Tensors, axis: int) -> dict[str, Span | None]:
    """Return the span of every tensor along one axis of the image."""
    shape = tensors.shapes[tensors.image]
    try:
        known: dict[str, Span | None] = {tensors.image: spans.of_image(len(shape), axis, shape[axis])}
    except spans.TooLargeError:
        return {}
    for node in model.graph.node:
        if not tensors.flows(node):
            continue
        sources = tensors.flowing_inputs(node)
        results: Sequence[Span] | None = None
        if sources and all(known.get(name) is not None for name in sources):
            inputs = {name: span for name in sources if (span := known[name]) is not None}
            results = Step(node, inputs, tensors).results()
        for index, name in enumerate(node.output):
            if name:
                found = None if results is None else results[min(index, len(results) - 1)]
                known[name] = None if found is None else _fit(found, len(tensors.shapes[name]))
    return known


def _fit(span: Span, rank: int) -> Span:
    """Give a span as many axes as its tensor has: NumPy's broadcasting puts new ones in front."""
    missing = rank - span.low.ndim
    return span.reshaped((1,) * missing + span.low.shape) if missing > 0 else span
