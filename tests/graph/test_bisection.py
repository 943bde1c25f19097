"""Where two forms part: every layer that is spoiled is named, and nothing that was only fused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, numpy_helper
from torch import nn

from edgecnn.graph.activations import Activation, onnx_activations
from edgecnn.graph.bisection import LayerLedger, compare_layers
from edgecnn.graph.deployed import Deployed, Preprocessing
from edgecnn.graph.exporters import with_torchscript
from edgecnn.graph.parity import TOLERANCE
from edgecnn.graph.torch_activations import torch_activations
from edgecnn.models.resnet8 import ResNet8
from tests.graphs import Array, copy, make_model, node, small_cnn

X = np.random.default_rng(0).random((4, 3, 8, 8), np.float32)


def compare(reference: ModelProto, candidate: ModelProto, x: Array = X) -> LayerLedger:
    before, after = (onnx_activations(model.SerializeToString(), {"x": x}, "m") for model in (reference, candidate))
    return compare_layers(before, after, TOLERANCE)


def spoiled(model: ModelProto, tensor: str, factor: float = 1.3) -> ModelProto:
    changed = copy(model)
    for weight in changed.graph.initializer:
        if weight.name == tensor:
            values = numpy_helper.to_array(weight) * np.float32(factor)
            weight.CopyFrom(numpy_helper.from_array(values, tensor))
    return changed


def renamed(model: ModelProto) -> ModelProto:
    """Return a model with other names for all it computes on the way."""
    changed = copy(model)
    outputs = {output.name for output in changed.graph.output}
    names = {name: f"other_{name}" for one in changed.graph.node for name in one.output if name not in outputs}
    for one in changed.graph.node:
        one.input[:] = [names.get(name, name) for name in one.input]
        one.output[:] = [names.get(name, name) for name in one.output]
    return changed


def test_a_network_agrees_with_itself_whatever_its_tensors_are_called() -> None:
    ledger = compare(small_cnn(), renamed(small_cnn()))
    assert (ledger.first, ledger.n, ledger.n_equal, ledger.worst_relative) == (None, 6, 6, 0)
    assert str(ledger).startswith("all 6 tensors have a twin")


@pytest.mark.parametrize(("tensor", "layer"), [("conv_w", "Conv 'conv'"), ("fc_w", "Gemm 'fc'"), ("fc_b", "Gemm 'fc'")])
def test_the_layer_whose_weights_differ_is_named(tensor: str, layer: str) -> None:
    first = compare(small_cnn(), renamed(spoiled(small_cnn(), tensor))).first
    assert first is not None
    assert f"the first layer that differs is {layer}" in str(first)
    assert first.relative is not None
    assert first.relative > TOLERANCE
    assert (first.reference_op, first.reference_layer) == (first.op, first.layer)


def test_a_difference_within_the_tolerance_is_none_and_the_largest_is_told() -> None:
    ledger = compare(small_cnn(), spoiled(small_cnn(), "conv_w", 1 + 1e-6))
    assert ledger.first is None
    assert ledger.worst_layer in {"conv", "relu", "pool", "flatten", "fc"}
    assert 0 < ledger.worst_relative < TOLERANCE


def normalized(*, fused: bool, factor: float = 1) -> ModelProto:
    """Return Conv, BatchNormalization, Relu; or the same with the one inside the other."""
    random = np.random.default_rng(1)
    w, gain = random.normal(size=(4, 3, 3, 3)), random.uniform(0.5, 2, 4)
    shift, mean, variance = random.normal(size=4), random.normal(size=4), random.uniform(0.5, 2, 4)
    tail = [node("Relu", ["norm"], ["relu"]), node("GlobalAveragePool", ["relu"], ["pool"])]
    tail.append(node("Flatten", ["pool"], ["y"]))
    if not fused:
        nodes = [
            node("Conv", ["x", "w"], ["conv"]),
            node("BatchNormalization", ["conv", "gain", "shift", "mean", "variance"], ["norm"]),
        ]
        return make_model([*nodes, *tail], {"w": w, "gain": gain, "shift": shift, "mean": mean, "variance": variance})
    scale = gain / np.sqrt(variance + 1e-5)
    constants = {"w": w * scale[:, None, None, None] * factor, "b": shift - mean * scale}
    return make_model([node("Conv", ["x", "w", "b"], ["norm"]), *tail], constants)


def test_what_was_fused_is_not_at_fault() -> None:
    ledger = compare(normalized(fused=False), normalized(fused=True))
    assert ledger.first is None
    unfused = compare(normalized(fused=True), normalized(fused=False))
    assert unfused.first is None
    assert (unfused.n, unfused.n_equal) == (6, 5)
    assert "5 of 6 tensors have a twin, the others were fused or rewritten" in str(unfused)


def test_a_fusion_that_went_wrong_is() -> None:
    first = compare(normalized(fused=False), normalized(fused=True, factor=1.01)).first
    assert first is not None
    assert (first.op, first.reference_op) == ("Conv", "Conv")


def test_nan_on_one_side_is_a_difference() -> None:
    nan = copy(small_cnn())
    nan.graph.initializer[2].CopyFrom(numpy_helper.from_array(np.full((3, 36), np.nan, np.float32), "fc_w"))
    first = compare(small_cnn(), nan).first
    assert first is not None
    assert (first.layer, first.relative) == ("fc", None)


def test_a_gate_that_hardly_moves_does_not_vouch_for_what_went_into_it() -> None:
    def gated(factor: float) -> ModelProto:
        return make_model(
            [
                node("Conv", ["x", "w"], ["conv"]),
                node("GlobalAveragePool", ["conv"], ["pool"]),
                node("Mul", ["pool", "tiny"], ["small"]),
                node("Sigmoid", ["small"], ["gate"]),
                node("Mul", ["conv", "gate"], ["gated"]),
                node("GlobalAveragePool", ["gated"], ["last"]),
                node("Flatten", ["last"], ["y"]),
            ],
            {"w": np.random.default_rng(0).normal(size=(4, 3, 3, 3)) * factor, "tiny": np.float32(1e-5)},
        )

    first = compare(gated(1), gated(1.2)).first
    assert first is not None
    assert first.op == "Conv"


def test_a_tensor_of_zeros_vouches_for_nothing() -> None:
    def dead(factor: float) -> ModelProto:
        return make_model(
            [
                node("Conv", ["x", "w"], ["conv"]),
                node("Mul", ["conv", "zero"], ["zeros"]),
                node("Add", ["conv", "zeros"], ["sum"]),
                node("GlobalAveragePool", ["sum"], ["pool"]),
                node("Flatten", ["pool"], ["y"]),
            ],
            {"w": np.random.default_rng(0).normal(size=(4, 3, 3, 3)) * factor, "zero": np.float32(0)},
        )

    first = compare(dead(1), dead(1.5)).first
    assert first is not None
    assert first.layer == "make_conv"


class Branches(nn.Module):
    """A residual block whose branches are told apart only by their weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.left = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.right = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8))
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        x = self.left(x) + self.right(x)
        logits: torch.Tensor = self.head(x.mean((2, 3)))
        return logits


