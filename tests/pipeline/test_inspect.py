"""``edgecnn inspect``: a checkpoint, an ONNX file or a bundle, read and never written to."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto

from edgecnn.data import load as load_images
from edgecnn.data import record
from edgecnn.errors import BundleError, CheckpointError, EdgecnnError, ModelError, UsageError
from edgecnn.models import MODELS, checkpoint
from edgecnn.pipeline.context import Options
from edgecnn.pipeline.inspect import Inspection, inspect
from tests.bundles import plant, slow_model, snapshot, times
from tests.graphs import make_model, node, small_cnn
from tests.program import edgecnn


class Listener:
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def update(self, task: str, done: int, total: int, detail: str = "") -> None:
        raise AssertionError(task)


def costs(found: Inspection) -> tuple[int, int]:
    return found.network.parameters, found.network.macs


def save(path: Path, model: ModelProto | bytes) -> Path:
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return path


@pytest.fixture(scope="module")
def checkpoint_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a ResNet8 with random weights."""
    data = record(load_images("digits", height=32, width=32))
    info = checkpoint.CheckpointInfo(
        model="resnet8", input_shape=(3, 32, 32), classes=tuple("0123456789"), mean=(0.5,) * 3, std=(0.25,) * 3,
        config={}, data=data,
    )  # fmt: skip
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("checkpoint") / "mine.pt"
    path.write_bytes(checkpoint.pack(info, MODELS["resnet8"].build(10)))
    return path


def test_a_checkpoint_is_read_as_it_is(checkpoint_file: Path) -> None:
    before = snapshot(checkpoint_file.parent), times(checkpoint_file.parent)
    found = inspect(checkpoint_file)
    assert found.path == checkpoint_file
    assert costs(found) == (78_666, 12_501_632)
    assert [layer.op for layer in found.network.layers][:3] == ["Conv", "BatchNormalization", "Relu"]
    assert (snapshot(checkpoint_file.parent), times(checkpoint_file.parent)) == before


def test_an_onnx_file_is_read(tmp_path: Path) -> None:
    found = inspect(str(save(tmp_path / "net.onnx", small_cnn())))
    assert [layer.name for layer in found.network.layers] == ["conv", "relu", "pool", "flatten", "fc"]
    assert costs(found) == (223, 3996)
    assert list(tmp_path.iterdir()) == [tmp_path / "net.onnx"]


def test_an_onnx_file_may_have_any_name(tmp_path: Path) -> None:
    assert costs(inspect(save(tmp_path / "net.onnx.bak", small_cnn()))) == (223, 3996)


def test_a_checkpoint_may_have_any_name(checkpoint_file: Path, tmp_path: Path) -> None:
    assert costs(inspect(shutil.copy(checkpoint_file, tmp_path / "network")))[0] == 78_666


def test_a_bundle_is_its_float_model_or_with_int8_that(finished_bundle: Path) -> None:
    before = snapshot(finished_bundle), times(finished_bundle)
    exact, small = inspect(finished_bundle), inspect(finished_bundle, int8=True)
    assert (exact.path, small.path) == (finished_bundle / "float.onnx", finished_bundle / "int8.onnx")
    assert costs(exact) == costs(small) == (62_006, 651_720)
    assert exact.network.weight_bytes == 4 * 62_006
    n_biases = 6 + 16 + 120 + 84 + 10
    # int8 weights and their zero points, int32 biases and theirs, and a float scale for each of both
    assert small.network.weight_bytes == (62_006 - n_biases) + n_biases * (1 + 4) + n_biases * (4 + 4 + 4)
    assert small.network.activation_bytes < exact.network.activation_bytes / 3
    assert exact.network.doubts == small.network.doubts == ()
    assert (snapshot(finished_bundle), times(finished_bundle)) == before


def test_all_three_forms_of_a_network_agree(finished_bundle: Path) -> None:
    forms = [inspect(finished_bundle / "model.pt"), inspect(finished_bundle), inspect(finished_bundle, int8=True)]

    def rows(found: Inspection, op: str) -> list[object]:
        layers = [layer for layer in found.network.layers if layer.op == op]
        return [(one.inputs, one.outputs, one.arithmetic, one.macs, one.receptive_field) for one in layers]

    for op in ("Conv", "MaxPool", "Gemm"):
        assert rows(forms[0], op) == rows(forms[1], op) == rows(forms[2], op) != []


def test_without_a_name_the_newest_bundle_is_taken(
    finished_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished_bundle, "artifacts/mine")
    assert inspect().path == Path("artifacts/mine/float.onnx")
    assert inspect(options=Options(bundle=finished_bundle)).path == finished_bundle / "float.onnx"


def test_a_name_that_is_not_here_is_looked_up_in_the_bundle_and_that_is_said(
    finished_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished_bundle, "artifacts/mine")
    listener = Listener()
    assert inspect("model.pt", options=Options(progress=listener)).path == Path("artifacts/mine/model.pt")
    assert listener.said == ["model.pt is taken from the bundle artifacts/mine"]


# What cannot be read.


