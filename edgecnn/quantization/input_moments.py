"""Second moments of what a layer's weights are multiplied with, over patches of images, streamed."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgecnn.graph.window import Window, read_window
from edgecnn.quantization.weighted_layers import Layout, layout

if TYPE_CHECKING:
    from onnx import NodeProto

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
#: Neighbouring patches are much alike; more images teach more than more patches of one.
PATCHES_PER_IMAGE = 16


class InputMoments:
    """G = E[x x^T] of one layer, float64 [groups, n, n]: n weights make one output value.

    Args:
        node: Conv, Gemm or MatMul.
        weight_shape: of its weights.
        seed: of the choice of patches.
    """

    def __init__(self, node: "NodeProto", weight_shape: tuple[int, ...], seed: int) -> None:
        self._node, self._weight_shape = node, weight_shape
        self._layout: Layout = layout(node)
        self._random = np.random.default_rng(seed)
        self._sum: Float64 | float = 0.0
        self._count = 0

    def add(self, inputs: Float32, output_shape: tuple[int, ...]) -> None:
        """Take in a batch of the layer's inputs; the shape of its outputs tells where patches lie."""
        rows = self._patches(inputs, output_shape).astype(np.float64)  # [groups, samples, n]
        self._sum = self._sum + rows.swapaxes(1, 2) @ rows
        self._count += rows.shape[1]

    def value(self) -> Float64:
        """Return the mean of all that was taken in."""
        return np.asarray(self._sum / self._count, np.float64)

    def _patches(self, inputs: Float32, output_shape: tuple[int, ...]) -> Float32:
        if self._node.op_type != "Conv":
            return inputs.reshape(1, -1, inputs.shape[-1])
        window = read_window(self._node, inputs.shape, output_shape, self._weight_shape, "the quantized model")
        positions = self._choose(output_shape)
        patches = cut_patches(inputs, window, positions)
        groups = self._layout.groups
        n, places = patches.shape[:2]
        grouped = patches.reshape(n * places, groups, -1)
        return grouped.swapaxes(0, 1)

    def _choose(self, output_shape: tuple[int, ...]) -> NDArray[np.int64]:
        """Return positions of the output, int64 [axes, places], other ones for each batch."""
        sizes = output_shape[2:]
        total = int(np.prod(sizes))
        chosen = self._random.choice(total, min(total, PATCHES_PER_IMAGE), replace=False)
        return np.stack(np.unravel_index(np.sort(chosen), sizes))


def cut_patches(inputs: Float32, window: Window, positions: NDArray[np.int64]) -> Float32:
    """Return what a convolution multiplies its weights with.

    Args:
        inputs: float32 [N, C, *sizes].
        window: the convolution's.
        positions: of output values, int64 [axes, places].

    Returns:
        float32 [N, places, C, *kernel].
    """
    pads = [(0, 0), (0, 0), *zip(window.pads_before, window.pads_after, strict=True)]
    padded = np.pad(inputs, pads)
    axes = len(window.kernel)
    corners = []
    for axis in range(axes):
        offsets = np.arange(window.kernel[axis]) * window.dilation[axis]
        offsets = offsets.reshape([-1 if index == axis else 1 for index in range(axes)])
        starts = (positions[axis] * window.stride[axis]).reshape(-1, *[1] * axes)
        corners.append(starts + offsets)
    taken = padded[(slice(None), slice(None), *corners)]  # [N, C, places, *kernel]
    return np.ascontiguousarray(taken.swapaxes(1, 2))