def traced(network: nn.Module) -> tuple[Deployed, ModelProto, list[Activation]]:
    deployed = Deployed(network.eval(), Preprocessing(mean=(0.4, 0.5, 0.6)))
    deployed.training = False
    model = with_torchscript(deployed, torch.zeros(2, 3, 8, 8), False, 18)
    return deployed, model, list(torch_activations(deployed, torch.from_numpy(X)))


@pytest.mark.parametrize(("name", "path"), [("stem", "stem"), ("left", "left.0"), ("right", "right.0"), ("fc", "head")])
def test_the_pytorch_module_of_a_spoiled_layer_is_named(name: str, path: str) -> None:
    torch.manual_seed(0)
    _, model, reference = traced(Branches())
    layer = next(one for one in model.graph.node if path in one.name and one.op_type in ("Conv", "Gemm"))
    candidate = onnx_activations(spoiled(model, layer.input[1]).SerializeToString(), {"input": X}, "m")
    first = compare_layers(reference, candidate, TOLERANCE).first
    assert first is not None
    assert (first.layer, first.reference_layer) == (layer.name, f"network.{path}")


def test_what_is_computed_in_place_is_kept_as_it_was_before() -> None:
    torch.manual_seed(0)
    _, model, reference = traced(Branches())
    ledger = compare_layers(reference, onnx_activations(model.SerializeToString(), {"input": X}, "m"), TOLERANCE)
    assert ledger.first is None
    assert ledger.n_equal == ledger.n
    given = next(one for one in reference if one.op == "aten.relu_.default").inputs[0]
    assert (next(one for one in reference if one.name == given).values < 0).any()


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_script_is_watched_like_any_module() -> None:
    torch.manual_seed(0)
    network = Branches().eval()
    scripted = torch.jit.script(network)
    plain, found = (torch_activations(module, torch.from_numpy(X)) for module in (network, scripted))
    assert [one.op for one in found if "convolution" in one.op] == [one.op for one in plain if "convolution" in one.op]
    np.testing.assert_allclose(found[-1].values, plain[-1].values, rtol=1e-5)


def test_a_hook_of_ours_does_not_stay_behind() -> None:
    from torch.nn.modules import module

    torch_activations(Branches().eval(), torch.from_numpy(X))
    assert not module._global_forward_hooks
    assert not module._global_forward_pre_hooks


@given(st.integers(0, 8), st.sampled_from([0.5, 1.02, 1.5, -1.0]))
@settings(max_examples=20, deadline=None)
def test_whichever_convolution_of_a_residual_network_is_spoiled_it_is_named(index: int, factor: float) -> None:
    torch.manual_seed(0)
    x = np.random.default_rng(1).random((4, 3, 32, 32), np.float32)
    deployed = Deployed(ResNet8(10).eval(), Preprocessing())
    deployed.training = False
    model = with_torchscript(deployed, torch.zeros(2, 3, 32, 32), False, 18)
    convolutions = [one for one in model.graph.node if one.op_type == "Conv"]
    layer = convolutions[index]
    candidate = onnx_activations(spoiled(model, layer.input[1], factor).SerializeToString(), {"input": x}, "m")
    first = compare_layers(torch_activations(deployed, torch.from_numpy(x)), candidate, TOLERANCE).first
    assert first is not None
    assert first.layer == layer.name
