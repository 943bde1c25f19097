"""What a network costs: by hand, against PyTorch's own modules, and where nothing sure can be said."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from onnx import ModelProto, TensorProto, helper
from torch import Tensor, nn
from torchvision import models

from edgecnn.graph.layers import Dense, Layer, Network, read_network
from edgecnn.graph.trace import to_onnx
from edgecnn.models import MODELS
from tests.graphs import make_model, node, small_cnn
from tests.nets import Array


def read(model: ModelProto) -> Network:
    return read_network(model, "net.onnx")


def only(model: ModelProto) -> Layer:
    (layer,) = read(model).layers
    return layer


def traced(name: str) -> tuple[nn.Module, Network]:
    module = MODELS[name].build(10).eval()
    return module, read(to_onnx(module, MODELS[name].input_shape, name))


def test_simplecnn_by_hand() -> None:
    _, network = traced("simplecnn")
    convolutions = 3 * 5 * 5 * 6 + 6, 6 * 5 * 5 * 16 + 16
    dense = 400 * 120 + 120, 120 * 84 + 84, 84 * 10 + 10
    assert network.parameters == sum(convolutions) + sum(dense) == 62_006
    macs = 28 * 28 * 6 * 3 * 5 * 5, 10 * 10 * 16 * 6 * 5 * 5, 400 * 120, 120 * 84, 84 * 10
    assert network.macs == sum(macs) == 651_720
    assert network.weight_bytes == 4 * 62_006
    assert (network.image, network.batch, network.neuron_weights, network.doubts) == ((3, 32, 32), 1, 3072, ())
    table = [(layer.op, layer.outputs[0], layer.receptive_field, layer.macs) for layer in network.layers]
    assert table == [
        ("Conv", (6, 28, 28), (5, 5), macs[0]),
        ("Relu", (6, 28, 28), (5, 5), 0),
        ("MaxPool", (6, 14, 14), (6, 6), 0),
        ("Conv", (16, 10, 10), (14, 14), macs[1]),
        ("Relu", (16, 10, 10), (14, 14), 0),
        ("MaxPool", (16, 5, 5), (16, 16), 0),
        ("Flatten", (400,), (16, 16), 0),
        ("Gemm", (120,), (32, 32), macs[2]),
        ("Relu", (120,), (32, 32), 0),
        ("Gemm", (84,), (32, 32), macs[3]),
        ("Relu", (84,), (32, 32), 0),
        ("Gemm", (10,), (32, 32), macs[4]),
    ]
    assert network.activation_bytes == sum(4 * int(np.prod(layer.outputs[0])) for layer in network.layers)
    first = network.layers[0]
    assert (first.inputs, first.arithmetic) == (((3, 32, 32),), "(32 - 5 + 2*0)/1 + 1 = 28")
    assert (first.parameters, first.weight_bytes, first.activation_bytes) == (456, 1824, 4 * 4704)
    assert (network.peak.size_bytes, network.peak.op) == (2 * 4 * 4704, "Relu")


@pytest.mark.parametrize("name", MODELS)
def test_the_models_of_the_table_have_the_parameters_of_their_checkpoints(name: str) -> None:
    module, network = traced(name)
    stored = [tensor for tensor in module.state_dict().values() if tensor.dim()]  # not how many batches were seen
    assert network.parameters == sum(tensor.numel() for tensor in stored)
    assert network.weight_bytes == 4 * network.parameters
    assert network.doubts == ()
    assert not [layer.doubt for layer in network.layers if layer.doubt]


def test_resnet8_has_the_multiplications_that_mlperf_tiny_says() -> None:
    _, network = traced("resnet8")
    assert round(network.macs / 1e6, 1) == 12.5
    assert network.parameters == 78_666


MACS = {"resnet18": 1_814_073_344, "mobilenet_v2": 300_774_272}
PARAMETERS = {"resnet18": 11_689_512, "mobilenet_v2": 3_504_872}


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "squeezenet1_1", "shufflenet_v2_x0_5", "mnasnet0_5"])
def test_torchvision_models_against_their_own_modules(name: str) -> None:
    module = models.get_model(name, weights=None).eval()
    network = read(to_onnx(module, (3, 224, 224), name))
    shapes, macs = watched(module, torch.zeros(1, 3, 224, 224))
    weighted = [layer for layer in network.layers if layer.op in ("Conv", "Gemm")]
    assert [layer.outputs[0] for layer in weighted] == shapes
    assert [layer.macs for layer in weighted] == macs
    assert network.macs == sum(macs) == MACS.get(name, sum(macs))
    statistics = sum(buffer.numel() for buffer in module.buffers() if buffer.dim())
    trained = sum(parameter.numel() for parameter in module.parameters())
    assert network.parameters - statistics == trained == PARAMETERS.get(name, trained)
    assert network.doubts == ()


def watched(module: nn.Module, image: Tensor) -> tuple[list[tuple[int, ...]], list[int]]:
    """Return the output shape and multiplications of each convolution and linear layer, as they run."""
    shapes: list[tuple[int, ...]] = []
    macs: list[int] = []

    def note(layer: nn.Module, _: object, output: Tensor) -> None:
        shapes.append(tuple(output.shape[1:]))
        assert isinstance(layer.weight, Tensor)
        macs.append(output[0].numel() * layer.weight[0].numel())

    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(note)
    with torch.inference_mode():
        module(image)
    return shapes, macs


# Operators, one by one.


def linear(nodes: list[Any], constants: dict[str, Array], shape: tuple[int | str, ...]) -> Layer:
    return only(make_model(nodes, constants, inputs={"x": shape}))


def zeros(*shape: int) -> Array:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("layer", "constants", "shape", "macs", "parameters"),
    [
        (node("Conv", ["x", "w"], ["y"], group=2), {"w": zeros(6, 2, 3, 3)}, ("N", 4, 8, 8), 36 * 6 * 18, 108),
        (node("ConvTranspose", ["x", "w", "b"], ["y"]), {"w": zeros(3, 5, 2, 2), "b": zeros(5)}, (1, 3, 4, 4), 960, 65),
        (node("Gemm", ["x", "w"], ["y"], transA=1), {"w": zeros(7, 2)}, (7, 1), 14, 14),
        (node("Gemm", ["x", "w", "b"], ["y"], transB=1), {"w": zeros(2, 7), "b": zeros(2)}, ("N", 7), 14, 16),
        (node("MatMul", ["x", "w"], ["y"]), {"w": zeros(7, 2)}, ("N", 5, 7), 70, 14),
        (node("MatMul", ["w", "x"], ["y"]), {"w": zeros(3, 5)}, ("N", 5, 7), 105, 15),
        (node("MatMul", ["x", "x"], ["y"]), {}, ("N", 6, 6), 216, 0),
        (node("PRelu", ["x", "s"], ["y"]), {"s": zeros(1)}, ("N", 4), 0, 1),
        (node("Add", ["x", "b"], ["y"]), {"b": zeros(1, 4)}, ("N", 4), 0, 4),
        (node("Mul", ["x", "three"], ["y"]), {"three": zeros()}, ("N", 4), 0, 0),
        (node("Concat", ["token", "x"], ["y"], axis=1), {"token": zeros(1, 1, 8)}, ("N", 4, 8), 0, 8),
        (node("Clip", ["x", "low"], ["y"]), {"low": zeros()}, ("N", 4), 0, 0),
        (node("Resize", ["x", "", "s"], ["y"]), {"s": np.array([1.0, 1, 2, 2], np.float32)}, ("N", 3, 4, 4), 0, 0),
    ],
    ids=lambda value: value.op_type if hasattr(value, "op_type") else "",
)  # fmt: skip
def test_what_an_operator_multiplies_and_keeps(
    layer: Any, constants: dict[str, Array], shape: tuple[int | str, ...], macs: int, parameters: int
) -> None:
    found = linear([layer], constants, shape)
    assert (found.macs, found.parameters, found.weight_bytes) == (macs, parameters, 4 * parameters)
    assert found.doubt == ""


def test_batch_norm_keeps_its_statistics_and_multiplies_nothing() -> None:
    constants = {name: np.ones(3, np.float32) for name in "abcd"}
    found = linear([node("BatchNormalization", ["x", *"abcd"], ["y"])], constants, ("N", 3, 4, 4))
    assert (found.macs, found.parameters) == (0, 12)


def test_all_that_goes_in_and_comes_out_is_listed() -> None:
    nodes = [
        node("Split", ["x"], ["a", "b"], axis=1, num_outputs=2),
        node("Concat", ["a", "b", "x"], ["y"], axis=1),
    ]
    split, joined = read(make_model(nodes, {}, inputs={"x": ("N", 4, 8, 8)})).layers
    assert split.outputs == ((2, 8, 8), (2, 8, 8))
    assert split.activation_bytes == 4 * 4 * 64
    assert joined.inputs == ((2, 8, 8), (2, 8, 8), (4, 8, 8))


# Quantized networks.


def qdq() -> ModelProto:
    """Return Conv and Relu with weights in int8, a bias in int32 and activations in uint8."""
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        node("DequantizeLinear", ["xq", "s", "z"], ["xf"]),
        node("DequantizeLinear", ["w", "ws", "wz"], ["wf"], axis=0),
        node("DequantizeLinear", ["b", "ws"], ["bf"], axis=0),
        node("Conv", ["xf", "wf", "bf"], ["c"]),
        node("QuantizeLinear", ["c", "s", "z"], ["cq"]),
        node("DequantizeLinear", ["cq", "s", "z"], ["y"]),
    ]
    constants = {
        "s": np.array(0.1), "z": np.array(0, np.uint8), "w": np.zeros((4, 3, 3, 3), np.int8),
        "ws": np.ones(4, np.float32), "wz": np.zeros(4, np.int8), "b": np.zeros(4, np.int32),
    }  # fmt: skip
    return make_model(nodes, constants)


def test_a_quantized_graph_is_read_through_its_quantizers() -> None:
    found = only(qdq())
    assert (found.op, found.inputs, found.outputs) == ("Conv", ((3, 8, 8),), ((4, 6, 6),))
    assert (found.parameters, found.macs) == (4 * 27 + 4, 144 * 27)
    assert found.weight_bytes == 4 * 27 + 4 * 4 + 4 * 4 + 4  # weights, biases, scales, zero points
    assert found.activation_bytes == 4 * 36
    assert found.receptive_field == (3, 3)


def test_the_dense_twin_of_a_quantized_layer_is_quantized_as_well() -> None:
    assert only(qdq()).dense == Dense(weights=192 * 144, biases=144, macs=192 * 144, weight_bytes=192 * 144 + 4 * 144)


def test_operators_on_integers_count_too() -> None:
    scale, zero = np.array(0.1, np.float32), np.array(0, np.uint8)
    layer = node("QLinearConv", ["x", "s", "z", "w", "ws", "wz", "s", "z", "b"], ["y"])
    constants: dict[str, Array] = {
        "s": scale, "z": zero, "w": np.zeros((4, 3, 3, 3), np.int8), "ws": np.ones(4, np.float32),
        "wz": np.zeros(4, np.int8), "b": np.zeros(4, np.int32),
    }  # fmt: skip
    found = only(make_model([layer], constants, input_type=TensorProto.UINT8))
    assert (found.macs, found.parameters, found.weight_bytes) == (144 * 27, 112, 108 + 16 + 16 + 4)
    assert (found.activation_bytes, found.receptive_field, found.arithmetic) == (
        144, (3, 3), "(8 - 3 + 2*0)/1 + 1 = 6",
    )  # fmt: skip
    assert found.dense is not None
    assert (found.dense.biases, found.dense.weight_bytes) == (144, 192 * 144 + 4 * 144)


# A fully connected layer in the place of a convolution.


def test_a_dense_layer_connects_every_input_to_every_output() -> None:
    constants = {"w": zeros(16, 3, 5, 5)}
    found = linear([node("Conv", ["x", "w"], ["y"], pads=[2] * 4)], constants, ("N", 3, 200, 200))
    inputs, outputs = 200 * 200 * 3, 200 * 200 * 16
    assert found.dense == Dense(
        weights=inputs * outputs, biases=0, macs=inputs * outputs, weight_bytes=4 * inputs * outputs
    )


def test_one_neuron_on_the_textbooks_image() -> None:
    network = read(make_model([node("Relu", ["x"], ["y"])], {}, inputs={"x": ("N", 3, 200, 200)}))
    assert network.neuron_weights == 120_000


def test_only_convolutions_have_a_dense_twin() -> None:
    assert [layer.op for layer in read(small_cnn()).layers if layer.dense] == ["Conv"]


# Totals, and what they leave out.


def test_a_weight_that_two_layers_share_counts_once() -> None:
    nodes = [node("Gemm", ["x", "w"], ["a"]), node("Gemm", ["a", "w"], ["y"])]
    network = read(make_model(nodes, {"w": zeros(5, 5)}, inputs={"x": ("N", 5)}))
    assert [layer.parameters for layer in network.layers] == [25, 25]
    assert (network.parameters, network.weight_bytes, network.macs) == (25, 100, 50)


def test_two_equal_weights_that_an_exporter_keeps_once_are_two() -> None:
    nodes = [node("Identity", ["w"], ["v"]), node("Gemm", ["x", "w"], ["a"]), node("Gemm", ["a", "v"], ["y"])]
    network = read(make_model(nodes, {"w": zeros(5, 5)}, inputs={"x": ("N", 5)}))
    assert (network.parameters, network.weight_bytes) == (50, 100)


def test_a_fixed_batch_is_said_and_counted_as_a_whole() -> None:
    one, many = read(small_cnn()), read(small_cnn(batch=8))
    assert many.macs == 8 * one.macs
    assert many.parameters == one.parameters
    assert [layer.outputs for layer in many.layers] == [layer.outputs for layer in one.layers]
    assert many.doubts == ("the file takes 8 images a call: MACs and activation bytes are of all of them",)


def unknown() -> ModelProto:
    nodes = [
        node("Wavelet", ["x", "w"], ["mid"], domain="theirs", name="wave"),
        node("Einsum", ["mid", "mid"], ["y"], equation="nchw,nchw->nc"),
    ]
    model = make_model(nodes, {"w": zeros(7)})
    model.opset_import.append(helper.make_opsetid("theirs", 1))
    model.graph.value_info.append(helper.make_tensor_value_info("mid", TensorProto.FLOAT, ("N", 12, 4, 4)))
    return model


def test_what_is_not_known_of_an_operator_is_said() -> None:
    network = read(unknown())
    wavelet, einsum = network.layers
    assert wavelet.doubt == "its multiplications are not counted; its size is what the file says, not derived"
    assert einsum.doubt == "its multiplications are not counted"
    assert (wavelet.receptive_field, einsum.receptive_field, wavelet.parameters) == (None, None, 7)
    assert network.doubts == ("the multiplications of Einsum, Wavelet are not known here, and not in the totals",)


def test_a_size_that_is_rounded_up_is_a_doubt_of_its_layer() -> None:
    pool = node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    found = linear([pool], {}, ("N", 3, 8, 8))
    assert (found.outputs, found.doubt) == (
        ((3, 4, 4),), "H is 4 in the graph, not 3 (ceil_mode); W is 4 in the graph, not 3 (ceil_mode)",
    )  # fmt: skip


def test_a_nameless_node_is_called_after_what_it_gives() -> None:
    assert linear([helper.make_node("Relu", ["x"], ["y"])], {}, ("N", 4)).name == "y"


@pytest.mark.parametrize("make", [small_cnn, qdq, unknown], ids=["float", "quantized", "unknown"])
def test_reading_changes_nothing(make: Callable[[], ModelProto]) -> None:
    model = make()
    before = model.SerializeToString(deterministic=True)
    read(model)
    assert model.SerializeToString(deterministic=True) == before
