"""Stage 5: is int8 as right as float? On the same test images, paired."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from edgecnn.bundle.manifest import ValidationResult
from edgecnn.data import Images
from edgecnn.data import load as load_images
from edgecnn.errors import BundleError, DataError, EdgecnnError, ModelError, StageError, TargetError, UsageError
from edgecnn.measure import accuracy
from edgecnn.pipeline.context import Options, Outcome
from edgecnn.pipeline.quantize import quantize
from edgecnn.pipeline.quantize_settings import QuantizeSettings
from edgecnn.pipeline.sampling import choose_images, sample_sizes
from edgecnn.pipeline.validate import validate
from edgecnn.pipeline.verdict import Gates, Verdict
from edgecnn.progress import Progress
from edgecnn.targets import TARGETS, Clock, Session, Target
from tests.bundles import fast_model, missing_target, nan_model, plant, read_manifest, save_npz, scramble_int8, snapshot
from tests.emulation import needs_haswell, plant_target


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
        validate(targets=[target], options=Options(bundle=bundle_copy))
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


# Other targets than this machine's CPU.

#: A CPU that answers otherwise: the last class where the first one is right.
_WRONG = """#!{python}
import subprocess, sys
source = open(sys.argv[-1]).read().replace(
    'return numpy.ascontiguousarray(logits, "<f4")', 'return numpy.ascontiguousarray(logits[:, ::-1], "<f4")'
)
exec(compile(source, "worker", "exec"), {{"__name__": "__main__"}})
"""


def test_an_emulated_target_is_held_against_this_cpu(
    bundle_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = plant_target(tmp_path / "bin", monkeypatch)
    outcome, verdict = validate(targets=["cpu", name], options=Options(bundle=bundle_copy))
    here, there = outcome.manifest.validation
    assert (here.float_against_cpu, here.int8_against_cpu) == (None, None)
    for found in (there.float_against_cpu, there.int8_against_cpu):
        assert found is not None
        assert (found.argmax_flips, found.max_abs_logit_difference) == (0, 0.0)
    assert there.machine.cpu == "Fake CPU, emulated by QEMU"
    assert here.machine.cpu != there.machine.cpu
    assert [(check.name, check.passed) for check in verdict.checks] == [
        ("accuracy drop on cpu", True),
        (f"accuracy drop on {name}", True),
        (f"float, classes changed on {name}", True),
        (f"int8, change of top-1 on {name}", True),
    ]
    assert here.per_class == there.per_class


def test_this_cpu_is_asked_even_if_only_another_is_named(
    bundle_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = plant_target(tmp_path / "bin", monkeypatch, _WRONG.format(python=sys.executable))
    before = read_manifest(bundle_copy).validation
    outcome, _ = validate(targets=[name], gates=Gates(max_drop_pp=100), options=Options(bundle=bundle_copy))
    kept, found = outcome.manifest.validation
    assert kept == before[0]
    test = load_images("digits", height=32, width=32).test
    for model, difference, top1 in (
        ("float.onnx", found.float_against_cpu, found.float_top1),
        ("int8.onnx", found.int8_against_cpu, found.int8_top1),
    ):
        session = onnxruntime.InferenceSession((bundle_copy / model).read_bytes(), providers=["CPUExecutionProvider"])
        pixels = np.ascontiguousarray(test.pixels.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)
        (logits,) = session.run(None, {"input": pixels})
        turned = logits[:, ::-1]
        assert difference is not None
        assert difference.argmax_flips == (logits.argmax(1) != turned.argmax(1)).sum() > 100
        assert difference.max_abs_logit_difference == pytest.approx(np.abs(logits - turned).max(), rel=1e-4)
        here = (logits.argmax(1) == test.labels).mean()
        assert difference.top1_change_pp == pytest.approx(100 * (top1 - here))
        assert top1 == pytest.approx((turned.argmax(1) == test.labels).mean())


@pytest.mark.parametrize("script", ["#!/bin/sh\nkill -ILL $$\n", "#!/bin/sh\necho no such CPU >&2; exit 1\n"])
def test_an_emulator_that_crashes_changes_nothing(
    bundle_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    name = plant_target(tmp_path / "bin", monkeypatch, script)
    before = snapshot(bundle_copy)
    with pytest.raises(TargetError, match=r"SIGILL|no such CPU") as caught:
        validate(targets=[name], options=Options(bundle=bundle_copy))
    assert caught.value.exit_code == 5
    assert f"targets install {name}" in caught.value.next_step
    assert snapshot(bundle_copy) == before


#: A CPU whose process dies in the middle: at the second batch.
_DIES = """#!{python}
import os, sys
source = open(sys.argv[-1]).read().replace(
    "def _run(session: Any, header: Header, body: bytes) -> Any:",
    "count = []\\ndef _run(session, header, body):\\n    count.append(1)\\n"
    "    if len(count) > 1: os.kill(os.getpid(), 11)",
)
exec(compile(source, "worker", "exec"), {{"__name__": "__main__"}})
"""


def test_a_target_that_crashes_in_the_middle_does_not_lose_the_others_figures(
    bundle_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = plant_target(tmp_path / "bin", monkeypatch, _DIES.format(python=sys.executable))
    gates = Gates(max_drop_pp=100)
    outcome, verdict = validate(targets=[name, "cpu"], gates=gates, options=Options(bundle=bundle_copy))
    assert [row.target for row in outcome.manifest.validation] == ["cpu"]
    (failure,) = verdict.failures
    assert (failure.target, failure.exit_code) == (name, 4)
    assert "SIGSEGV" in failure.reason
    assert failure.next_step
    assert (verdict.passed, verdict.exit_code) == (False, 4)
    manifest = read_manifest(bundle_copy)
    assert manifest.validation_failures == verdict.failures
    report = (bundle_copy / "report.md").read_text()
    assert "Targets without figures" in report
    assert "SIGSEGV" in report


def test_what_failed_is_forgotten_once_it_does_not(
    bundle_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = plant_target(tmp_path / "bin", monkeypatch, _DIES.format(python=sys.executable))
    options = Options(bundle=bundle_copy)
    missing = missing_target()
    _, before = validate(targets=["cpu", name, missing], options=options)
    assert [failure.target for failure in before.failures] == [name, missing]
    assert before.exit_code == 5, "one that is missing goes before one that fails"
    plant_target(tmp_path / "bin", monkeypatch)
    outcome, after = validate(targets=["cpu", name], gates=Gates(max_drop_pp=100), options=options)
    assert after.failures == ()
    assert after.exit_code == 0
    assert [row.target for row in outcome.manifest.validation] == ["cpu", name]
    assert [failure.target for failure in outcome.manifest.validation_failures] == [missing]


def test_a_target_that_failed_later_loses_its_old_figures(
    bundle_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = plant_target(tmp_path / "bin", monkeypatch)
    validate(targets=["cpu", name], options=Options(bundle=bundle_copy))
    plant_target(tmp_path / "bin", monkeypatch, _DIES.format(python=sys.executable))
    outcome, _ = validate(targets=["cpu", name], options=Options(bundle=bundle_copy))
    assert [row.target for row in outcome.manifest.validation] == ["cpu"]


def test_all_means_every_target_that_is_ready(
    bundle_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = plant_target(tmp_path / "bin", monkeypatch)
    ready = [TARGETS["cpu"], TARGETS[name]]
    monkeypatch.setattr(Target, "why_not", lambda self: None if self in ready else "no")
    outcome, verdict = validate(targets=["all"], gates=Gates(max_drop_pp=100), options=Options(bundle=bundle_copy))
    assert [row.target for row in outcome.manifest.validation] == ["cpu", name]
    assert verdict.failures == ()


def test_a_result_says_how_it_was_had_and_where_each_node_ran(
    bundle_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = plant_target(tmp_path / "bin", monkeypatch)
    outcome, _ = validate(targets=["cpu", name], options=Options(bundle=bundle_copy))
    here, there = outcome.manifest.validation
    assert (here.how, there.how) == ("measured", "emulated")
    for found in (here, there):
        assert found.provider == "CPUExecutionProvider"
        assert found.float_nodes.keys() == found.int8_nodes.keys() == {"CPUExecutionProvider"}
        assert found.int8_nodes["CPUExecutionProvider"] > found.float_nodes["CPUExecutionProvider"] > 5


@pytest.mark.parametrize(
    ("clock", "n_images", "available", "expected"),
    [
        ("emulated", None, 10_000, 1000),
        ("simulated", None, 10_000, 200),
        ("measured", None, 10_000, 1000),
        ("simulated", None, 150, 150),
        ("emulated", 77, 10_000, 77),
    ],
)
def test_elsewhere_a_sample_is_answered_where_the_user_does_not_say(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    clock: Clock,
    n_images: int | None,
    available: int,
    expected: int,
) -> None:
    name = plant_target(tmp_path / "bin", monkeypatch)
    monkeypatch.setitem(TARGETS, name, dataclasses.replace(TARGETS[name], clock=clock))
    found = sample_sizes(["cpu", name], n_images, available)
    assert found == {"cpu": n_images or available, name: expected}


def test_fewer_nodes_than_none_are_not_allowed(bundle_copy: Path) -> None:
    with pytest.raises(UsageError, match="--allow-cpu-nodes must not be below 0, found -1"):
        validate(allow_cpu_nodes=-1, options=Options(bundle=bundle_copy))


def test_an_emulator_that_is_not_here_is_missed_before_anything_is_measured(
    bundle_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    before = snapshot(bundle_copy)
    with pytest.raises(TargetError, match="cpu@haswell: not available here: ") as caught:
        validate(targets=["cpu@haswell"], options=Options(bundle=bundle_copy))
    assert "edgecnn targets install cpu@haswell" in caught.value.next_step
    assert "apt-get install qemu-user-static" in caught.value.next_step
    assert snapshot(bundle_copy) == before


# Some of the images.


def test_some_of_the_images_are_chosen_by_seed_and_counted(bundle_copy: Path) -> None:
    outcome, _ = validate(n_images=100, gates=Gates(max_drop_pp=100), options=Options(bundle=bundle_copy))
    (found,) = outcome.manifest.validation
    test = load_images("digits", height=32, width=32).test
    chosen = np.sort(np.random.default_rng(0).permutation(360)[:100])
    answers = predictions(bundle_copy / "int8.onnx", test)[chosen]
    assert (found.n, found.n_available, found.sample_seed) == (100, 360, 0)
    assert found.int8_top1 == pytest.approx((answers == test.labels[chosen]).mean(), abs=0)
    assert sum(row.n for row in found.per_class) == 100
    assert "| 100 of 360 |" in (bundle_copy / "report.md").read_text()
    assert outcome.manifest.stages["validate"].settings["images"] == 100


def test_all_of_the_images_are_not_a_sample(bundle_copy: Path) -> None:
    outcome, _ = validate(n_images=360, gates=Gates(max_drop_pp=100), options=Options(bundle=bundle_copy))
    (found,) = outcome.manifest.validation
    assert (found.n, found.n_available, found.sample_seed) == (360, None, None)


def test_a_larger_sample_contains_the_smaller_one() -> None:
    test = load_images("digits", height=32, width=32).test
    small, large = (set(choose_images(test, n).content_sha256()) for n in (50, 200))
    assert small < large


@pytest.mark.parametrize(("n", "error"), [(0, UsageError), (-1, UsageError), (361, DataError)])
def test_no_images_and_more_than_there_are_are_refused(bundle_copy: Path, n: int, error: type[EdgecnnError]) -> None:
    before = snapshot(bundle_copy)
    with pytest.raises(error, match=f"{n}") as caught:
        validate(n_images=n, options=Options(bundle=bundle_copy))
    assert "--images" in caught.value.next_step
    assert snapshot(bundle_copy) == before


# Saturation.


def test_int8_is_audited_for_saturation(bundle_copy: Path) -> None:
    outcome, _ = go(bundle_copy)
    record = outcome.manifest.saturation
    assert record is not None
    assert [layer.op for layer in record.layers] == ["Conv", "Conv", "Gemm", "Gemm", "Gemm"]
    assert record.can_saturate == ()
    assert "no dot product can saturate" in (bundle_copy / "report.md").read_text()


def test_a_recipe_that_saturates_is_caught_without_an_emulator(bundle_copy: Path) -> None:
    quantize(
        settings=QuantizeSettings(recipe="u8s8-perchannel-minmax", n_images=64), options=Options(bundle=bundle_copy)
    )
    assert read_manifest(bundle_copy).saturation is None, "the audit of another file is no longer true"
    outcome, _ = go(bundle_copy)
    assert outcome.manifest.saturation is not None
    assert len(outcome.manifest.saturation.can_saturate) >= 3
    report = (bundle_copy / "report.md").read_text()
    assert "can exceed 16 bits in" in report
    assert "--recipe u8s8-perchannel-minmax-reduced" in report


@needs_haswell
def test_the_default_recipe_answers_alike_on_a_haswell_and_the_full_one_does_not(bundle_copy: Path) -> None:
    def on_haswell() -> ValidationResult:
        options = Options(bundle=bundle_copy)
        outcome, _ = validate(targets=["cpu@haswell"], n_images=64, gates=Gates(max_drop_pp=100), options=options)
        return outcome.manifest.validation[-1]

    safe = on_haswell()
    against = safe.int8_against_cpu
    assert against is not None
    assert (against.argmax_flips, against.max_abs_logit_difference, against.top1_change_pp) == (0, 0, 0)
    assert against.top1_change_low_pp == pytest.approx(-4.2, abs=0.1), "64 images leave that much in doubt"
    assert against.top1_change_high_pp == pytest.approx(4.2, abs=0.1)
    assert safe.machine.cpu_features == ("AVX2", "FMA3")
    quantize(
        settings=QuantizeSettings(recipe="u8s8-perchannel-minmax", n_images=64), options=Options(bundle=bundle_copy)
    )
    unsafe = on_haswell()
    assert unsafe.int8_against_cpu is not None
    assert unsafe.int8_against_cpu.max_abs_logit_difference > 0
    assert unsafe.float_against_cpu == safe.float_against_cpu


# Targets that are only predicted.


def test_all_targets_are_those_that_are_ready_and_those_that_are_predicted(bundle_copy: Path) -> None:
    outcome, _ = validate(targets=["all"], n_images=20, options=Options(bundle=bundle_copy))
    assert {one.target for one in outcome.manifest.predictions} == {"coreml", "nnapi"}
    assert {one.model for one in outcome.manifest.predictions} == {"float.onnx", "int8.onnx"}
    assert read_manifest(bundle_copy).predictions == outcome.manifest.predictions
    assert "Predicted, not run" in (bundle_copy / "report.md").read_text()


@pytest.mark.parametrize("name", ["coreml", "nnapi"])
def test_one_that_cannot_run_here_names_what_predicts_it(bundle_copy: Path, name: str) -> None:
    with pytest.raises(TargetError) as caught:
        validate(targets=[name], options=Options(bundle=bundle_copy))
    assert "edgecnn targets predict" in caught.value.next_step
    _, verdict = validate(targets=["cpu", name], n_images=20, options=Options(bundle=bundle_copy))
    assert [(one.target, one.next_step) for one in verdict.failures] == [(name, caught.value.next_step)]
