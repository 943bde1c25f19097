"""Stage 2: ``model.pt`` to ``float.onnx``, compared with PyTorch before anything is written."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from edgecnn.data import load as load_images
from edgecnn.errors import BundleError, CheckpointError, ParityError, UsageError
from edgecnn.models import checkpoint
from edgecnn.pipeline.context import Options, Outcome
from edgecnn.pipeline.export import export
from edgecnn.pipeline.export_settings import ExportSettings, parse_layout, parse_type
from edgecnn.targets import reference_session
from tests.bundles import read_manifest, snapshot, times


def go(folder: Path, *, force: bool = False, batch: int | None = None) -> Outcome:
    return export(
        folder / "model.pt", settings=ExportSettings(batch=batch), options=Options(bundle=folder, force=force)
    )


class Listener:
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def update(self, task: str, done: int, total: int, detail: str = "") -> None:
        pass


def test_a_checkpoint_alone_becomes_a_bundle(finished_bundle: Path, tmp_path: Path) -> None:
    given = Path(shutil.copy(finished_bundle / "model.pt", tmp_path / "given.pt"))
    folder = tmp_path / "bundle"
    outcome = export(given, options=Options(bundle=folder))
    manifest = read_manifest(folder)
    assert sorted(snapshot(folder)) == ["float.onnx", "manifest.json", "model.pt"]
    assert (folder / "model.pt").read_bytes() == given.read_bytes()
    assert manifest.stages["train"].settings["imported"] is True
    old = read_manifest(finished_bundle)
    assert (manifest.network, manifest.data, manifest.training_curve) == (old.network, old.data, old.training_curve)
    (artifact,) = outcome.artifacts
    assert artifact.parent_sha256 == snapshot(folder)["model.pt"]
    assert set(artifact.tools) >= {"torch", "onnx", "onnxscript", "onnxruntime"}
    first = next(item for item in old.artifacts if item.stage == "export")
    assert artifact.sha256 == first.sha256, "the same checkpoint gives the same bytes"


def test_the_exported_model_answers_as_pytorch_does(finished_bundle: Path, bundle_copy: Path) -> None:
    go(bundle_copy, force=True)
    images = load_images("digits", height=32, width=32).test.pixels[:32]
    pixels = np.ascontiguousarray(images.transpose(0, 3, 1, 2), dtype=np.float32) / np.float32(255)
    session = reference_session((bundle_copy / "float.onnx").read_bytes(), model_name="float.onnx")
    info, module = checkpoint.load(finished_bundle / "model.pt")
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (info.mean, info.std))
    with torch.inference_mode():
        expected = module((torch.from_numpy(pixels) - mean) / std).numpy()
    assert np.abs(session.run(pixels) - expected).max() < 1e-4
    (parity,) = read_manifest(bundle_copy).parity
    assert (parity.stage, parity.reference) == ("export", "PyTorch")
    assert parity.n >= 64
    assert {1, 8} <= set(parity.batch_sizes)
    assert parity.max_relative_difference <= parity.tolerance


def test_the_same_export_is_not_done_twice(tmp_path: Path, finished_bundle: Path) -> None:
    folder = tmp_path / "bundle"
    given = finished_bundle / "model.pt"
    export(given, options=Options(bundle=folder))
    before = snapshot(folder), times(folder)
    assert export(given, options=Options(bundle=folder)).unchanged
    assert (snapshot(folder), times(folder)) == before


def test_exporting_anew_strikes_what_came_after(bundle_copy: Path) -> None:
    outcome = go(bundle_copy, force=True)
    assert not outcome.unchanged
    manifest = read_manifest(bundle_copy)
    assert set(manifest.stages) == {"train", "export"}
    assert (manifest.validation, manifest.latency, manifest.checks) == ((), (), ())
    assert sorted(snapshot(bundle_copy)) == ["float.onnx", "manifest.json", "model.pt"]


@pytest.mark.parametrize(
    ("batch", "input_type", "input_layout", "shape"),
    [(4, "float32", "nchw", (4, 3, 32, 32)), (None, "uint8", "nhwc", ("batch", 32, 32, 3))],
)
def test_the_input_is_as_asked(
    bundle_copy: Path, batch: int | None, input_type: str, input_layout: str, shape: tuple[int | str, ...]
) -> None:
    outcome = export(
        bundle_copy / "model.pt",
        settings=ExportSettings(
            batch=batch, input_type=parse_type(input_type), input_layout=parse_layout(input_layout)
        ),
        options=Options(bundle=bundle_copy),
    )
    (artifact,) = outcome.artifacts
    assert artifact.input is not None
    assert (artifact.input.dtype, artifact.input.shape) == (input_type, shape)
    session = reference_session((bundle_copy / "float.onnx").read_bytes(), model_name="float.onnx")
    assert session.input == artifact.input


def test_an_export_that_changes_the_answers_writes_nothing(bundle_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(model: onnx.ModelProto) -> bool:
        bias = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("fc3.bias"))
        bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(0.1), bias.name))
        return False

    monkeypatch.setattr("edgecnn.graph.export.fold_normalization", spoil)
    before = snapshot(bundle_copy)
    with pytest.raises(ParityError, match="export: the exported model and PyTorch differ at batch 1") as caught:
        go(bundle_copy, force=True)
    assert "Nothing was written" in caught.value.message
    assert caught.value.exit_code == 4
    assert caught.value.next_step
    assert snapshot(bundle_copy) == before


def test_another_checkpoint_does_not_replace_one_that_was_trained_here(bundle_copy: Path, tmp_path: Path) -> None:
    info, module = checkpoint.load(bundle_copy / "model.pt")
    with torch.no_grad():
        next(module.parameters()).mul_(1.5)
    other = tmp_path / "other.pt"
    other.write_bytes(checkpoint.pack(info, module))
    before = snapshot(bundle_copy)
    with pytest.raises(BundleError, match="holds another model, which was trained there") as caught:
        export(other, options=Options(bundle=bundle_copy))
    assert "other.pt" in caught.value.message
    assert "--force" in caught.value.next_step
    assert snapshot(bundle_copy) == before
    export(other, options=Options(bundle=bundle_copy, force=True))
    assert (bundle_copy / "model.pt").read_bytes() == other.read_bytes()
    assert set(read_manifest(bundle_copy).stages) == {"train", "export"}


def test_a_bare_name_is_looked_up_in_the_newest_bundle_which_is_said(
    finished_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path(shutil.copytree(finished_bundle, "artifacts/mine"))
    listener = Listener()
    outcome = export(options=Options(progress=listener))
    assert outcome.bundle == folder
    assert outcome.stage == "export"
    assert "model.pt is taken from the bundle artifacts/mine" in listener.said


def test_a_file_here_comes_before_one_in_a_bundle(
    finished_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished_bundle, "artifacts/mine")
    Path("model.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"model\.pt: expected a checkpoint, found an empty file"):
        export()


def test_a_missing_checkpoint_makes_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=r"model\.pt: expected a checkpoint file, found nothing") as caught:
        export()
    assert "edgecnn train" in caught.value.next_step
    assert list(tmp_path.iterdir()) == []


def test_a_batch_below_one_is_refused(bundle_copy: Path) -> None:
    before = snapshot(bundle_copy)
    with pytest.raises(UsageError, match="--batch must be at least 1, found 0"):
        go(bundle_copy, batch=0)
    assert snapshot(bundle_copy) == before


def test_an_unknown_type_or_layout_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="--input-type: expected float32 or uint8, found 'int8'"):
        parse_type("int8")
    with pytest.raises(UsageError, match="--input-layout: expected nchw or nhwc, found 'NCHW'"):
        parse_layout("NCHW")
