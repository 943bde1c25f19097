"""Networks of every kind, exported and simplified, against PyTorch itself fed from NumPy."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from edgecnn.errors import StageError
from edgecnn.graph import export
from edgecnn.graph.deployed import Preprocessing
from edgecnn.graph.export import Exported, export_network
from edgecnn.graph.exporters import EXPORTERS
from edgecnn.graph.image_comparison import compare_on_images
from edgecnn.graph.simplify import simplify_model
from tests.torch_nets import CLASSES, NETS, PADDING_MODES, networks, randomized

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)
USUAL = Preprocessing(mean=MEAN, std=STD)
Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Keep PyTorch from waiting for cores that other tests are using."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def only_torchscript(monkeypatch: pytest.MonkeyPatch) -> None:
    """Export through the exporter that takes milliseconds; the other takes seconds."""
    monkeypatch.setattr(export, "EXPORTERS", {"TorchScript": EXPORTERS["TorchScript"]})


def pictures(n: int, height: int, width: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (n, height, width, 3), np.uint8)


def by_torch(network: nn.Module, pixels: Pixels, pre: Preprocessing = USUAL) -> NDArray[np.float64]:
    """Normalize in NumPy and run the network in double precision: what any float32 form must come close to."""
    normal = (pixels.astype(np.float64) / 255 - np.array(pre.mean)) / np.array(pre.std)
    if pre.channels == "bgr":
        normal = (pixels[..., ::-1].astype(np.float64) / 255 - np.array(pre.mean)) / np.array(pre.std)
    with torch.inference_mode():
        logits = network.double()(torch.from_numpy(np.ascontiguousarray(normal.transpose(0, 3, 1, 2))))
    network.float()
    return np.asarray(logits.numpy())


def by_onnx(data: bytes, pixels: Pixels, pre: Preprocessing = USUAL) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    fed = pixels if pre.input_layout == "nhwc" else pixels.transpose(0, 3, 1, 2)
    fed = fed if pre.input_type == "uint8" else (fed / np.float32(255)).astype(np.float32)
    (logits,) = session.run(None, {session.get_inputs()[0].name: np.ascontiguousarray(fed)})
    return np.asarray(logits)


def same_function(data: bytes, network: nn.Module, size: tuple[int, int], pre: Preprocessing = USUAL) -> None:
    """Require PyTorch's logits at batch 1, 2 and 8, on images that the export never saw."""
    for batch in (1, 2, 8):
        pixels = pictures(batch, *size, seed=1 + batch)
        expected = by_torch(network, pixels, pre)
        found = by_onnx(data, pixels, pre)
        assert found.shape == (batch, CLASSES)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


# Through the exporter that takes seconds: one network of each kind.


def simplified(data: bytes, pixels: NDArray[np.uint8]) -> bytes:
    return simplify_model(data, compare_on_images(data, pixels, "float.onnx"), name="float.onnx").data


@pytest.mark.parametrize("kind", NETS)
def test_a_network_of_each_kind_is_exported_and_simplified_exactly(kind: str) -> None:
    network, size = randomized(NETS[kind]()), (13, 10)
    exported = export_network(network, pictures(3, *size), USUAL)
    assert (exported.exporter, exported.refused) == ("torch.export", ())
    same_function(exported.data, network, size)
    same_function(simplified(exported.data, pictures(3, *size)), network, size)


#: TorchScript's exporter writes what ONNX Runtime cannot run, or another shape than PyTorch's.
HARD = {
    "a dilated same padding": nn.Conv2d(3, 3, 3, padding="same", dilation=2),
    "a last window that begins in the padding": nn.MaxPool2d((2, 4), (2, 3), (1, 2), ceil_mode=True),
}