def refused(kind: type[EdgecnnError], model: Path, *words: str, int8: bool = False) -> None:
    before = snapshot(model.parent)
    with pytest.raises(kind) as caught:
        inspect(model, int8=int8)
    assert caught.type is kind
    assert str(model) in caught.value.message
    for word in words:
        assert word in caught.value.message
    assert caught.value.next_step
    assert snapshot(model.parent) == before


def test_nothing_there(tmp_path: Path) -> None:
    refused(ModelError, tmp_path / "net.onnx", "expected a checkpoint, an ONNX file or a bundle, found nothing")
    refused(CheckpointError, tmp_path / "net.pt", "found nothing")


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_onnx_file(tmp_path: Path, kept: float) -> None:
    data = small_cnn().SerializeToString()
    refused(ModelError, save(tmp_path / "net.onnx", data[: int(kept * len(data))]))


@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_truncated_checkpoint(checkpoint_file: Path, tmp_path: Path, kept: float) -> None:
    data = checkpoint_file.read_bytes()
    refused(CheckpointError, save(tmp_path / "net.pt", data[: int(kept * len(data))]), "truncated")


def test_weights_that_are_not_finite(tmp_path: Path) -> None:
    model = small_cnn()
    weights = onnx.numpy_helper.to_array(model.graph.initializer[0]).copy()
    weights[0, 0, 0, 0] = np.nan
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(weights, "conv_w"))
    refused(ModelError, save(tmp_path / "net.onnx", model), "conv_w", "NaN")


@pytest.mark.parametrize("size", ["height", None])
def test_a_size_that_may_vary(tmp_path: Path, size: str | None) -> None:
    model = make_model([node("GlobalAveragePool", ["x"], ["y"])], {}, inputs={"x": ("N", 3, size, 8)})
    refused(ModelError, save(tmp_path / "net.onnx", model), "the input x is not fixed")


def test_two_inputs(tmp_path: Path) -> None:
    model = make_model([node("Add", ["a", "b"], ["y"])], {}, inputs={"a": (1, 4), "b": (1, 4)})
    refused(ModelError, save(tmp_path / "net.onnx", model), "found 2 (a, b)")


def test_an_operator_that_does_not_exist(tmp_path: Path) -> None:
    model = make_model([node("Wavelet", ["x"], ["y"])], {})
    refused(ModelError, save(tmp_path / "net.onnx", model), "Wavelet")


def test_weights_in_another_file(tmp_path: Path) -> None:
    model = small_cnn()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret.bin")
    refused(ModelError, save(tmp_path / "net.onnx", model), "point outside its folder, to '../secret.bin'")


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    refused(CheckpointError, save(tmp_path / "net", b"\x80\x02cos\nsystem\n."), "it was not opened")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    with path.open("wb") as file:
        file.truncate(5 * 2**30)
    refused_before = path.stat().st_size
    with pytest.raises(ModelError, match="larger than 2147483648 bytes"):
        inspect(path)
    assert path.stat().st_size == refused_before


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "net.onnx", small_cnn())

    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ModelError, match=r"net\.onnx: not readable \(Permission denied\)"):
        inspect(path)


def test_a_name_that_no_file_can_have(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not readable") as caught:
        inspect(tmp_path / ("x" * 300))
    assert caught.value.next_step


def test_a_process_of_its_own_has_nothing_to_complain_of_at_its_exit(checkpoint_file: Path, tmp_path: Path) -> None:
    finished = edgecnn("inspect", str(checkpoint_file), cwd=tmp_path)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert "78,666" in finished.stdout


@pytest.mark.parametrize("enabled", [True, False])
def test_importing_torch_leaves_the_garbage_collector_as_it_was(checkpoint_file: Path, enabled: bool) -> None:
    code = (
        "import gc, sys, edgecnn\n"
        f"gc.{'enable' if enabled else 'disable'}()\n"
        "edgecnn.inspect(sys.argv[1])\n"
        "print(gc.isenabled())"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code, str(checkpoint_file)], capture_output=True, text=True, check=True
    )
    assert finished.stdout.split() == [str(enabled)]


def test_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="expected a bundle"):
        inspect(tmp_path)


def test_a_bundle_without_the_model(bundle_copy: Path) -> None:
    (bundle_copy / "int8.onnx").unlink()
    with pytest.raises(BundleError, match=r"int8\.onnx") as caught:
        inspect(bundle_copy, int8=True)
    assert caught.value.next_step == "edgecnn quantize"


def test_a_model_that_was_changed_since_it_was_made(bundle_copy: Path) -> None:
    (bundle_copy / "float.onnx").write_bytes(slow_model())
    with pytest.raises(BundleError, match=r"float\.onnx: expected SHA-256"):
        inspect(bundle_copy)
    plant(bundle_copy, "float.onnx", slow_model())
    assert inspect(bundle_copy).network.macs > 651_720


def test_int8_is_asked_of_bundles_only(tmp_path: Path) -> None:
    refused(UsageError, save(tmp_path / "net.onnx", small_cnn()), "--int8", int8=True)


def test_without_pytorch_a_checkpoint_is_a_message_and_an_onnx_file_is_read(
    checkpoint_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UsageError, match="needs PyTorch, which is not installed here") as caught:
        inspect(checkpoint_file)
    assert "pip install" in caught.value.next_step
    assert costs(inspect(save(tmp_path / "net.onnx", small_cnn())))[0] == 223
