"""A small network for each rewrite, to which it applies."""

from collections.abc import Callable

import numpy as np
from onnx import ModelProto, TensorProto

from tests.graphs import make_model, node
from tests.qdq_nets import QdqNet


def quantized(*, batch: int | str = "N") -> ModelProto:
    """Return a small network between integers, to which all that is for int8 applies but means and bytes."""
    net = QdqNet((3, 12, 16), seed=1)
    net.conv(6, pads=(1, 1, 1, 1))
    net.pool()
    net.flatten()
    net.gemm(5)
    return net.model(batch=batch, opset=18)


def pixels() -> ModelProto:
    """Return a network that takes bytes, turns them about, scales and normalizes them, and ends in a mean."""
    net = QdqNet((12, 16, 3), seed=1)
    net.nodes.clear()
    net.constants |= {"x_scale": np.float32(1 / 255), "x_zero_point": np.uint8(0), "most": np.float32(255)}
    net.scale = np.float32(1 / 255)
    net.nodes += [
        node("Transpose", ["x"], ["first"], perm=[0, 3, 1, 2]),
        node("Cast", ["first"], ["cast"], to=TensorProto.FLOAT, name="cast"),
        node("Div", ["cast", "most"], ["scaled"]),
        node("QuantizeLinear", ["scaled", "x_scale", "x_zero_point"], ["x_q"]),
    ]
    net.shape = (3, 12, 16)
    net.conv(8)
    net.constants["axes"] = np.array([2, 3], np.int64)
    net.move("ReduceMean", "axes", shape=(8,), keepdims=0)
    net.gemm(5)
    model = net.model(opset=18)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    return model


def photos() -> ModelProto:
    """Return a float network that normalizes, convolves, pools, and reads what was turned channels first."""
    random = np.random.default_rng(0)
    return make_model(
        [
            node("Transpose", ["x"], ["first"], perm=[0, 3, 1, 2]),
            node("Sub", ["first", "mean"], ["centred"]),
            node("Div", ["centred", "deviation"], ["normal"]),
            node("Conv", ["normal", "w"], ["c"]),
            node("Relu", ["c"], ["r"]),
            node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
            node("ReduceMean", ["p", "axes"], ["m"], keepdims=0),
            node("Flatten", ["first"], ["flat"]),
            node("Gemm", ["flat", "fc"], ["g"]),
            node("Add", ["g", "m"], ["y"]),
        ],
        {
            "mean": np.full((1, 3, 1, 1), 0.5),
            "deviation": np.full((1, 3, 1, 1), 0.25),
            "w": random.normal(size=(6, 3, 3, 3)),
            "axes": np.array([2, 3]),
            "fc": random.normal(size=(192, 6)),
        },
        inputs={"x": ("N", 8, 8, 3)},
        outputs={"y": ("N", 6)},
    )


#: A network to which each pass applies.
SUBJECTS: dict[str, Callable[[], ModelProto]] = {
    "one-normalization": photos,
    "mean-pool": pixels,
    "integer-input": pixels,
    "integer-chain": quantized,
    "blocked-conv": quantized,
    "padded-blocked-conv": quantized,
    "pool-phases": photos,
    "flatten-order": photos,
}
