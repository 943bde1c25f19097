"""Latency on several targets, and of targets' own models: which figures are kept, and when a stage is done."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgecnn.bundle.manifest import ValidationFailure
from edgecnn.cli import _main
from edgecnn.measure.latency import BenchSettings
from edgecnn.pipeline.bench import bench, bench_stage
from edgecnn.pipeline.context import Options, working_on
from edgecnn.pipeline.fit import fit
from edgecnn.pipeline.quantize_settings import QuantizeSettings
from edgecnn.pipeline.verdict import Gates
from edgecnn.targets import TARGETS
from tests.bundles import missing_target, read_manifest
from tests.environments import fake_environment, make, plant_environment


def quick(batch: int) -> BenchSettings:
    return BenchSettings(batch=batch, pairs=6, rounds=1, seconds=0.1)


QUICK = quick(1)


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """XNNPACK, as a process of this Python."""
    monkeypatch.setenv("EDGECNN_CACHE", str(tmp_path / "cache"))
    environment = fake_environment()
    make(environment)
    monkeypatch.setitem(TARGETS, "xnnpack", TARGETS[plant_environment(monkeypatch, environment, clock="measured")])
    return "xnnpack"


def stage(folder: Path, *targets: str, batch: int = 1) -> tuple[bool, list[str]]:
    """Benchmark as a run does; tell whether nothing was left to do, and which targets failed."""
    failures: list[ValidationFailure] = []
    with working_on(folder) as bundle:
        outcome = bench_stage(bundle, Options(bundle=folder), targets, quick(batch), failures=failures)
        return outcome.unchanged, [one.target for one in failures]


def test_of_a_target_that_fails_the_old_latency_is_kept_and_the_stage_is_not_done(
    bundle_copy: Path, there: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stage(bundle_copy, "cpu", there) == (False, [])
    assert stage(bundle_copy, "cpu", there) == (True, [])
    before = {one.target: one for one in read_manifest(bundle_copy).latency}
    monkeypatch.setitem(TARGETS, there, TARGETS[missing_target()])
    told = ["--provider", "cpu", "--provider", there, "--pairs", "6", "--rounds", "1", "--seconds", "0.1", "--json"]
    assert _main(["bench", "--bundle", str(bundle_copy), *told]) == 5
    shown = json.loads(capsys.readouterr().out)
    assert [one["target"] for one in shown["results"]] == ["cpu"]
    (failure,) = shown["failures"]
    assert (failure["target"], failure["exit_code"]) == (there, 5)
    assert "not available here" in failure["reason"]
    assert failure["next_step"]
    after = read_manifest(bundle_copy)
    latency = {one.target: one for one in after.latency}
    assert latency[there] == before[there]
    assert latency["cpu"] != before["cpu"]
    assert "bench" not in after.stages
    assert stage(bundle_copy, "cpu", there) == (False, [there]), "the next run asks again"


def test_a_targets_own_latency_is_the_stages_as_long_as_it_is_there(bundle_copy: Path, there: str) -> None:
    options = Options(bundle=bundle_copy)
    fit([there], settings=QuantizeSettings(n_images=32), options=options)
    assert stage(bundle_copy, "cpu", there) == (False, [])
    assert stage(bundle_copy, "cpu", there) == (True, [])
    assert [one.target for one in read_manifest(bundle_copy).latency if one.int8_model != "int8.onnx"] == []
    assert [one.target for one in read_manifest(bundle_copy).fitted[0].latency] == [there]
    bench(targets=["cpu"], model="int8-xnnpack.onnx", settings=QUICK, options=options)
    assert stage(bundle_copy, "cpu", there) == (True, []), "figures on another target are not the stage's"
    bench(targets=[there], model="int8-xnnpack.onnx", settings=quick(2), options=options)
    assert stage(bundle_copy, "cpu", there) == (False, []), "someone measured that target otherwise"
    fit([there], settings=QuantizeSettings(n_images=32), options=replace(options, force=True))
    assert read_manifest(bundle_copy).fitted[0].latency == ()
    assert stage(bundle_copy, "cpu", there) == (False, [])
    assert [(one.target, one.batch) for one in read_manifest(bundle_copy).fitted[0].latency] == [(there, 1)]


def test_a_gate_on_figures_that_were_measured_anew_is_asked_anew(bundle_copy: Path) -> None:
    options = Options(bundle=bundle_copy)
    speed = "speedup on cpu, batch 1, 1 threads"
    bench(settings=QUICK, gates=Gates(require_speedup=True), options=options)
    assert speed in [check.name for check in read_manifest(bundle_copy).checks]
    bench(settings=quick(2), options=options)
    assert speed in [check.name for check in read_manifest(bundle_copy).checks], "of batch 1 it is still true"
    bench(settings=QUICK, options=options)
    assert speed not in [check.name for check in read_manifest(bundle_copy).checks]
    assert "accuracy drop on cpu" in [check.name for check in read_manifest(bundle_copy).checks]
