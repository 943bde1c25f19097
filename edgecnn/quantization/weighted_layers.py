"""Layers with weights, seen alike: blocks [groups, outputs, inputs, kernel], whatever their operator stores.

| operator | stored as | here |
|---|---|---|
| Conv | [O, I/g, *kernel] | [g, O/g, I/g, K] |
| ConvTranspose | [I, O/g, *kernel] | [g, O/g, I/g, K] |
| Gemm | [I, O], or [O, I] if transB | [1, O, I, 1] |
| MatMul | [I, O] | [1, O, I, 1] |
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import NodeProto

Blocks = NDArray[Any]
#: Operators with weights as their second input, and with a bias as their third where they have one.
WITH_WEIGHTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How an operator stores its weights.

    Attributes:
        inputs_first: whether inputs come before outputs: ConvTranspose, MatMul, and Gemm without transB.
        groups: of a convolution; 1 for others.
    """

    inputs_first: bool
    groups: int

    def to_blocks(self, weight: NDArray[Any]) -> Blocks:
        """Return weights as [groups, outputs, inputs, kernel]."""
        first, second = weight.shape[:2]
        blocks = weight.reshape(self.groups, first // self.groups, second, -1)
        return blocks.swapaxes(1, 2) if self.inputs_first else blocks

    def from_blocks(self, blocks: Blocks, shape: tuple[int, ...]) -> NDArray[Any]:
        """Return blocks as the operator stores them."""
        stored = blocks.swapaxes(1, 2) if self.inputs_first else blocks
        return np.ascontiguousarray(stored).reshape(shape)


def attribute(node: "NodeProto", name: str, default: Any) -> Any:
    """Return an attribute's value, or a default."""
    from onnx import helper

    for item in node.attribute:
        if item.name == name:
            return helper.get_attribute_value(item)
    return default


def layout(node: "NodeProto") -> Layout:
    """Return how a node with weights stores them."""
    if node.op_type == "Gemm":
        return Layout(inputs_first=not attribute(node, "transB", 0), groups=1)
    if node.op_type == "MatMul":
        return Layout(inputs_first=True, groups=1)
    return Layout(inputs_first=node.op_type == "ConvTranspose", groups=attribute(node, "group", 1))
