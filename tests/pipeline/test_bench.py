"""Stage 6: is int8 faster than float? The judgement, the record and the gate; no figure is asserted."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecnn.bundle.atomic import sha256_bytes
from edgecnn.errors import BundleError, TargetError, UsageError
from edgecnn.measure import latency
from edgecnn.measure.bench_settings import combinations
from edgecnn.measure.latency import BenchSettings
from edgecnn.pipeline.bench import bench
from edgecnn.pipeline.bench_models import Models
from edgecnn.pipeline.context import Options, working_on
from edgecnn.pipeline.export import export
from edgecnn.pipeline.export_settings import ExportSettings
from edgecnn.pipeline.quantize import quantize
from edgecnn.pipeline.verdict import Gates
from edgecnn.targets import TARGETS, Session, open_session
from tests.bundles import fast_model, latency_result, missing_target, plant, read_manifest, slow_model, snapshot
from tests.environments import fake_environment, make, plant_environment
from tests.tunings import recommendation_record

QUICK = BenchSettings(pairs=6, rounds=1, seconds=0.1)


def quick(batch: int) -> BenchSettings:
    return BenchSettings(batch=batch, pairs=6, rounds=1, seconds=0.1)


def test_both_models_are_timed_and_the_machine_is_named(bundle_copy: Path) -> None:
    outcome, (found,), verdict = bench(settings=QUICK, options=Options(bundle=bundle_copy))
    assert (found.target, found.batch, found.threads, found.clock) == ("cpu", 1, 1, "measured")
    assert (found.pairs, found.rounds) == (6, 1)
    for times in (found.float_latency, found.int8_latency):
        assert 0 < times.p50_us <= times.p90_us <= times.p99_us
        assert times.n >= 6
    assert found.speedup.low <= found.speedup.median <= found.speedup.high
    assert found.verdict in ("faster", "same", "slower")
    assert found.machine.cores == os.cpu_count()
    assert verdict.passed
    assert verdict.checks == ()
    assert outcome.manifest.latency == (found,)
    assert read_manifest(bundle_copy).latency == (found,)
    assert len(found.pinned_cpus) in (0, 1)


def test_who_types_bench_sees_it_measured(bundle_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[int] = []

    def compare_latency(*arguments: Any, **more: Any) -> latency.PairedLatency:
        measured.append(1)
        return latency.compare_latency(*arguments, **more)

    monkeypatch.setattr("edgecnn.pipeline.target_latency.compare_latency", compare_latency)
    for _ in range(2):
        outcome, _, _ = bench(settings=QUICK, options=Options(bundle=bundle_copy))
        assert not outcome.unchanged
    assert len(measured) == 2
    assert len(outcome.manifest.latency) == 1


def test_another_batch_is_a_result_of_its_own(bundle_copy: Path) -> None:
    bench(settings=quick(1), options=Options(bundle=bundle_copy))
    outcome, results, _ = bench(settings=quick(3), options=Options(bundle=bundle_copy))
    assert [row.batch for row in results] == [3]
    assert [row.batch for row in outcome.manifest.latency] == [1, 3]


def test_a_target_named_twice_is_measured_once(bundle_copy: Path) -> None:
    outcome, results, _ = bench(targets=["cpu", "cpu"], settings=QUICK, options=Options(bundle=bundle_copy))
    assert len(outcome.manifest.latency) == len(results) == 1


def test_a_much_slower_int8_fails_the_speedup_gate(bundle_copy: Path) -> None:
    plant(bundle_copy, "int8.onnx", slow_model())
    gates = Gates(require_speedup=True)
    _, (found,), verdict = bench(settings=QUICK, gates=gates, options=Options(bundle=bundle_copy))
    assert found.verdict == "slower"
    assert found.speedup.high < 1
    assert (verdict.passed, verdict.exit_code) == (False, 1)
    assert read_manifest(bundle_copy).checks[-1] == verdict.checks[0]
    assert "**SLOWER**" in (bundle_copy / "report.md").read_text()


def test_a_much_faster_int8_passes_it(bundle_copy: Path) -> None:
    plant(bundle_copy, "float.onnx", slow_model())
    plant(bundle_copy, "int8.onnx", fast_model())
    gates = Gates(require_speedup=True)
    _, (found,), verdict = bench(settings=QUICK, gates=gates, options=Options(bundle=bundle_copy))
    assert found.verdict == "faster"
    assert found.speedup.low > 1
    assert (verdict.passed, verdict.exit_code) == (True, 0)


def test_slower_is_no_failure_unless_speed_was_asked_for(bundle_copy: Path) -> None:
    plant(bundle_copy, "int8.onnx", slow_model())
    _, (found,), verdict = bench(settings=QUICK, options=Options(bundle=bundle_copy))
    assert found.verdict == "slower"
    assert verdict.passed


def test_the_check_of_a_gate_joins_those_of_other_commands(bundle_copy: Path) -> None:
    assert [check.name for check in read_manifest(bundle_copy).checks] == ["accuracy drop on cpu"]
    bench(settings=QUICK, gates=Gates(require_speedup=True), options=Options(bundle=bundle_copy))
    names = [check.name for check in read_manifest(bundle_copy).checks]
    assert names == ["accuracy drop on cpu", "speedup on cpu, batch 1, 1 threads"]


def test_a_fixed_batch_is_not_benched_at_another(bundle_copy: Path) -> None:
    options = Options(bundle=bundle_copy)
    export(bundle_copy / "model.pt", settings=ExportSettings(batch=2), options=options)
    quantize(options=options)
    before = snapshot(bundle_copy)
    with pytest.raises(UsageError, match="the model has the fixed batch 2; --batch 1 cannot be measured") as caught:
        bench(settings=QUICK, options=options)
    assert "--batch 2" in caught.value.next_step
    assert snapshot(bundle_copy) == before
    _, (found,), _ = bench(settings=quick(2), options=options)
    assert found.batch == 2


def test_a_target_that_is_not_here_changes_nothing(bundle_copy: Path) -> None:
    before, target = snapshot(bundle_copy), missing_target()
    with pytest.raises(TargetError, match=f"{target}: not available here: onnxruntime") as caught:
        bench(targets=[target], settings=QUICK, options=Options(bundle=bundle_copy))
    assert caught.value.exit_code == 5
    assert caught.value.next_step
    assert snapshot(bundle_copy) == before


def test_an_unknown_target_lists_the_known_ones(bundle_copy: Path) -> None:
    with pytest.raises(UsageError, match="unknown provider 'tpu'; known: cpu, "):
        bench(targets=["tpu"], options=Options(bundle=bundle_copy))


def test_a_changed_model_is_not_benched(bundle_copy: Path) -> None:
    (bundle_copy / "int8.onnx").write_bytes(fast_model())
    before = snapshot(bundle_copy)
    with pytest.raises(BundleError, match=r"int8\.onnx: expected SHA-256") as caught:
        bench(settings=QUICK, options=Options(bundle=bundle_copy))
    assert caught.value.next_step == "edgecnn quantize"
    assert snapshot(bundle_copy) == before


def test_the_pictures_fed_are_noise_and_the_same_every_time() -> None:
    models = Models(of_float=b"", of_int8=b"", height=32, width=48)
    pixels = models.noise(4, seed=7)
    assert (pixels.shape, pixels.dtype) == ((4, 32, 48, 3), np.dtype(np.uint8))
    assert np.array_equal(pixels, models.noise(4, seed=7))
    assert not np.array_equal(pixels, models.noise(4, seed=8))
    assert len(np.unique(pixels)) == 256


def test_costs_and_noise_are_recorded_beside_the_times(bundle_copy: Path) -> None:
    _, (found,), _ = bench(settings=QUICK, options=Options(bundle=bundle_copy))
    for startup, name in ((found.float_startup, "float.onnx"), (found.int8_startup, "int8.onnx")):
        assert startup is not None
        assert startup.size_bytes == (bundle_copy / name).stat().st_size
        assert min(startup.load_us, startup.first_us) > 0
        if startup.peak_memory_bytes is not None:
            assert startup.runtime_memory_bytes is not None
            assert startup.peak_memory_bytes > startup.runtime_memory_bytes
    assert len(found.float_medians_us) == len(found.int8_medians_us) == found.pairs == 6
    assert found.float_latency.max_us is not None
    assert found.float_latency.max_us >= found.float_latency.p99_us
    assert found.noise is not None
    assert (found.noise.sessions, found.precision, found.through) == (12, None, "run")


def test_every_combination_is_a_row_of_its_own(bundle_copy: Path) -> None:
    wanted = combinations(QUICK, batches=[1, 2], threads=[1], through=["run", "iobinding"])
    outcome, results, _ = bench(settings=wanted, options=Options(bundle=bundle_copy))
    places = [(1, "run"), (1, "iobinding"), (2, "run"), (2, "iobinding")]
    assert [(row.batch, row.through) for row in results] == places
    recorded = outcome.manifest.stages["bench"].settings
    assert recorded["batch"] == [1, 1, 2, 2]
    assert (recorded["threads"], recorded["pairs"]) == (1, 6)
    again, results, _ = bench(settings=wanted[1:2], options=Options(bundle=bundle_copy))
    assert [(row.batch, row.through) for row in results] == [(1, "iobinding")]
    assert len(again.manifest.latency) == 4


def test_a_gate_is_not_passed_on_a_machine_too_noisy_to_answer(bundle_copy: Path) -> None:
    plant(bundle_copy, "float.onnx", slow_model())
    plant(bundle_copy, "int8.onnx", fast_model())
    settings = replace(QUICK, until=1e-9, max_seconds=0.01)
    gates = Gates(require_speedup=True)
    _, (found,), verdict = bench(settings=settings, gates=gates, options=Options(bundle=bundle_copy))
    assert (found.verdict, found.too_noisy) == ("faster", True)
    assert (verdict.passed, verdict.exit_code) == (False, 1)
    assert "**too noisy to answer**" in (bundle_copy / "report.md").read_text()
    _, _, verdict = bench(settings=settings, options=Options(bundle=bundle_copy))
    assert verdict.exit_code == 0


def test_the_made_up_result_of_these_tests_is_a_valid_one() -> None:
    assert latency_result().model_dump(mode="json", by_alias=True)["float"]["p50_us"] == 23.51


@pytest.mark.parametrize("name", [name for name, row in TARGETS.items() if row.clock_here != "measured"])
def test_no_latency_is_given_for_a_target_without_a_clock(bundle_copy: Path, name: str) -> None:
    before = snapshot(bundle_copy)
    with pytest.raises(UsageError, match=f"{name}: is {TARGETS[name].clock}; .*no latency is measured") as caught:
        bench(targets=["cpu", name], settings=QUICK, options=Options(bundle=bundle_copy))
    assert caught.value.exit_code == 2
    assert f"edgecnn validate --provider {name}" in caught.value.next_step
    assert snapshot(bundle_copy) == before


@pytest.mark.parametrize(
    ("changes", "session"),
    [
        ({}, "no-arena"),
        ({"target": "xnnpack"}, "default"),
        ({"sha256": "0" * 64}, "default"),
    ],
    ids=["as recommended", "recommended for another target", "recommended for another file"],
)
def test_int8_is_opened_as_its_tuning_recommends(
    changes: dict[str, str], session: str, bundle_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = sha256_bytes((bundle_copy / "int8.onnx").read_bytes())
    own = recommendation_record()
    configuration = own.configuration.model_copy(update={"session": "no-arena"})
    update = {"sha256": sha256, "target": "cpu", "configuration": configuration} | changes
    with working_on(bundle_copy) as bundle:
        bundle.amend({"recommendation": own.model_copy(update=update)})
    opened: set[tuple[str, str]] = set()

    def watch(target: str, model: bytes, *, model_name: str, options_name: str, **more: int) -> Session:
        opened.add((model_name, options_name))
        return open_session(target, model, model_name=model_name, options_name=options_name, **more)

    monkeypatch.setattr("edgecnn.pipeline.bench_models.open_session", watch)
    _, (found,), _ = bench(settings=QUICK, options=Options(bundle=bundle_copy))
    assert opened == {("float.onnx", "default"), ("int8.onnx", session)}
    assert found.int8_session == session


# Targets in a process of their own.


def test_a_target_elsewhere_is_timed_there_and_its_memory_is_not_known(
    bundle_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGECNN_CACHE", str(tmp_path / "cache"))
    environment = fake_environment()
    make(environment)
    name = plant_environment(monkeypatch, environment, clock="measured")
    _, (found,), _ = bench(targets=[name], settings=QUICK, options=Options(bundle=bundle_copy))
    assert (found.target, found.clock) == (name, "measured")
    assert found.float_latency.p50_us > 0
    assert found.float_startup is not None
    assert (found.float_startup.peak_memory_bytes, found.float_startup.runtime_memory_bytes) == (None, None)
    assert 0 < found.float_startup.load_us < 60e6
    assert found.machine.versions.keys() == {"python", "numpy", "onnxruntime"}


def test_a_target_that_fails_does_not_lose_the_others_latency(
    bundle_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGECNN_CACHE", str(tmp_path / "cache"))
    environment = fake_environment()
    make(environment, script="#!/bin/sh\necho no licence >&2; exit 1\n")
    name = plant_environment(monkeypatch, environment, clock="measured")
    _, results, verdict = bench(
        targets=[name, "cpu", missing_target()], settings=QUICK, options=Options(bundle=bundle_copy)
    )
    assert [row.target for row in results] == ["cpu"]
    assert (verdict.word, verdict.exit_code) == ("failed", 5)
    assert [(row.target, row.exit_code) for row in verdict.failures] == [(name, 5), (missing_target(), 5)]
    assert "no licence" in verdict.failures[0].reason
    assert [row.target for row in read_manifest(bundle_copy).latency if row.target == "cpu"] == ["cpu"]
    with pytest.raises(TargetError, match="no licence"):
        bench(targets=[name], settings=QUICK, options=Options(bundle=bundle_copy))
