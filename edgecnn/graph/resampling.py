"""Which pixels a Resize reads for each pixel that it makes (ONNX operators, Resize)."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import NodeProto

#: A coordinate this near to a whole number reads one pixel and not two that could be told apart.
_DECIMALS = 5
Coordinates = NDArray[np.float64]


def source_positions(
    node: "NodeProto", length: int, output: int, scale: float
) -> tuple[NDArray[np.int32], NDArray[np.int32]] | None:
    """Return the first and last position that each output reads along an axis, or None for a mode not known here.

    Args:
        node: a Resize.
        length: of the input along the axis.
        output: length of the output.
        scale: output pixels per input pixel, as the file states it.
    """
    texts = {attribute.name: attribute.s.decode(errors="replace") for attribute in node.attribute}
    antialias = any(attribute.name == "antialias" and attribute.i for attribute in node.attribute)
    mode = texts.get("mode", "nearest")
    x = _coordinates(texts.get("coordinate_transformation_mode", "half_pixel"), length, output, scale)
    if x is None or mode not in ("nearest", "linear") or (antialias and mode == "linear" and scale < 1):
        return None
    x = np.round(x, _DECIMALS)
    if mode == "nearest":
        first = last = _rounded(x, texts.get("nearest_mode", "round_prefer_floor"))
    else:
        first, last = np.floor(x), np.ceil(x)
    low, high = (np.clip(end, 0, length - 1).astype(np.int32) for end in (first, last))
    return low, high


def _coordinates(mode: str, length: int, output: int, scale: float) -> Coordinates | None:
    """Return where each output lies in the input."""
    made = np.arange(output, dtype=np.float64)
    if mode == "half_pixel" or (mode == "pytorch_half_pixel" and output > 1):
        return (made + 0.5) / scale - 0.5
    if mode == "asymmetric":
        return made / scale
    if mode == "align_corners" and output > 1:
        return made * (length - 1) / (output - 1)
    return np.zeros(output) if mode in ("pytorch_half_pixel", "align_corners") else None


def _rounded(x: Coordinates, mode: str) -> Coordinates:
    """Return the nearest whole numbers; in between, runtimes differ by how they round before."""
    match mode:
        case "floor":
            return np.floor(x)
        case "ceil":
            return np.ceil(x)
        case "round_prefer_ceil":
            return np.floor(x + 0.5)
        case _:
            return np.ceil(x - 0.5)
