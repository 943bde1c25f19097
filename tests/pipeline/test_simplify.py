"""Stage 3: a simpler ``float.onnx`` with the same function, or nothing."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, numpy_helper

from edgecnn.bundle import Bundle
from edgecnn.errors import BundleError, ParityError, StageError
from edgecnn.graph.onnxsim_process import Limits
from edgecnn.pipeline.context import Options
from edgecnn.pipeline.quantize import quantize
from edgecnn.pipeline.simplify import simplify
from edgecnn.targets import reference_session
from tests.bundles import read_manifest, save_npz, snapshot, times
from tests.graphs import make_model, node


def redundant_model() -> bytes:
    """Return a classifier with an Identity, and weights that are computed from two constants."""
    random = np.random.default_rng(0)
    model = make_model(
        [
            node("Identity", ["input"], ["same"]),
            node("Add", ["half", "half"], ["kernel"]),
            node("Conv", ["same", "kernel"], ["conv"]),
            node("GlobalAveragePool", ["conv"], ["pooled"]),
            node("Flatten", ["pooled"], ["flat"]),
            node("Gemm", ["flat", "weight"], ["logits"]),
        ],
        {"half": random.normal(size=(4, 3, 5, 5)), "weight": random.normal(size=(4, 3))},
        inputs={"input": ("batch", 3, 32, 32)},
        outputs={"logits": ("batch", 3)},
    )
    return bytes(model.SerializeToString())


@pytest.fixture
def imported(tmp_path: Path) -> Path:
    """Return a bundle around a float model that has something to simplify."""
    (tmp_path / "mine.onnx").write_bytes(redundant_model())
    options = Options(bundle=tmp_path / "bundle", data=str(save_npz(tmp_path / "images.npz")))
    return quantize(tmp_path / "mine.onnx", options=options).bundle


def test_redundant_nodes_go_and_the_answers_stay(imported: Path) -> None:
    before = (imported / "float.onnx").read_bytes()
    outcome = simplify(options=Options(bundle=imported))
    after = (imported / "float.onnx").read_bytes()
    operators = [item.op_type for item in ModelProto.FromString(after).graph.node]
    assert "Identity" not in operators
    assert "Add" not in operators
    pixels = np.random.default_rng(1).random((5, 3, 32, 32), np.float32)
    old, new = (reference_session(data, model_name="float.onnx").run(pixels) for data in (before, after))
    assert np.abs(old - new).max() < 1e-5
    (artifact,) = outcome.artifacts
    assert artifact.sha256 == hashlib.sha256(after).hexdigest()
    assert artifact.parent_sha256 == hashlib.sha256(before).hexdigest()
    assert set(artifact.tools) == {"onnx", "onnxsim", "onnxruntime"}


def test_the_manifest_keeps_both_files_and_the_comparison(imported: Path) -> None:
    simplify(options=Options(bundle=imported))
    manifest = read_manifest(imported)
    assert [artifact.stage for artifact in manifest.artifacts] == ["export", "simplify"]
    assert len({artifact.sha256 for artifact in manifest.artifacts}) == 2
    (parity,) = manifest.parity
    assert (parity.stage, parity.reference) == ("simplify", "the exported model")
    assert "quantize" not in manifest.stages, "int8.onnx was made from another float.onnx"
    assert not (imported / "int8.onnx").exists()


def test_simplifying_twice_does_nothing(imported: Path) -> None:
    simplify(options=Options(bundle=imported))
    before = snapshot(imported), times(imported)
    assert simplify(options=Options(bundle=imported)).unchanged
    assert (snapshot(imported), times(imported)) == before


def test_force_simplifies_what_was_simplified_to_the_same_bytes(bundle_copy: Path) -> None:
    before = (bundle_copy / "float.onnx").read_bytes()
    assert not simplify(options=Options(bundle=bundle_copy, force=True)).unchanged
    assert (bundle_copy / "float.onnx").read_bytes() == before
    assert simplify(options=Options(bundle=bundle_copy)).unchanged


def test_a_simplifier_that_changes_the_answers_writes_nothing(imported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(data: bytes, skipped: list[str], limits: Limits) -> bytes:
        model = ModelProto.FromString(data)
        weight: TensorProto = next(tensor for tensor in model.graph.initializer if tensor.name == "weight")
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.01), "weight"))
        return bytes(model.SerializeToString())

    monkeypatch.setattr("edgecnn.graph.simplify.run_onnxsim", spoil)
    before = snapshot(imported)
    with pytest.raises(ParityError, match="simplify: the simplified model and the exported model differ at batch 1"):
        simplify(options=Options(bundle=imported))
    assert snapshot(imported) == before


def test_a_simplifier_that_crashes_is_a_message_and_writes_nothing(
    imported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgecnn.graph.onnxsim_process.sys.executable", "/bin/false")
    before = snapshot(imported)
    with pytest.raises(StageError, match="simplify: onnxsim ended with code 1") as caught:
        simplify(options=Options(bundle=imported))
    assert caught.value.next_step == "go on with the model as it is"
    assert snapshot(imported) == before


def test_a_float_model_that_was_changed_is_refused(imported: Path) -> None:
    (imported / "float.onnx").write_bytes(redundant_model() + b"\0")
    with pytest.raises(BundleError, match=r"float\.onnx: expected SHA-256"):
        simplify(options=Options(bundle=imported))


def test_a_bundle_without_a_float_model_says_what_to_type(tmp_path: Path) -> None:
    Bundle.open_or_create(tmp_path).amend({"edgecnn_version": "1"})
    with pytest.raises(BundleError, match=r"no float\.onnx yet") as caught:
        simplify(options=Options(bundle=tmp_path))
    assert caught.value.next_step == "edgecnn export model.pt"
