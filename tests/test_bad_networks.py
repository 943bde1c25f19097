"""Networks and model files that cannot be used: one clear message, the right exit code, and nothing written."""

import io
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgecnn.cli import _main
from edgecnn.targets import reference_session
from edgecnn.targets.session import feed
from tests import bad_nets
from tests.bad_nets import AnySize, Net
from tests.failure import ARCH, SIZE, Fail, Failure, failing, ignore_torchscript, network_file, state_dict
from tests.model_files import ANY_SIZE, on_gpu, pt2, saved, traced, with_member


@pytest.fixture
def fail(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fail]:
    with failing(capfd, tmp_path, monkeypatch) as run:
        yield run


# Networks that fail by themselves, or are no classifiers.

NETWORKS = {
    "TwoInputs": ("fails on images of [1, 3, 8, 8] (TypeError:", "missing 1 required positional argument: 'y'"),
    "ToGpu": ("fails on images", "NVIDIA"),
    "Pair": ("gives a tuple of 2; expected one tensor of logits",),
    "Named": ("gives a dictionary with out, aux; expected one tensor",),
    "Heatmap": ("gives [1, 4, 6, 6] for 1 images; expected logits [N, classes]",),
    "OneRow": ("gives [1, 3] for 2 images; expected logits",),
    "Classes": ("gives [1] for 1 images; expected logits",),
    "Integers": ("gives torch.int64; expected logits in float32",),
    "Gradient": ("fails on images", "does not require grad"),
    "AlwaysDropping": ("other answers to the same images the second time",),
    "Stubborn": ("other answers to the same images the second time",),
    "BatchStatistics": ("depends on the other images of the batch",),
    "BatchBranch": ("depends on the other images of the batch", "a branch on the values of the whole batch"),
    "Printing": ("fails on images of [1, 3, 8, 8] (OSError: my weights are on another disk)",),
    "Half": ("tests.bad_nets:Half: is in torch.float16 (conv.weight); expected a network in float32",),
    "empty": ("fails on images", 'missing the required "forward" function'),
    "nothing": ("gives [1, 3, 8, 8] for 1 images; expected logits [N, classes]",),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_that_is_no_classifier_of_images_is_refused(fail: Fail, name: str) -> None:
    found = fail("export", f"tests.bad_nets:{name}", *SIZE)
    for word in NETWORKS[name]:
        assert word in found.message
    assert found.code == 3


# Networks that PyTorch runs and ONNX cannot hold.

UNTRANSLATABLE = {
    "ControlFlow": (
        "torch.export: export: PyTorch could not",
        "data-dependent",
        "TorchScript: export: the network's path",
    ),
    "CustomOp": ("edgecnn_tests.twice", "unrecognized namespace edgecnn_tests::twice"),
    "CustomFunction": ("torch.export: export: PyTorch could not", "TorchScript: export: the network's path depends"),
}


@pytest.mark.parametrize("name", UNTRANSLATABLE)
def test_a_network_that_onnx_cannot_hold_is_refused_for_the_reason_of_each_exporter(fail: Fail, name: str) -> None:
    found = fail("export", f"tests.bad_nets:{name}", *SIZE)
    for word in UNTRANSLATABLE[name]:
        assert word in found.message
    assert found.code == 4


# Files of networks.


HALF: dict[str, Callable[[], tuple[bytes, tuple[str, ...]]]] = {
    "net.pt": lambda: (saved(state_dict(bad_nets.Half())), ARCH),
    "bfloat16.pt": lambda: (saved(state_dict(Net().bfloat16())), ARCH),
    "double.pt": lambda: (saved(state_dict(Net().double())), ARCH),
    "net.pt2": lambda: (pt2(bad_nets.Half().eval(), torch.rand(2, 3, 8, 8).half()), SIZE),
    "net.ts": lambda: (traced(bad_nets.Half().eval(), torch.rand(2, 3, 8, 8).half()), SIZE),
    "pickle.pt": lambda: (saved(bad_nets.Half()), ("--allow-pickle", *SIZE)),
}


@pytest.mark.parametrize("name", HALF)
@ignore_torchscript
def test_another_precision_is_refused_with_what_to_call(fail: Fail, name: str) -> None:
    data, options = HALF[name]()
    found = fail("export", network_file(name, data), *options)
    precision = {"bfloat16.pt": "torch.bfloat16", "double.pt": "torch.float64"}.get(name, "torch.float16")
    assert f"{name}: is in {precision} (conv.weight); expected a network in float32" in found.message
    assert ".float()" in found.next_step
    assert found.code == 3


TRAINING: dict[str, Callable[[], bytes]] = {
    "net.pt2": lambda: pt2(Net().train()),
    "net.ts": lambda: traced(Net().train()),
}


@pytest.mark.parametrize("name", TRAINING)
@ignore_torchscript
def test_a_graph_recorded_in_training_mode_is_refused_by_operator(fail: Fail, name: str) -> None:
    found = fail("export", network_file(name, TRAINING[name]()), *SIZE)
    assert f"{name}: was recorded in training mode, which is fixed in it: batch_norm, dropout" in found.message
    assert "network.eval()" in found.next_step
    assert found.code == 3


EVALUATED: dict[str, Callable[[], tuple[bytes, tuple[str, ...]]]] = {
    "pickle.pt": lambda: (saved(Net().train()), ("--allow-pickle",)),
    "scripted.ts": lambda: (scripted(Net().train()), ()),
    "gpu.pt": lambda: (on_gpu(saved(state_dict(Net()))), ("--arch", "tests.bad_nets:Net")),
    "gpu.ts": lambda: (on_gpu(traced(Net().eval())), ()),
    "any_size.pt2": lambda: (pt2(AnySize().eval(), torch.rand(2, 3, 12, 10), dynamic=(ANY_SIZE,)), ()),
}


@pytest.mark.parametrize("name", EVALUATED)
@ignore_torchscript
def test_what_can_be_served_is_exported_for_evaluation_on_the_cpu(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    data, options = EVALUATED[name]()
    code = _main(["export", network_file(name, data), *options, *SIZE, "--bundle", "bundle"])
    assert (code, capsys.readouterr().err.count("Traceback")) == (0, 0)
    network = (AnySize() if name == "any_size.pt2" else Net()).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    session = reference_session(Path("bundle/float.onnx").read_bytes(), model_name="float.onnx")
    images = feed(pixels, session.input)
    with torch.inference_mode():
        expected = network(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(session.run(images), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def scripted(network: Net) -> bytes:
    layers = nn.Sequential(network.conv, network.norm, nn.ReLU(), network.drop, nn.Flatten(), network.fc)
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(layers.train(network.training)), buffer)
    return buffer.getvalue()


def moved_to_gpu(config: bytes) -> bytes:
    return config.replace(b'"type": "cpu", "index": null', b'"type": "cuda", "index": 0')


@pytest.mark.parametrize("member", ["models/model.json", "model_weights_config.json"])
def test_a_graph_of_a_gpu_is_refused_by_name(fail: Fail, member: str) -> None:
    archive = pt2(Net().eval())
    spoiled = with_member(archive, member, moved_to_gpu)
    assert b"cuda" in spoiled
    found = fail("export", network_file("net.pt2", spoiled), *SIZE)
    assert "net.pt2: was exported on cuda:0; expected a network on the CPU" in found.message
    assert "network.cpu()" in found.next_step
    assert found.code == 3


WRONG_SIZE: dict[str, tuple[Callable[[], bytes], tuple[str, ...], tuple[str, ...]]] = {
    "net.pt2": (lambda: pt2(Net().eval()), ("--input-size", "9"), ("[1, 3, 9, 9]", "Guard failed: x.size()[2] == 8")),
    "net.ts": (lambda: traced(Net().eval()), ("--input-size", "9"), ("[1, 3, 9, 9]", "cannot be multiplied")),
    "net.pt": (lambda: saved(state_dict(Net())), (*ARCH[:2], "--input-size", "7x8"), ("[1, 3, 7, 8]", "multiplied")),
    "range.pt2": (
        lambda: pt2(AnySize().eval(), torch.rand(2, 3, 12, 10), dynamic=(ANY_SIZE,)),
        ("--input-size", "100"),
        ("[1, 3, 100, 100]", "Guard failed: x.size()[2] <= 64"),
    ),
    "one_batch.pt2": (lambda: pt2(Net().eval(), dynamic=None), SIZE, ("[1, 3, 8, 8]", "x.size()[0] == 2")),
}


@pytest.mark.parametrize("name", WRONG_SIZE)
@ignore_torchscript
def test_images_that_a_network_does_not_take_are_named_by_size(fail: Fail, name: str) -> None:
    make, options, words = WRONG_SIZE[name]
    found = fail("export", network_file(name, make()), *options)
    for word in ("the network itself fails on images of", *words):
        assert word in found.message
    assert "--input-size" in found.next_step
    assert "--batch" in found.next_step
    assert found.code == 3


def test_a_size_that_nothing_tells_is_asked_for(fail: Fail) -> None:
    archive = pt2(AnySize().eval(), torch.rand(2, 3, 12, 10), dynamic=(ANY_SIZE,))
    found = fail("export", network_file("net.pt2", archive))
    assert found == Failure(2, "export: a pt2 does not say how large its pictures are.", "--input-size HEIGHTxWIDTH")


def test_the_weights_of_another_width_are_listed_by_name_and_shape(fail: Fail) -> None:
    state = state_dict(Net())
    state["conv.weight"], state["fc.weight"] = torch.zeros(6, 3, 3, 3), torch.zeros(3, 216)
    del state["norm.bias"]
    state["extra"] = torch.zeros(1)
    found = fail("export", network_file("net.pt", saved({"state_dict": state})), *ARCH)
    for word in (
        "net.pt: the weights are not those of tests.bad_nets:Net",
        "conv.weight is [6, 3, 3, 3] instead of [4, 3, 3, 3]",
        "fc.weight is [3, 216] instead of [3, 144]",
        "norm.bias is missing",
        "extra is left over",
    ):
        assert word in found.message
    assert found.code == 3


@pytest.mark.parametrize("content", [{}, [], {"epoch": 3}])
def test_a_file_without_weights_is_refused(fail: Fail, content: object) -> None:
    found = fail("export", network_file("net.pt", saved(content)), *ARCH)
    assert "net.pt: expected a state_dict, found" in found.message
    assert found.code == 3
