"""Subtracting a mean and dividing by a deviation, channel by channel, in one pass over the image.

    image -> Sub a constant [1, C, 1, 1] -> Div by a constant [1, C, 1, 1]

becomes

    image -> BatchNormalization
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.rewriting.attributes import operator
from edgecnn.rewriting.editor import Editor
from edgecnn.rewriting.site import Site

if TYPE_CHECKING:
    from onnx import NodeProto

NAME = "one-normalization"
_FLOAT = np.finfo(np.float32)


def join_normalization(editor: Editor, nodes: "list[NodeProto]") -> list[Site]:
    """Join each subtraction and the division behind it."""
    sites = []
    for node in nodes:
        divide = editor.only_reader(node.output[0]) if operator(node) == "Sub" else None
        if divide is not None and operator(divide) == "Div" and divide.input[0] == node.output[0]:
            site = _join(editor, node, divide)
            if site is not None:
                sites.append(site)
    return sites


def _join(editor: Editor, subtract: "NodeProto", divide: "NodeProto") -> Site | None:
    sizes = editor.image_sizes(subtract.input[0])
    mean, deviation = editor.constant(subtract.input[1]), editor.constant(divide.input[1])
    if sizes is None or mean is None or deviation is None or editor.type(subtract.input[0]) != "float32":
        return None
    mean, deviation = _by_channel(mean, sizes[0]), _by_channel(deviation, sizes[0])
    if mean is None or deviation is None or not (deviation > 0).all():
        return None
    variance = np.square(deviation.astype(np.float64))
    if variance.min() < _FLOAT.tiny or variance.max() > _FLOAT.max:
        return None
    stem = f"{divide.output[0]}.normalization"
    one, zero = np.ones(sizes[0], np.float32), np.zeros(sizes[0], np.float32)
    constants = [
        editor.add_constant(f"{stem}_{word}", values)
        for word, values in (("scale", one), ("bias", zero), ("mean", mean), ("variance", variance.astype(np.float32)))
    ]
    inputs = [subtract.input[0], *constants]
    editor.remove(subtract, divide)
    editor.add_as(divide.output[0], "BatchNormalization", inputs, {"epsilon": 0.0})
    return Site(rewrite=NAME, node=subtract.name, applied=True, reason=f"one operator with {divide.name}")


def _by_channel(values: NDArray[Any], channels: int) -> NDArray[Any] | None:
    """Return one value a channel from a constant that broadcasts so over ``[N, C, H, W]``; None if it does not."""
    if values.size == 1 and values.ndim <= 4:
        return np.full(channels, values.reshape(()), values.dtype)
    if values.shape in ((1, channels, 1, 1), (channels, 1, 1)):
        return values.reshape(channels)
    return None
