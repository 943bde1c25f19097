"""Networks and model files that cannot be used: one clear message, the right exit code, and nothing written."""

import io
import json
import pickle
import signal
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import ModelProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from edgecnn.cli import _main
from edgecnn.targets import reference_session
from edgecnn.targets.session import feed
from tests import bad_nets
from tests.bad_nets import AnySize, Net
from tests.bundles import save_npz, snapshot
from tests.graphs import small_cnn
from tests.model_files import ANY_SIZE, Bomb, on_gpu, pt2, saved, traced, with_member, with_more

SIZE = ("--input-size", "8")
ignore_torchscript = pytest.mark.filterwarnings(
    "ignore:.torch.jit:FutureWarning", "ignore:.torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning"
)


@dataclass(frozen=True)
class Failure:
    code: int
    message: str
    next_step: str


Fail = Callable[..., Failure]


@pytest.fixture
def fail(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fail]:
    """Return a way to run a command in ``tmp_path``: it must end in one error, and leave every file as it was."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])  # the current folder is put there

    def run(*arguments: object) -> Failure:
        before = snapshot(tmp_path)
        capfd.readouterr()
        code = _main([str(argument) for argument in arguments])
        found = capfd.readouterr()
        assert found.out == ""
        assert "Traceback" not in found.err
        notes, _, rest = f"\n{found.err}".partition("\nedgecnn: ")
        message, _, remedy = rest.partition("\nNext: ")
        assert message
        assert remedy.strip()
        assert "Next: " not in notes
        assert "edgecnn: " not in message, "one error, not two"
        assert remedy.count("\n") == 1, "nothing comes after the next step"
        assert snapshot(tmp_path) == before
        return Failure(code=code, message=message, next_step=remedy.strip())

    handler = signal.getsignal(signal.SIGTERM)
    yield run
    signal.signal(signal.SIGTERM, handler)


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


def network_file(name: str, data: bytes) -> str:
    Path(name).write_bytes(data)
    return name


def state_dict(network: nn.Module) -> dict[str, Tensor]:
    return dict(network.state_dict())


ARCH = ("--arch", "tests.bad_nets:Net", *SIZE)
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


# Files that run a program when they are read.

BOMBS: dict[str, Callable[[], bytes]] = {
    "state_dict.pt": lambda: saved({"state_dict": {"conv.weight": Bomb()}}),
    "checkpoint.pt": lambda: saved({"info": Bomb(), "state_dict": {}}),
    "whole.pt": lambda: saved(Bomb()),
    "bare.pt": lambda: pickle.dumps(Bomb()),
    "bare.pt2": lambda: pickle.dumps(Bomb()),
    "bare.onnx": lambda: pickle.dumps(Bomb()),
    "old.pt": lambda: saved(Bomb(), _use_new_zipfile_serialization=False),
    "net.ts": lambda: with_member(traced(Net().eval()), "/data.pkl", lambda _: pickle.dumps(Bomb(), 2)),
    "constants.ts": lambda: with_member(traced(Net().eval()), "/constants.pkl", lambda _: pickle.dumps(Bomb(), 2)),
    "weights.pt2": lambda: with_more(pt2(Net().eval()), {"ROOT/data/weights/model.pt": saved(Bomb())}),
    "samples.pt2": lambda: with_member(pt2(Net().eval()), "sample_inputs/model.pt", lambda _: saved(Bomb())),
    "older.pt2": lambda: with_more(pt2(Net().eval()), {"serialized_state_dict.pt": saved(Bomb()), "version": b"8.20"}),
    "call.pt2": lambda: with_member(pt2(Net().eval()), "models/model.json", calling_the_system),
}


def calling_the_system(model: bytes) -> bytes:
    parsed = json.loads(model)
    first = parsed["graph_module"]["graph"]["nodes"][0]
    first["target"] = "torch.os.mkdir"
    first["inputs"] = [{"name": "path", "arg": {"as_string": "owned"}, "kind": 1}]
    return json.dumps(parsed).encode()


@pytest.mark.parametrize("command", ["export", "inspect", "state_dict"])
@pytest.mark.parametrize("name", BOMBS)
@ignore_torchscript
def test_a_file_that_runs_a_program_is_not_opened_unasked(fail: Fail, name: str, command: str) -> None:
    options = {"export": ("export", *SIZE), "inspect": ("inspect",), "state_dict": ("export", *ARCH)}[command]
    network_file(name, BOMBS[name]())
    found = fail(options[0], name, *options[1:])  # which also holds that no folder "owned" was made
    assert name in found.message
    assert found.code == 3


@pytest.mark.parametrize("name", ["whole.pt", "bare.pt", "old.pt", "samples.pt2", "weights.pt2"])
@pytest.mark.filterwarnings("ignore")
def test_those_bombs_do_go_off_when_pickles_are_allowed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    network_file(name, BOMBS[name]())
    _main(["export", name, "--allow-pickle", *SIZE])
    assert Path("owned").is_dir()  # else the tests above test nothing


# A file larger than any network.

LARGE = {
    "model.pt": ("export",),
    "model.pt2": ("export", *SIZE),
    "model.onnx": ("export",),
    "state.pt": ("export", *ARCH),
    "pickle.pt": ("export", "--allow-pickle", *SIZE),
    "inspected.pt": ("inspect",),
    "inspected.pt2": ("inspect",),
    "inspected.onnx": ("inspect",),
    "profiled.onnx": ("profile",),
    "quantized.onnx": ("quantize", "--data", "digits"),
}


@pytest.mark.parametrize("start", [b"\0", b"\x80\x02", b"PK\x03\x04"])
@pytest.mark.parametrize("name", LARGE)
def test_five_gigabytes_are_refused_before_they_are_read(fail: Fail, name: str, start: bytes, tmp_path: Path) -> None:
    elsewhere = tmp_path.with_name(f"{tmp_path.name}-large")  # the snapshots would read it
    elsewhere.mkdir()
    path = elsewhere / name
    with path.open("wb") as file:
        file.write(start)
        file.truncate(5 * 2**30)  # sparse: it takes no room
    command, *options = LARGE[name]
    tracemalloc.start()
    try:
        found = fail(command, path, *options)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        path.unlink()
    assert f"{path}: larger than {2 * 2**30} bytes" in found.message
    assert found.code == 3
    assert peak_bytes < 100 * 2**20


def test_a_file_that_is_read_would_show_in_the_test_above(tmp_path: Path) -> None:
    (tmp_path / "some.pt").write_bytes(bytes(200 * 2**20))
    tracemalloc.start()
    try:
        _main(["inspect", str(tmp_path / "some.pt")])
        assert tracemalloc.get_traced_memory()[1] > 200 * 2**20
    finally:
        tracemalloc.stop()


# ONNX files.


def onnx_bytes(change: Callable[[ModelProto], None] | None = None) -> bytes:
    model = small_cnn()
    if change is not None:
        change(model)
    return bytes(model.SerializeToString())


def with_nan(model: ModelProto) -> None:
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == "conv_w")
    values = numpy_helper.to_array(weight).copy()
    values[1, 2, 0, 1] = np.nan
    weight.CopyFrom(numpy_helper.from_array(values, "conv_w"))


def of_a_strange_domain(model: ModelProto) -> None:
    model.graph.node[1].domain = "com.example"
    model.opset_import.add(domain="com.example", version=1)


def with_an_unknown_operator(model: ModelProto) -> None:
    model.graph.node[1].op_type = "Reluish"


def with_weights_elsewhere(model: ModelProto) -> None:
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../../secret.bin")


def of_any_size(model: ModelProto) -> None:
    for dimension, name in zip(model.graph.input[0].type.tensor_type.shape.dim[2:], ("H", "W"), strict=True):
        dimension.dim_param = name


def of_no_stated_size(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[3].Clear()


def of_two_inputs(model: ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, ("N", 3, 8, 8)))


def of_two_outputs(model: ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("relu", TensorProto.FLOAT, ("N", 4, 6, 6)))


def of_doubles(model: ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE


def in_half_precision(model: ModelProto) -> None:
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16


def without_nodes(model: ModelProto) -> None:
    del model.graph.node[:]


#: What is wrong with a file, how to make it, and what quantize and inspect say of it.
ONNX: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "empty": (lambda: b"", "not a valid ONNX model", "not a valid ONNX model"),
    "truncated": (lambda: onnx_bytes()[:-300], "truncated", "truncated"),
    "text": (lambda: b"a model, honestly", "truncated or not one", "truncated or not one"),
    "nan": (lambda: onnx_bytes(with_nan), "weights conv_w hold NaN", "weights conv_w hold NaN"),
    "strange domain": (
        lambda: onnx_bytes(of_a_strange_domain),
        "com.example:Relu(-1) is not a registered function/op",
        "onnx does not know the operator of com.example",
    ),
    "unknown operator": (
        lambda: onnx_bytes(with_an_unknown_operator),
        "No Op registered for Reluish",
        "No Op registered for Reluish",
    ),
    "weights elsewhere": (
        lambda: onnx_bytes(with_weights_elsewhere),
        "weights in other files (conv_w",
        "weights in other files (conv_w",
    ),
    "any size": (
        lambda: onnx_bytes(of_any_size),
        "the input is ['N', 3, 'H', 'W']; expected [N, 3, H, W] or [N, H, W, 3] with fixed H and W",
        "the size of the input x is not fixed: [N, 3, H, W]",
    ),
    "no stated size": (
        lambda: onnx_bytes(of_no_stated_size),
        "the input is ['N', 3, 8, '?']; expected",
        "the size of the input x is not fixed: [N, 3, 8, ?]",
    ),
    "two inputs": (lambda: onnx_bytes(of_two_inputs), "expected one input, found 2: x, other", "found 2 (x, other)"),
    "doubles": (lambda: onnx_bytes(of_doubles), "bound to different types", "inconsistent type"),
    "no nodes": (lambda: onnx_bytes(without_nodes), "output 'y' is not an output of any node", "output 'y' is not"),
}
#: What inspect can lay open, and quantize cannot use.
ONNX_TO_QUANTIZE = {
    **ONNX,
    "two outputs": (lambda: onnx_bytes(of_two_outputs), "expected one output, found 2: y, relu", ""),
    "half precision": (lambda: onnx_bytes(in_half_precision), "'x' is tensor(float16); expected float32 or uint8", ""),
}


@pytest.mark.parametrize("kind", ONNX_TO_QUANTIZE)
def test_an_onnx_file_that_cannot_be_quantized_is_refused(fail: Fail, kind: str, tmp_path: Path) -> None:
    save_npz(tmp_path / "images.npz")
    network_file("mine.onnx", ONNX_TO_QUANTIZE[kind][0]())
    found = fail("quantize", "mine.onnx", "--data", "images.npz")
    assert found.message.startswith("mine.onnx: ")
    assert ONNX_TO_QUANTIZE[kind][1] in found.message
    assert found.code == 3


@pytest.mark.parametrize("kind", ONNX)
def test_an_onnx_file_that_cannot_be_laid_open_is_refused(fail: Fail, kind: str) -> None:
    network_file("mine.onnx", ONNX[kind][0]())
    found = fail("inspect", "mine.onnx")
    assert found.message.startswith("mine.onnx: ")
    assert ONNX[kind][2] in found.message
    assert found.code == 3
