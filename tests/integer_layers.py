"""Models of a single integer layer, built so that a sum of two products shows in the answer to the last unit."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from tests.graphs import make_model, node

Integers = NDArray[Any]
#: What each output answers when nothing saturates.
EXPECTED = 100


def layer_model(
    op: str,
    weights: Integers,
    bias: Sequence[int] | Integers,
    *,
    shape: Sequence[int],
    signed: bool = False,
    group: int = 1,
    trans_b: bool = False,
    before: str = "",
    scale: float = 1.0,
    output_scale: float = 1.0,
    zero: int = 0,
) -> bytes:
    """Return a model from float ``x`` [N, ...] to the layer's integers as float ``y`` [N, ...].

    Args:
        op: Conv, Gemm or MatMul (in QDQ form), QLinearConv, QLinearMatMul, QGemm, ConvInteger or MatMulInteger.
        weights: as the operator takes them.
        bias: int32, one an output; the integer operators and MatMul take none.
        shape: of one input.
        signed: whether activations are int8; the input 0 to 255 is then -128 to 127.
        group: of a convolution.
        trans_b: of Gemm and QGemm.
        before: an operator between the input and its quantization.
        scale: of the quantized input.
        zero: the zero point of unsigned activations.
        output_scale: of QLinearMatMul's output, which has no bias to bring it into range.
    """
    constants = {
        "one": np.float32(1),
        "xs": np.float32(scale),
        "xz": np.int8(-128) if signed else np.uint8(zero),
        "w": weights,
        "wz": weights.dtype.type(0),
        "b": np.asarray(bias, np.int32),
        "yz": np.int8(0) if signed and op.startswith("Q") else np.uint8(0),
        "bs": np.float32(scale),
        "bz": np.int32(0),
        "ys": np.float32(output_scale),
    }
    conv = "Conv" in op
    attributes: dict[str, Any] = {"group": group} if conv else {"transB": int(trans_b)} if "Gemm" in op else {}
    source = "act" if before else "x"
    nodes = [node(before, ["x"], ["act"])] if before else []
    nodes += [node("QuantizeLinear", [source, "xs", "xz"], ["xq"]), *_body(op, attributes)]
    model = make_model(
        nodes,
        constants,
        inputs={"x": ("N", *shape)},
        outputs={"y": ("N", "C", "H", "W") if conv else ("N", "C")},
    )
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return bytes(model.SerializeToString())


def _body(op: str, attributes: dict[str, Any]) -> list[NodeProto]:
    if op in ("ConvInteger", "MatMulInteger"):
        return [
            node(op, ["xq", "w", "xz", "wz"], ["i"], name="layer", **attributes),
            node("Cast", ["i"], ["y"], to=TensorProto.FLOAT),
        ]
    last = node("DequantizeLinear", ["yq", "one", "yz"], ["y"])
    if op == "QLinearConv":
        inputs = ["xq", "xs", "xz", "w", "one", "wz", "one", "yz", "b"]
        return [node(op, inputs, ["yq"], name="layer", **attributes), last]
    if op == "QLinearMatMul":
        return [node(op, ["xq", "xs", "xz", "w", "one", "wz", "ys", "yz"], ["yq"], name="layer"), last]
    if op == "QGemm":
        inputs = ["xq", "xs", "xz", "w", "one", "wz", "b", "one", "yz"]
        return [node(op, inputs, ["yq"], name="layer", domain="com.microsoft", **attributes), last]
    biased = [node("DequantizeLinear", ["b", "bs", "bz"], ["bd"])] if op != "MatMul" else []
    return [
        node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
        node("DequantizeLinear", ["w", "one", "wz"], ["wd"]),
        *biased,
        node(op, ["xd", "wd", *(["bd"] if biased else [])], ["f"], name="layer", **attributes),
        *([] if op == "MatMul" else [node("QuantizeLinear", ["f", "one", "yz"], ["yq"])]),
        *([node("Identity", ["f"], ["y"])] if op == "MatMul" else [last]),
    ]
