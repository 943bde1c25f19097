"""Networks between integers, written node by node with random weights, scales and zero points."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import ArrayLike, NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper

from tests.graphs import Shape, constant, node

Array = NDArray[Any]
#: An output's type and sizes.
Output = tuple[int, Shape]
#: Of weights: two products with these fit 16 bits, so that CPUs without VNNI give the same answers as those with it.
LARGEST_WEIGHT = 63


class QdqNet:
    """A quantized network that grows layer by layer.

    Attributes:
        nodes: so far; layers are named after their kind and number.
        constants: so far.
        integers: the integer tensor that is reached.
        shape: of that, without the batch.
    """

    def __init__(
        self,
        shape: tuple[int, ...] = (3, 8, 8),
        *,
        seed: int = 0,
        dtype: type[np.integer[Any]] = np.uint8,
        symmetric: bool = False,
        pixels: bool = False,
    ) -> None:
        """Begin with an image, float and quantized or (``pixels``) the integers themselves.

        Args:
            shape: channels, height, width.
            seed: of all that is random.
            dtype: of activations.
            symmetric: whether the integer 0 stands for 0 in activations.
            pixels: whether the input is integer.
        """
        self.random = np.random.default_rng(seed)
        self.dtype, self.symmetric, self.pixels = dtype, symmetric, pixels
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, ArrayLike] = {}
        self.input_shape, self.shape = shape, shape
        self.scale = np.float32(0.01)
        self.integers = "x"
        self._parameters = self.parameters("x", self.scale)
        if not pixels:
            self.integers = self.round("x", self._parameters)

    def parameters(self, name: str, scale: Any, zero_point: int | None = None) -> list[str]:
        """Add a scale and a zero point; return their names."""
        if zero_point is None:
            low = int(np.iinfo(self.dtype).min)
            zero_point = 0 if self.symmetric else low + int(self.random.integers(0, 120))
        self.constants |= {f"{name}_scale": np.float32(scale), f"{name}_zero_point": self.dtype(zero_point)}
        return [f"{name}_scale", f"{name}_zero_point"]

    def add(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        self.nodes.append(node(op, inputs, [output], name=output, **attributes))
        return output

    def round(self, tensor: str, parameters: Sequence[str]) -> str:
        return self.add("QuantizeLinear", [tensor, *parameters], f"{tensor}_q")

    def read(self) -> str:
        """Read the integers that are reached, as each layer does for itself."""
        return self.add("DequantizeLinear", [self.integers, *self._parameters], f"{self.integers}_dq{len(self.nodes)}")

    def constant(self, name: str, values: Array, scale: Any, zero_point: Any = None) -> str:
        """Add integers that a layer reads as float."""
        zeros = np.zeros(np.shape(scale), values.dtype) if zero_point is None else zero_point
        self.constants |= {name: values, f"{name}_scale": np.asarray(scale, np.float32), f"{name}_zero_point": zeros}
        axis = {"axis": 0} if np.ndim(scale) else {}
        return self.add("DequantizeLinear", [name, f"{name}_scale", f"{name}_zero_point"], f"{name}_dq", **axis)

    def weights(self, shape: Sequence[int]) -> Array:
        return self.random.integers(-LARGEST_WEIGHT, LARGEST_WEIGHT + 1, shape).astype(np.int8)

    def conv(
        self,
        outputs: int,
        kernel: tuple[int, int] = (3, 3),
        *,
        strides: tuple[int, int] = (1, 1),
        pads: tuple[int, int, int, int] = (0, 0, 0, 0),
        per_channel: bool = True,
        bias: bool = True,
        activation: str = "",
        zero_point: int | None = None,
        values: Array | None = None,
        weight_zero_point: Any = None,
        reads: str = "",
        **attributes: Any,
    ) -> str:
        """Add a convolution and return its name; ``reads`` is what another layer reads too."""
        name = f"conv{len(self.nodes)}"
        group = attributes.get("group", 1)
        shape = (outputs, self.shape[0] // group, *kernel)
        integers = self.weights(shape) if values is None else values
        scale = np.float32(0.02) * (self.random.uniform(0.5, 2, outputs).astype(np.float32) if per_channel else 1)
        inputs = [reads or self.read(), self.constant(f"{name}_w", integers, scale, weight_zero_point)]
        if bias:
            numbers = self.random.integers(-5000, 5000, outputs).astype(np.int32)
            inputs.append(self.constant(f"{name}_b", numbers, scale * self.scale))
        made = self.add("Conv", inputs, name, kernel_shape=kernel, strides=strides, pads=pads, **attributes)
        dilations = attributes.get("dilations", (1, 1))
        spans = [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)]
        height = (self.shape[1] + pads[0] + pads[2] - spans[0]) // strides[0] + 1
        width = (self.shape[2] + pads[1] + pads[3] - spans[1]) // strides[1] + 1
        self._round_off(made, activation, integers[0].size, scale, zero_point)
        self.shape = (outputs, height, width)
        return name

    def gemm(self, outputs: int, *, per_channel: bool = False) -> str:
        """Add a fully connected layer, a row of weights for each output, and return its name."""
        name = f"gemm{len(self.nodes)}"
        scale = np.float32(0.02) * (self.random.uniform(0.5, 2, outputs).astype(np.float32) if per_channel else 1)
        integers = self.weights((outputs, self.shape[0]))
        numbers = self.random.integers(-5000, 5000, outputs).astype(np.int32)
        bias = self.constant(f"{name}_b", numbers, scale * self.scale)
        inputs = [self.read(), self.constant(f"{name}_w", integers, scale), bias]
        made = self.add("Gemm", inputs, name, transB=1)
        self._round_off(made, "", self.shape[0], scale, None)
        self.shape = (outputs,)
        return name

    def rename(self, tensor: str) -> str:
        """Read the integers that are reached, as a tensor of this name, and begin another branch at the image."""
        self.add("DequantizeLinear", [self.integers, *self._parameters], tensor)
        self.integers, self.shape, self.scale = "x" if self.pixels else "x_q", self.input_shape, np.float32(0.01)
        self._parameters = ["x_scale", "x_zero_point"]
        return tensor

    def _round_off(self, made: str, activation: str, fan_in: int, scale: Any, zero_point: int | None) -> None:
        """Round a layer's output with a scale at which few of its numbers are at the ends of the range."""
        if activation:
            bounds = [self._bound(made, "low", -1), self._bound(made, "high", 3)] if activation == "Clip" else []
            made = self.add(activation, [made, *bounds], f"{made}_{activation}")
        spread = float(np.mean(scale)) * float(self.scale) * LARGEST_WEIGHT / 2 * 70 * np.sqrt(fan_in)
        self.scale = np.float32(spread / 30)
        self._parameters = self.parameters(made, self.scale, zero_point)
        self.integers = self.round(made, self._parameters)

    def _bound(self, made: str, which: str, value: float) -> str:
        self.constants[f"{made}_{which}"] = np.float32(value)
        return f"{made}_{which}"

    def move(self, op: str, *others: str, shape: tuple[int, ...], same: bool = True, **attributes: Any) -> str:
        """Add a node that only moves numbers about; without ``same`` it rounds with another scale behind it."""
        name = f"{op.lower()}{len(self.nodes)}"
        self.add(op, [self.read(), *others], name, **attributes)
        if not same:
            self.scale = np.float32(self.scale * 1.5)
            self._parameters = self.parameters(name, self.scale)
        self.integers = self.round(name, self._parameters)
        self.shape = shape
        return name

    def pool(self, window: tuple[int, int] = (2, 2), **how: Any) -> str:
        channels, height, width = self.shape
        shape = (channels, height // window[0], width // window[1])
        how = {"strides": window} | how
        return self.move("MaxPool", shape=shape, kernel_shape=window, **how)

    def flatten(self) -> str:
        return self.move("Flatten", shape=(int(np.prod(self.shape)),))

    def model(
        self,
        *,
        batch: int | str = "N",
        opset: int = 13,
        shape: Shape | None = None,
        answer: Shape | None = None,
        outputs: Mapping[str, Output] | None = None,
    ) -> ModelProto:
        """Return the network from ``x`` to its integers as float, ``y``, or to the tensors that are asked for.

        Args:
            batch: how many images; a name if it may vary.
            opset: of the operators.
            shape: of ``x``, if it is said otherwise than by numbers.
            answer: sizes of ``y``, if the network does not know them.
            outputs: in place of ``y``.
        """
        nodes = list(self.nodes)
        if outputs is None:
            nodes.append(node("DequantizeLinear", [self.integers, *self._parameters], ["y"]))
            outputs = {"y": (TensorProto.FLOAT, answer or (batch, *self.shape))}
        return finished(
            nodes,
            self.constants,
            outputs,
            shape=shape or (batch, *self.input_shape),
            input_type=helper.np_dtype_to_tensor_dtype(np.dtype(self.dtype)) if self.pixels else TensorProto.FLOAT,
            opset=opset,
        )

    def images(self, count: int = 3) -> Array:
        """Return random inputs that fill the range of the integers, and end outside of it now and then."""
        shape = (count, *self.input_shape)
        if self.pixels:
            limits = np.iinfo(self.dtype)
            return self.random.integers(limits.min, limits.max + 1, shape).astype(self.dtype)
        return self.random.uniform(-2, 2.6, shape).astype(np.float32)


def finished(
    nodes: Sequence[NodeProto],
    constants: Mapping[str, ArrayLike],
    outputs: Mapping[str, Output],
    *,
    shape: Shape = ("N", 3, 8, 8),
    input_type: int = TensorProto.FLOAT,
    opset: int = 13,
) -> ModelProto:
    """Return a model from ``x`` to some of the tensors in it."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", input_type, shape)],
        [helper.make_tensor_value_info(name, *output) for name, output in outputs.items()],
        [constant(name, values) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    model.ir_version = 10 if opset > 18 else 8
    onnx.checker.check_model(model)
    return model


def session(data: bytes, *, optimized_to: str = "") -> onnxruntime.InferenceSession:
    """Open a model with all of ONNX Runtime's optimizations; write what they made of it to a file if one is named."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.optimized_model_filepath = optimized_to
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def answers(data: bytes, images: Array) -> Array:
    """Return the outputs of a model one after the other, as ONNX Runtime computes them with all its optimizations."""
    return np.concatenate([np.asarray(value).ravel() for value in session(data).run(None, {"x": images})])
