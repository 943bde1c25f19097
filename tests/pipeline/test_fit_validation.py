"""Accuracy and latency of a target's own model: by its name, kept with its record."""

from pathlib import Path

import pytest

from edgecnn.bundle.manifest import FittedRecord
from edgecnn.data import load
from edgecnn.errors import BundleError, DataError, UsageError
from edgecnn.measure.bench_settings import BenchSettings
from edgecnn.pipeline.bench import bench
from edgecnn.pipeline.context import Options
from edgecnn.pipeline.fit import fit
from edgecnn.pipeline.quantize_settings import QuantizeSettings
from edgecnn.pipeline.validate import validate
from edgecnn.pipeline.validation_job import is_validated
from edgecnn.pipeline.verdict import Gates
from tests.bundles import missing_target, plant, read_manifest, scramble_int8, snapshot

MODEL = "int8-xnnpack.onnx"
QUICK = BenchSettings(pairs=6, rounds=1, seconds=0.1)


@pytest.fixture
def fitted(bundle_copy: Path) -> Path:
    fit(["xnnpack"], settings=QuantizeSettings(n_images=32), options=Options(bundle=bundle_copy))
    return bundle_copy


def record(folder: Path) -> FittedRecord:
    (found,) = read_manifest(folder).fitted
    return found


def test_accuracy_stands_in_the_models_own_record(fitted: Path) -> None:
    before = read_manifest(fitted)
    outcome, verdict = validate(model=MODEL, gates=Gates(max_drop_pp=100), options=Options(bundle=fitted))
    after = read_manifest(fitted)
    (result,) = record(fitted).validation
    assert outcome.results == (result,)
    assert (result.target, result.int8_model) == ("cpu", MODEL)
    assert (result.n, result.n_available) == (before.validation[0].n, None)
    assert result.float_top1 == before.validation[0].float_top1, "the same float model on the same images"
    assert after.validation == before.validation
    assert after.stages["validate"] == before.stages["validate"], "that stage is of int8.onnx"
    assert [one.name for one in after.checks][-1] == f"accuracy drop on cpu, {MODEL}"
    assert verdict.passed
    report = (fitted / "report.md").read_text()
    assert f"| cpu | {MODEL} | {result.n} |" in report


def test_a_gate_that_fails_is_the_verdict(fitted: Path) -> None:
    plant(fitted, MODEL, scramble_int8((fitted / MODEL).read_bytes()))
    manifest = read_manifest(fitted)
    changed = manifest.fitted[0].model_copy(update={"model_sha256": snapshot(fitted)[MODEL]})
    (fitted / "manifest.json").write_text(manifest.model_copy(update={"fitted": (changed,)}).model_dump_json())
    outcome, verdict = validate(model=MODEL, gates=Gates(max_drop_pp=5), options=Options(bundle=fitted))
    assert not verdict.passed
    assert verdict.exit_code == 1
    assert outcome.results[0].drop_pp > 5


def test_some_of_the_images_are_some(fitted: Path) -> None:
    options, gates = Options(bundle=fitted), Gates(max_drop_pp=100)
    outcome, _ = validate(model=MODEL, n_images=20, gates=gates, options=options)
    assert (outcome.results[0].n, outcome.results[0].sample_seed) == (20, 0)
    dataset = load("digits", height=32, width=32)
    assert not is_validated(record(fitted), "cpu", dataset)
    validate(model=MODEL, gates=gates, options=options)
    assert len(record(fitted).validation) == 1, "a target is measured anew, not twice"
    assert is_validated(record(fitted), "cpu", dataset)
    assert not is_validated(record(fitted), "xnnpack", dataset)


def test_latency_stands_in_the_models_own_record(fitted: Path) -> None:
    before = read_manifest(fitted)
    options = Options(bundle=fitted)
    _, results, verdict = bench(model=MODEL, settings=QUICK, gates=Gates(require_speedup=True), options=options)
    after = read_manifest(fitted)
    assert record(fitted).latency == tuple(results)
    (result,) = results
    assert (result.target, result.int8_model, result.pairs) == ("cpu", MODEL, 6)
    assert result.int8_startup is not None
    assert result.int8_startup.size_bytes == (fitted / MODEL).stat().st_size, "it is this model that was measured"
    assert after.latency == before.latency
    assert after.stages.get("bench") == before.stages.get("bench")
    assert verdict.checks[0].name.endswith(f", {MODEL}")
    _, _, again = bench(model=MODEL, settings=QUICK, options=options)
    assert len(record(fitted).latency) == 1
    assert again.checks == ()


@pytest.mark.parametrize("model", ["int8-qnn.onnx", "float.onnx", "../int8.onnx", "manifest.json"])
def test_what_is_no_model_of_a_targets_own_is_refused(fitted: Path, model: str) -> None:
    before = snapshot(fitted)
    for measure in (validate, bench):
        with pytest.raises(BundleError, match="the bundle has no int8 model"):
            measure(model=model, options=Options(bundle=fitted))
    assert snapshot(fitted) == before


def test_a_model_that_was_changed_is_refused(fitted: Path) -> None:
    (fitted / MODEL).write_bytes((fitted / "int8.onnx").read_bytes())
    for measure in (validate, bench):
        with pytest.raises(BundleError, match=r"the file was changed") as caught:
            measure(model=MODEL, options=Options(bundle=fitted))
        assert caught.value.next_step == "edgecnn quantize --for xnnpack"


def test_a_target_that_fails_leaves_the_others_in_the_record(fitted: Path) -> None:
    missing, options = missing_target(), Options(bundle=fitted)
    outcome, verdict = validate(targets=["cpu", missing], model=MODEL, gates=Gates(max_drop_pp=100), options=options)
    assert [one.target for one in outcome.results] == ["cpu"]
    assert (verdict.exit_code, [one.target for one in verdict.failures]) == (5, [missing])
    assert [one.target for one in record(fitted).validation] == ["cpu"]
    with pytest.raises(UsageError, match="is emulated"):
        bench(model=MODEL, targets=["cpu@haswell"], options=options)


def test_more_images_than_there_are_is_an_error(fitted: Path) -> None:
    with pytest.raises(DataError, match="99999 test images were asked for"):
        validate(model=MODEL, n_images=99999, options=Options(bundle=fitted))
