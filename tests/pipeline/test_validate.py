"""Stage 5: is int8 as right as float? On the same test images, paired."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from edgecnn.data import Images
from edgecnn.data import load as load_images
from edgecnn.errors import BundleError, DataError, ModelError, StageError, TargetError, UsageError
from edgecnn.measure import accuracy
from edgecnn.pipeline.context import Options, Outcome
from edgecnn.pipeline.validate import validate
from edgecnn.pipeline.verdict import Gates, Verdict
from edgecnn.progress import Progress
from edgecnn.targets import TARGETS, Session
from tests.bundles import fast_model, missing_target, nan_model, plant, read_manifest, save_npz, scramble_int8, snapshot


def go(folder: Path, *, max_drop: float = 100, data: Path | None = None) -> tuple[Outcome, Verdict]:
    options = Options(bundle=folder, data=str(data) if data else None)
    return validate(gates=Gates(max_drop_pp=max_drop), options=options)


def predictions(path: Path, images: Images) -> NDArray[np.int64]:
    """Classify one image after the other, with nothing of edgecnn in between."""
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    scaled = images.pixels.astype(np.float32) / np.float32(255)
    answers = [
        session.run(None, {"input": np.ascontiguousarray(image.transpose(2, 0, 1))[None]})[0] for image in scaled
    ]
    return np.asarray(np.concatenate(answers).argmax(1), np.int64)


def test_the_figures_are_those_of_an_independent_count(bundle_copy: Path) -> None:
    plant(bundle_copy, "int8.onnx", scramble_int8((bundle_copy / "int8.onnx").read_bytes()))
    outcome, _ = go(bundle_copy)
    (found,) = outcome.manifest.validation
    test = load_images("digits", height=32, width=32).test
    before, after = (predictions(bundle_copy / name, test) for name in ("float.onnx", "int8.onnx"))
    right, still = before == test.labels, after == test.labels
    assert found.n == len(test) == 360
    assert found.float_top1 == pytest.approx(right.mean(), abs=0)
    assert found.int8_top1 == pytest.approx(still.mean(), abs=0)
    assert found.drop_pp == pytest.approx(100 * (right.mean() - still.mean()))
    assert found.agreement == pytest.approx((before == after).mean())
    assert found.drop_pp_low < found.drop_pp < found.drop_pp_high
    assert found.p_value < 0.001
    assert [row.name for row in found.per_class] == list(test.classes)
    for label, row in enumerate(found.per_class):
        members = test.labels == label
        assert row.n == members.sum()
        assert row.float_top1 == pytest.approx(right[members].mean())
        assert row.int8_top1 == pytest.approx(still[members].mean())
        assert row.drop_pp == pytest.approx(100 * (right[members].mean() - still[members].mean()))


def test_a_result_says_on_what_it_was_measured(bundle_copy: Path) -> None:
    outcome, _ = go(bundle_copy)
    (found,) = outcome.manifest.validation
    assert outcome.manifest.data is not None
    assert found.data_sha256 == outcome.manifest.data.sha256
    assert found.target == "cpu"
    assert found.machine.versions["onnxruntime"] == onnxruntime.__version__
    assert found.measured_at.utcoffset() is not None


def test_scrambled_weights_fail_the_gate(bundle_copy: Path) -> None:
    plant(bundle_copy, "int8.onnx", scramble_int8((bundle_copy / "int8.onnx").read_bytes()))
    outcome, verdict = go(bundle_copy, max_drop=5)
    assert (verdict.passed, verdict.exit_code) == (False, 1)
    (check,) = verdict.checks
    assert check.measured > 5
    assert outcome.manifest.validation[0].drop_pp == check.measured
    manifest = read_manifest(bundle_copy)
    assert manifest.checks == verdict.checks
    assert "FAILED" in (bundle_copy / "report.md").read_text()


def test_sound_weights_pass_it(bundle_copy: Path) -> None:
    _, verdict = go(bundle_copy, max_drop=5)
    assert (verdict.passed, verdict.exit_code) == (True, 0)


def test_who_types_validate_sees_it_measured(bundle_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []

    def top1(session: Session, images: Images, *, name: str, progress: Progress) -> accuracy.Accuracy:
        measured.append(name)
        return real(session, images, name=name, progress=progress)

    real = accuracy.top1
    monkeypatch.setattr(accuracy, "top1", top1)
    first, _ = go(bundle_copy)
    second, _ = go(bundle_copy)
    assert measured == ["float.onnx", "int8.onnx"] * 2
    assert not first.unchanged
    assert not second.unchanged
    old, new = first.manifest.validation[0], second.manifest.validation[0]
    same = {"measured_at", "machine"}
    assert old.model_dump(exclude=same) == new.model_dump(exclude=same)


def test_a_target_named_twice_is_measured_once(bundle_copy: Path) -> None:
    outcome, verdict = validate(targets=["cpu", "cpu"], options=Options(bundle=bundle_copy))
    assert [row.target for row in outcome.manifest.validation] == ["cpu"]
    assert len(verdict.checks) == 1


def test_other_images_are_counted_and_named(bundle_copy: Path, tmp_path: Path) -> None:
    other = save_npz(tmp_path / "other.npz", n_train=40, n_test=50, classes=10)
    before = read_manifest(bundle_copy)
    outcome, _ = go(bundle_copy, data=other)
    (found,) = outcome.manifest.validation
    assert found.n == 50
    assert before.data is not None
    assert found.data_sha256 != before.data.sha256
    assert outcome.manifest.data == before.data, "the bundle is still one of digits"


def test_images_of_other_classes_are_refused(bundle_copy: Path, tmp_path: Path) -> None:
    other = save_npz(tmp_path / "other.npz", classes=3)
    before = snapshot(bundle_copy)
    with pytest.raises(DataError, match=r"classes are 0, 1, 2, 3, 4, 5, 6, 7, 8, 9; other\.npz has 0, 1, 2"):
        go(bundle_copy, data=other)
    assert snapshot(bundle_copy) == before


@pytest.mark.parametrize("name", ["float.onnx", "int8.onnx"])
def test_a_model_that_answers_nan_fails_the_stage(bundle_copy: Path, name: str) -> None:
    plant(bundle_copy, name, nan_model())
    before = snapshot(bundle_copy)
    with pytest.raises(StageError, match=f"validate: {name} gives NaN or infinite logits") as caught:
        go(bundle_copy)
    assert caught.value.exit_code == 4
    assert caught.value.next_step
    assert snapshot(bundle_copy) == before


@pytest.mark.parametrize(
    ("name", "remedy"), [("float.onnx", "edgecnn export model.pt"), ("int8.onnx", "edgecnn quantize")]
)
def test_a_model_that_was_changed_is_not_measured(bundle_copy: Path, name: str, remedy: str) -> None:
    (bundle_copy / name).write_bytes(fast_model())
    before = snapshot(bundle_copy)
    with pytest.raises(BundleError, match=f"{name}: expected SHA-256 .* the file was changed") as caught:
        go(bundle_copy)
    assert caught.value.next_step == remedy
    assert snapshot(bundle_copy) == before


def test_a_target_that_is_not_here_changes_nothing(bundle_copy: Path) -> None:
    before = snapshot(bundle_copy)
    target = missing_target()
    with pytest.raises(TargetError, match=f"{target}: not available here: .*{TARGETS[target].provider}") as caught:
        validate(targets=["cpu", target], options=Options(bundle=bundle_copy))
    assert caught.value.exit_code == 5
    assert caught.value.next_step
    assert snapshot(bundle_copy) == before


def test_an_unknown_target_lists_the_known_ones(bundle_copy: Path) -> None:
    with pytest.raises(UsageError, match="unknown provider 'gpu'; known: cpu, ") as caught:
        validate(targets=["gpu"], options=Options(bundle=bundle_copy))
    assert caught.value.next_step == "edgecnn targets"


def test_a_model_that_names_another_file_is_never_opened(bundle_copy: Path) -> None:
    import hashlib
    import json

    import onnx

    model = onnx.load(bundle_copy / "int8.onnx")
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    data = model.SerializeToString()
    (bundle_copy / "int8.onnx").write_bytes(data)
    manifest = json.loads((bundle_copy / "manifest.json").read_text())
    for artifact in manifest["artifacts"]:
        if artifact["path"] == "int8.onnx":
            artifact["sha256"] = hashlib.sha256(data).hexdigest()
    (bundle_copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match="keeps weights in other files"):
        validate(options=Options(bundle=bundle_copy))
