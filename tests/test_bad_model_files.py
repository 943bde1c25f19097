"""Model files of strangers: what runs a program is not opened, what is too large is not read, what is torn is named."""

import json
import pickle
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edgecnn.cli import _main
from tests.bad_nets import Net
from tests.bundles import save_npz
from tests.failure import ARCH, SIZE, Fail, failing, ignore_torchscript, network_file
from tests.graphs import small_cnn
from tests.model_files import Bomb, pt2, saved, traced, with_member, with_more


@pytest.fixture
def fail(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fail]:
    with failing(capfd, tmp_path, monkeypatch) as run:
        yield run


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
        "the weights conv_w point outside its folder",
        "the weights conv_w point outside its folder",
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
