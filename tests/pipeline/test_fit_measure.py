"""Accuracy and latency of a target's own model: by its name, kept with its record."""

from pathlib import Path

import pytest

from edgecnn.data import load
from edgecnn.errors import BundleError, DataError, TargetError, UsageError
from edgecnn.measure.bench_settings import BenchSettings
from edgecnn.pipeline.context import Options
from edgecnn.pipeline.fit import fit
from edgecnn.pipeline.fit_measure import bench_fitted, is_validated, validate_fitted
from edgecnn.pipeline.quantize_settings import QuantizeSettings
from edgecnn.pipeline.verdict import Gates
from tests.bundles import missing_target, plant, read_manifest, scramble_int8, snapshot

MODEL = "int8-xnnpack.onnx"
QUICK = BenchSettings(pairs=6, rounds=1, seconds=0.1)


@pytest.fixture
def fitted(bundle_copy: Path) -> Path:
    fit(["xnnpack"], settings=QuantizeSettings(n_images=32), options=Options(bundle=bundle_copy))
    return bundle_copy


def test_accuracy_stands_in_the_models_own_record(fitted: Path) -> None:
    before = read_manifest(fitted)
    found = validate_fitted(MODEL, gates=Gates(max_drop_pp=100), options=Options(bundle=fitted))
    after = read_manifest(fitted)
    (result,) = after.fitted[0].validation
    assert found.validation == (result,)
    assert (result.target, result.n, result.n_available) == ("cpu", before.validation[0].n, None)
    assert result.float_top1 == before.validation[0].float_top1, "the same float model on the same images"
    assert after.validation == before.validation
    assert [one.name for one in after.checks][-1] == f"accuracy drop on cpu, {MODEL}"
    assert found.verdict.passed
    report = (fitted / "report.md").read_text()
    assert f"| cpu | {MODEL} | {result.n} |" in report


def test_a_gate_that_fails_is_the_verdict(fitted: Path) -> None:
    plant(fitted, MODEL, scramble_int8((fitted / MODEL).read_bytes()))
    manifest = read_manifest(fitted)
    record = manifest.fitted[0].model_copy(update={"model_sha256": snapshot(fitted)[MODEL]})
    (fitted / "manifest.json").write_text(manifest.model_copy(update={"fitted": (record,)}).model_dump_json())
    found = validate_fitted(MODEL, gates=Gates(max_drop_pp=5), options=Options(bundle=fitted))
    assert not found.verdict.passed
    assert found.verdict.exit_code == 1
    assert found.validation[0].drop_pp > 5


def test_some_of_the_images_are_some(fitted: Path) -> None:
    found = validate_fitted(MODEL, n_images=20, gates=Gates(max_drop_pp=100), options=Options(bundle=fitted))
    assert (found.validation[0].n, found.validation[0].sample_seed) == (20, 0)
    dataset = load("digits", height=32, width=32)
    assert not is_validated(found.record, "cpu", dataset)
    whole = validate_fitted(MODEL, gates=Gates(max_drop_pp=100), options=Options(bundle=fitted))
    assert len(whole.record.validation) == 1, "a target is measured anew, not twice"
    assert is_validated(whole.record, "cpu", dataset)
    assert not is_validated(whole.record, "xnnpack", dataset)


def test_latency_stands_in_the_models_own_record(fitted: Path) -> None:
    before = read_manifest(fitted)
    found = bench_fitted(MODEL, settings=[QUICK], gates=Gates(require_speedup=True), options=Options(bundle=fitted))
    after = read_manifest(fitted)
    assert after.fitted[0].latency == found.latency
    assert (found.latency[0].target, found.latency[0].pairs) == ("cpu", 6)
    size = (fitted / MODEL).stat().st_size
    assert found.latency[0].int8_startup is not None
    assert found.latency[0].int8_startup.size_bytes == size, "it is this model that was measured"
    assert after.latency == before.latency
    assert found.verdict.checks[0].name.endswith(f", {MODEL}")
    again = bench_fitted(MODEL, settings=[QUICK], options=Options(bundle=fitted))
    assert len(again.record.latency) == 1
    assert again.verdict.checks == ()


@pytest.mark.parametrize("model", ["int8-qnn.onnx", "float.onnx", "../int8.onnx", "manifest.json"])
def test_what_is_no_model_of_a_targets_own_is_refused(fitted: Path, model: str) -> None:
    before = snapshot(fitted)
    for measure in (validate_fitted, bench_fitted):
        with pytest.raises(BundleError, match="the bundle has no int8 model"):
            measure(model, options=Options(bundle=fitted))
    assert snapshot(fitted) == before


def test_a_model_that_was_changed_is_refused(fitted: Path) -> None:
    (fitted / MODEL).write_bytes((fitted / "int8.onnx").read_bytes())
    with pytest.raises(BundleError, match=r"the file was changed") as caught:
        validate_fitted(MODEL, options=Options(bundle=fitted))
    assert caught.value.next_step == "edgecnn quantize --for xnnpack"


def test_a_target_that_is_not_here_measures_nothing(fitted: Path) -> None:
    before = snapshot(fitted)
    with pytest.raises(TargetError, match="not available here"):
        validate_fitted(MODEL, targets=["cpu", missing_target()], options=Options(bundle=fitted))
    with pytest.raises(UsageError, match="is emulated"):
        bench_fitted(MODEL, targets=["cpu@haswell"], options=Options(bundle=fitted))
    assert snapshot(fitted) == before


def test_more_images_than_there_are_is_an_error(fitted: Path) -> None:
    with pytest.raises(DataError, match="99999 test images were asked for"):
        validate_fitted(MODEL, n_images=99999, options=Options(bundle=fitted))
