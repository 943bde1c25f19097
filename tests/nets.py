"""Random small networks, and what really happens in them: shapes and dependencies as ONNX Runtime sees them."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, RuntimeException

from tests.graphs import copy, make_model, node

Array = NDArray[Any]
HEIGHT, WIDTH = 9, 8


def everything(model: ModelProto, images: Array) -> dict[str, Array]:
    """Return every tensor that a model computes, with nothing fused."""
    twin = copy(model)
    names = [name for one in twin.graph.node for name in one.output if name]
    del twin.graph.output[:]
    twin.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(twin.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = session.run(None, {twin.graph.input[0].name: images})
    return dict(zip(names, (np.asarray(value) for value in found), strict=True))


def seen_by_poking(model: ModelProto, shape: tuple[int, int, int]) -> dict[str, tuple[int, int]]:
    """Change one pixel at a time and return, for every tensor, how high and wide its values' dependence reaches.

    The model must have positive weights and nothing that saturates, so that a change is never lost.
    """
    channels, height, width = shape
    random = np.random.default_rng(0)
    image = random.uniform(0.5, 1.5, (channels, height, width)).astype(np.float32)
    batch = np.stack([image] * (height * width + 1))
    for index in range(height * width):
        batch[index, :, index // width, index % width] += 1e7
    if model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1:  # it would mix the images of a batch
        single = [everything(model, batch[index : index + 1]) for index in range(len(batch))]
        values_of = {name: np.stack([values[name] for values in single]) for name in single[0]}
    else:
        values_of = everything(model, batch)
    found = {}
    for name, values in values_of.items():
        changed = (values[:-1] != values[-1:]).reshape(height, width, -1)
        found[name] = (_reach(changed.any(1)), _reach(changed.any(0)))
    return found


def _reach(changed: NDArray[np.bool_]) -> int:
    """Return the distance between the first and the last row that change a value, the largest of all values'."""
    rows = np.arange(len(changed))[:, None]
    last = np.where(changed, rows, -1).max(0)
    first = np.where(changed, rows, len(changed)).min(0)
    return int(max(0, (last - first + 1).max()))


class Net:
    """A network that grows node by node, and knows its own shape by running."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, Array] = {}
        self.name, self.shape = "x", (3, HEIGHT, WIDTH)
        self.older: list[tuple[str, tuple[int, ...]]] = []

    def weights(self, *shape: int) -> str:
        """Add positive weights that keep values near one, and return their name."""
        fan_in = int(np.prod(shape[1:]))
        return self.constant((self.random.uniform(0.5, 1.5, shape) / fan_in).astype(np.float32))

    def constant(self, values: Array) -> str:
        """Add a constant and return its name."""
        name = f"c{len(self.constants)}"
        self.constants[name] = values
        return name

    def add(self, op: str, inputs: list[str], **attributes: Any) -> bool:
        """Add a node, unless it leaves nothing of the image; tell whether it was added."""
        name = f"t{len(self.nodes)}"
        grown = [*self.nodes, node(op, inputs, [name], **attributes)]
        try:
            found = everything(self._model(grown, name, None), np.ones((1, 3, HEIGHT, WIDTH), np.float32))
        except (Fail, InvalidArgument, RuntimeException):
            return False
        shape = found[name].shape[1:]
        if 0 in shape:
            return False
        self.nodes, self.older = grown, [*self.older, (self.name, self.shape)]
        self.name, self.shape = name, shape
        return True

    def model(self) -> ModelProto:
        """Return what has grown; the batch may vary."""
        return self._model(self.nodes, self.name, ("N", *self.shape))

    def _model(self, nodes: list[NodeProto], output: str, shape: tuple[int | str, ...] | None) -> ModelProto:
        used = {name for one in nodes for name in one.input}
        model = make_model(
            nodes,
            {name: values for name, values in self.constants.items() if name in used},
            inputs={"x": ("N", 3, HEIGHT, WIDTH)},
        )
        del model.graph.output[:]
        model.graph.output.append(helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, shape))
        return model


PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))
STEPS = st.tuples(st.integers(1, 2), st.integers(1, 2))
PADS = st.tuples(*[st.integers(0, 2)] * 4)
GROWERS = ("conv", "depthwise", "transposed", "max", "average", "pad", "slice", "branch", "concat", "shuffle", "relu")


@st.composite
def networks(draw: st.DrawFn) -> ModelProto:
    """Draw a network of one to five layers on images of 9x8."""
    net = Net(draw(st.integers(0, 99)))
    for kind in draw(st.lists(st.sampled_from(GROWERS), min_size=1, max_size=5)):
        _grow(draw, net, kind)
    if not net.nodes:
        net.add("Relu", [net.name])
    if draw(st.booleans()):
        _classify(net)
    return net.model()


def _grow(draw: st.DrawFn, net: Net, kind: str) -> None:
    channels, *_ = net.shape
    kernel, stride, pads = draw(PAIRS), draw(STEPS), draw(PADS)
    window = {"kernel_shape": kernel, "strides": stride, "pads": pads}
    match kind:
        case "conv":
            weight = net.weights(draw(st.integers(1, 4)), channels, *kernel)
            net.add("Conv", [net.name, weight], dilations=draw(STEPS), **window)
        case "depthwise":
            weight = net.weights(channels * draw(st.integers(1, 2)), 1, *kernel)
            net.add("Conv", [net.name, weight], group=channels, **window)
        case "transposed":
            weight = net.weights(channels, 2, *kernel)
            net.add("ConvTranspose", [net.name, weight], **window)
        case "max" | "average":
            op = "MaxPool" if kind == "max" else "AveragePool"
            window["pads"] = tuple(min(pad, kernel[index % 2] - 1) for index, pad in enumerate(pads))
            net.add(op, [net.name], ceil_mode=draw(st.integers(0, 1)), **window)
        case "pad":
            sizes = net.constant(np.array([0, 0, *pads[:2], 0, 0, *pads[2:]], np.int64))
            net.add("Pad", [net.name, sizes], mode=draw(st.sampled_from(["constant", "edge", "reflect"])))
        case "slice":
            _slice(draw, net)
        case "branch" | "concat":
            same = [name for name, shape in net.older if shape[1:] == net.shape[1:] and len(shape) == len(net.shape)]
            if kind == "concat" and same:
                net.add("Concat", [net.name, draw(st.sampled_from(same))], axis=1)
            same = [name for name, shape in net.older if shape == net.shape]
            if kind == "branch" and same:
                net.add("Add", [net.name, draw(st.sampled_from(same))])
        case "shuffle" if channels % 2 == 0:
            height, width = net.shape[1:]
            net.add("Reshape", [net.name, net.constant(np.array([0, 2, channels // 2, height, width]))])
            net.add("Transpose", [net.name], perm=[0, 2, 1, 3, 4])
            net.add("Reshape", [net.name, net.constant(np.array([0, channels, height, width]))])
        case _:
            net.add("Relu", [net.name])


def _slice(draw: st.DrawFn, net: Net) -> None:
    axis = draw(st.integers(1, 3))
    size = net.shape[axis - 1]
    start, stop = draw(st.integers(-size, size - 1)), draw(st.integers(-size - 1, size + 2))
    step = draw(st.sampled_from([1, 2, -1]))
    net.add("Slice", [net.name, *(net.constant(np.array([value])) for value in (start, stop, axis, step))])


def _classify(net: Net) -> None:
    net.add("Flatten", [net.name])
    net.add("Gemm", [net.name, net.weights(3, net.shape[0])], transB=1)