@pytest.mark.parametrize("kind", HARD)
def test_what_one_exporter_gets_wrong_never_leaves_and_the_other_gets_right(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (10, 13)
    layers = nn.Sequential(nn.Conv2d(3, 3, 2), HARD[kind], nn.Conv2d(3, 4, 1), nn.Flatten())
    features = layers(torch.zeros(1, 3, *size)).shape[1]
    network = randomized(nn.Sequential(layers, nn.Linear(features, CLASSES)))
    same_function(export_network(network, pictures(3, *size), USUAL).data, network, size)
    monkeypatch.setattr(export, "EXPORTERS", {"TorchScript": EXPORTERS["TorchScript"]})
    with pytest.raises(StageError, match="TorchScript: the exported model: ONNX Runtime"):
        export_network(network, pictures(3, *size), USUAL)


# Through the other: random ones.

PREPROCESSINGS = st.builds(
    Preprocessing,
    mean=st.just(MEAN),
    std=st.just(STD),
    channels=st.sampled_from(["rgb", "bgr"]),
    input_type=st.sampled_from(["float32", "uint8"]),
    input_layout=st.sampled_from(["nchw", "nhwc"]),
)


def is_hard(network: nn.Module) -> bool:
    """Tell whether a network has a layer of the kinds above, or a mean over what TorchScript pads in the graph."""
    layers = list(network.modules())
    padded_there = any(isinstance(one, nn.Conv2d) and one.padding_mode != "zeros" for one in layers)
    if padded_there and any(isinstance(one, nn.AdaptiveAvgPool2d) for one in layers):
        return True  # it knows no size behind such a Pad
    return any(
        (isinstance(layer, (nn.MaxPool2d, nn.AvgPool2d)) and layer.ceil_mode)
        or (isinstance(layer, nn.Conv2d) and layer.padding == "same" and max(layer.dilation) > 1)
        for layer in layers
    )


@settings(max_examples=120)
@given(drawn=networks(), pre=PREPROCESSINGS)
@pytest.mark.usefixtures("only_torchscript")
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
def test_any_network_is_exported_exactly_or_not_at_all(
    drawn: tuple[nn.Module, tuple[int, int]], pre: Preprocessing
) -> None:
    network, size = drawn
    try:
        exported = export_network(network, pictures(2, *size), pre)
    except StageError:
        assert is_hard(network), "only these may be refused"
        return
    same_function(exported.data, network, size, pre)


@settings(max_examples=4)
@given(drawn=networks())
@pytest.mark.usefixtures("only_torchscript")
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
def test_any_network_is_simplified_exactly(drawn: tuple[nn.Module, tuple[int, int]]) -> None:
    network, size = drawn
    if is_hard(network):
        return
    exported = export_network(network, pictures(2, *size), USUAL)
    same_function(simplified(exported.data, pictures(2, *size)), network, size)


# Folding the normalization.


@st.composite
def first_convolutions(draw: st.DrawFn) -> nn.Conv2d:
    padding: Any = draw(
        st.one_of(st.sampled_from(["same", "valid", 0]), st.tuples(st.integers(0, 2), st.integers(0, 2)))
    )
    odd = (1, 3, 5)
    return nn.Conv2d(
        3,
        draw(st.sampled_from([3, 6])),
        (draw(st.sampled_from(odd)), draw(st.sampled_from(odd))),
        1 if padding == "same" else (draw(st.integers(1, 3)), draw(st.integers(1, 3))),
        padding,
        1 if padding == "same" else (draw(st.integers(1, 2)), draw(st.integers(1, 2))),
        draw(st.sampled_from([1, 1, 3])),
        draw(st.booleans()),
        draw(st.sampled_from(PADDING_MODES)),
    )


def pads(conv: nn.Conv2d) -> bool:
    """Tell whether a convolution reads beyond the picture's edge."""
    if conv.padding == "same":
        return max(conv.kernel_size) > 1
    return conv.padding != "valid" and any(conv.padding)


@settings(max_examples=80)
@given(conv=first_convolutions(), shifted=st.booleans(), pre=PREPROCESSINGS)
@pytest.mark.usefixtures("only_torchscript")
def test_a_normalization_is_folded_where_that_is_exact_and_nowhere_else(
    conv: nn.Conv2d, shifted: bool, pre: Preprocessing
) -> None:
    pre = pre if shifted else Preprocessing(std=STD, input_type=pre.input_type, input_layout=pre.input_layout)
    network = randomized(
        nn.Sequential(conv, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(conv.out_channels, CLASSES))
    )
    exported: Exported = export_network(network, pictures(2, 12, 15), pre)
    same_function(exported.data, network, (12, 15), pre)
    by_zeros = conv.padding_mode == "zeros"
    if conv.groups > 1 or (pads(conv) and (shifted or not by_zeros)):
        assert not exported.folded
    elif by_zeros and conv.padding != "same":
        assert exported.folded


@pytest.mark.usefixtures("only_torchscript")
def test_a_wrong_fold_would_show_at_the_edge() -> None:
    """The property above sees edges: the largest answer of a picture lies there if the zeros are not the right ones."""
    conv = nn.Conv2d(3, 3, 3, padding=1)
    network = randomized(nn.Sequential(conv, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(3, CLASSES)))
    pixels = pictures(2, 12, 15)
    with torch.no_grad():
        right = by_torch(network, pixels)
        scale = torch.tensor(STD).view(1, 3, 1, 1)
        conv.bias -= (conv.weight * torch.tensor(MEAN).view(1, 3, 1, 1) / scale).sum((1, 2, 3))  # type: ignore[operator]
        conv.weight /= scale
    wrong = by_torch(network, pixels, Preprocessing())
    assert np.abs(wrong - right).max() > 1e-2 * np.abs(right).max()
