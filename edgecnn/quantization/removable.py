"""Activations that quantizing takes away: where integers end at a bound, nothing needs to clip them there.

::

    Conv ──► Relu ──► Quantize[0, 6.3]      Conv ──► Quantize[0, 6.3]

ONNX Runtime's quantizers take away every Relu and Clip behind a quantized operator. Three kinds have to be kept from
them. A Clip whose bounds exclude 0, say from 1 to 3: zero is in every range of integers, so these end elsewhere. One
that reads an answer of the network: that would be clipped with it. And, where operators compute on integers, one whose
input has the scale of something further up (a pool, a reshape, another activation) or another reader: nothing ends at
its bounds then.
"""

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

#: What the quantizer leaves out where the range of the integers before it does the same.
REMOVABLE = ("Relu", "Clip")
#: Operators on integers whose output has a scale of its own, that of an activation behind them if they have one.
_WITH_A_SCALE_OF_ITS_OWN = ("Add", "AveragePool", "Concat", "Conv", "Gemm", "GlobalAveragePool", "MatMul", "Mul")


def kept_activations(model: "ModelProto", *, qoperator: bool) -> list["NodeProto"]:
    """Return the Relus and Clips that must not be taken away.

    Args:
        model: float.
        qoperator: whether operators compute on integers, rather than between quantize and dequantize.
    """
    made = {output: node.op_type for node in model.graph.node for output in node.output}
    readers = Counter(name for node in model.graph.node for name in node.input)
    answers = {output.name for output in model.graph.output}

    def has_own_integers(name: str) -> bool:
        return made.get(name) in _WITH_A_SCALE_OF_ITS_OWN and readers[name] == 1

    return [
        node
        for node in model.graph.node
        if node.op_type in REMOVABLE
        and (
            not _keeps_zero(node, model)
            or node.input[0] in answers
            or (qoperator and not has_own_integers(node.input[0]))
        )
    ]


def _keeps_zero(node: "NodeProto", model: "ModelProto") -> bool:
    """Tell whether an activation surely gives 0 for 0."""
    if node.op_type == "Relu":
        return True
    low, high = (_bound(node, model, index) for index in (1, 2))
    return (low is None or low <= 0) and (high is None or high >= 0)


def _bound(node: "NodeProto", model: "ModelProto", index: int) -> float | None:
    """Return a bound of a Clip: an attribute before opset 11, then an input; NaN if it is computed, None without."""
    from onnx import numpy_helper

    for attribute in node.attribute:
        if attribute.name == ("", "min", "max")[index]:
            return float(attribute.f)
    name = node.input[index] if len(node.input) > index else ""
    if not name:
        return None
    values = [tensor for tensor in model.graph.initializer if tensor.name == name]
    values += [
        attribute.t
        for maker in model.graph.node
        if maker.op_type == "Constant" and name in maker.output
        for attribute in maker.attribute
        if attribute.name == "value"
    ]
    return float(np.asarray(numpy_helper.to_array(values[0])).item()) if values else float("nan")
