"""Makers of small ONNX models to test with."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import ArrayLike, NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

Shape = Sequence[int | str | None]
Array = NDArray[Any]


def node(op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> NodeProto:
    """Return a node named after its first output."""
    name = attributes.pop("name", f"make_{outputs[0]}")
    return helper.make_node(op, inputs, outputs, name=name, **attributes)


def constant(name: str, values: ArrayLike) -> TensorProto:
    """Return an initializer; numbers become float32, whole numbers and truth values stay what they are."""
    array = np.asarray(values)
    return numpy_helper.from_array(array.astype(np.float32) if array.dtype == np.float64 else array, name)


def make_model(
    nodes: Sequence[NodeProto],
    constants: Mapping[str, ArrayLike],
    *,
    inputs: Mapping[str, Shape] | None = None,
    outputs: Mapping[str, Shape] | None = None,
    input_type: int = TensorProto.FLOAT,
    opset: int = 18,
) -> ModelProto:
    """Return a model from ``x`` [N, 3, 8, 8] to ``y`` [N, C], unless told otherwise."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [
            helper.make_tensor_value_info(name, input_type, shape)
            for name, shape in (inputs or {"x": ("N", 3, 8, 8)}).items()
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in (outputs or {"y": ("N", "C")}).items()
        ],
        [constant(name, values) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 8
    return model


def small_cnn(*, seed: int = 0, classes: int = 3, batch: int | str = "N", tail: Sequence[NodeProto] = ()) -> ModelProto:
    """Return Conv, Relu, MaxPool, Flatten, Gemm for images of 8x8; ``tail`` goes on from ``logits`` to ``y``."""
    random = np.random.default_rng(seed)
    last = "logits" if tail else "y"
    return make_model(
        [
            node("Conv", ["x", "conv_w", "conv_b"], ["conv"], name="conv"),
            node("Relu", ["conv"], ["relu"], name="relu"),
            node("MaxPool", ["relu"], ["pool"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
            node("Flatten", ["pool"], ["flat"], name="flatten"),
            node("Gemm", ["flat", "fc_w", "fc_b"], [last], name="fc", transB=1),
            *tail,
        ],
        {
            "conv_w": random.normal(size=(4, 3, 3, 3)) * random.uniform(0.1, 2, size=(4, 1, 1, 1)),
            "conv_b": random.normal(size=4),
            "fc_w": random.normal(size=(classes, 36)),
            "fc_b": random.normal(size=classes),
        },
        inputs={"x": (batch, 3, 8, 8)},
        outputs={"y": (batch, classes)},
    )


def weights(model: ModelProto) -> dict[str, Array]:
    """Return the initializers as arrays."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def evaluate(model: ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """Run a model with ONNX Runtime as it stands: nothing fused, nothing folded."""
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(value) for value in session.run(None, dict(feeds))]


def copy(model: ModelProto) -> ModelProto:
    """Return a model that may be changed without changing the other."""
    twin = ModelProto()
    twin.CopyFrom(model)
    return twin
