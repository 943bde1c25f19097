"""Two measurements side by side: what is compared, what is refused, and the gate."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgecnn.bundle import Bundle
from edgecnn.bundle.comparison import Figure
from edgecnn.bundle.latency import LatencyResult
from edgecnn.bundle.measurement import MeasuredFile, Measurement, write_measurement
from edgecnn.errors import BundleError, ExitCode
from edgecnn.pipeline.compare import Compared, compare
from tests.bundles import (
    MACHINE,
    fitted_manifest,
    full_latency_result,
    latency_result,
    measurement,
    noise,
    snapshot,
    tiny_result,
)

QUIET = full_latency_result(noise=noise(), precision=None)
Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Return a way to save a measurement, each in a file of its own."""

    def write(*results: LatencyResult, **changes: Any) -> Path:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.json"
        write_measurement(path, measurement(*results, **changes))
        return path

    return write


def slower(result: LatencyResult, factor: float, *, model: str = "int8") -> LatencyResult:
    times = getattr(result, f"{model}_latency")
    medians = getattr(result, f"{model}_medians_us")
    return result.model_copy(
        update={
            f"{model}_latency": times.model_copy(update={"p50_us": factor * times.p50_us}),
            f"{model}_medians_us": tuple(factor * us for us in medians),
        }
    )


def figure(found: Compared, name: str, model: str) -> Figure:
    (chosen,) = (f for place in found.record.places for f in place.figures if (f.name, f.model) == (name, model))
    return chosen


def refused(a: Path, b: Path, *words: str) -> BundleError:
    with pytest.raises(BundleError) as caught:
        compare(a, b)
    assert caught.value.exit_code == ExitCode.BAD_INPUT
    for word in words:
        assert word in caught.value.message
    return caught.value


def test_two_files_are_laid_side_by_side(save: Save) -> None:
    found = compare(save(QUIET), save(slower(QUIET, 1.5)))
    assert [place.place for place in found.record.places] == ["cpu, batch 1, 1 threads, through iobinding"]
    p50 = figure(found, "p50", "int8")
    assert (p50.a, p50.b) == pytest.approx((37.14, 55.71))
    assert p50.ratio.median == pytest.approx(1.5)
    assert p50.ratio.low is not None
    assert 1.4 < p50.ratio.low < 1.5
    assert found.record.notes == ("float.onnx: the same file", "int8.onnx: the same file")
    assert (found.record.only_a, found.record.only_b, found.verdict.checks) == ((), (), ())


def test_a_bundle_is_compared_with_what_was_saved_of_it(finished_bundle: Path, save: Save) -> None:
    before = snapshot(finished_bundle)
    manifest = Bundle.open(finished_bundle).manifest
    found = compare(finished_bundle, save(*manifest.latency))
    assert figure(found, "p50", "float").ratio.median == pytest.approx(1)
    assert figure(found, "size", "int8").a == (finished_bundle / "int8.onnx").stat().st_size
    assert "int8.onnx: another file" in found.record.notes  # the saved one was made up
    assert snapshot(finished_bundle) == before
    both = compare(finished_bundle, finished_bundle)
    assert "int8.onnx: the same file" in both.record.notes


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cpu": "Other CPU"}, "cpu Example CPU @ 2.50GHz and Other CPU"),
        ({"architecture": "aarch64"}, "architecture x86_64 and aarch64"),
        ({"cores": 4}, "cores 17 and 4"),
        ({"cpu_features": ("AVX2",)}, "cpu_features AVX2 FMA3 and AVX2"),
    ],
)
def test_another_machine_is_refused_and_with_any_machine_said(save: Save, change: dict[str, Any], words: str) -> None:
    other = QUIET.model_copy(update={"machine": MACHINE.model_copy(update=change)})
    a, b = save(QUIET), save(other)
    assert "--any-machine" in refused(a, b, "measured on two machines", words).next_step
    found = compare(a, b, any_machine=True)
    assert f"OTHER MACHINE: {words}" in found.record.notes
    assert figure(found, "p50", "int8").ratio.median == pytest.approx(1)


def test_other_software_on_the_same_machine_is_only_said(save: Save) -> None:
    machine = MACHINE.model_copy(
        update={"versions": {**MACHINE.versions, "onnxruntime": "1.33.0", "new": "1"}, "system": "Linux 6.2"}
    )
    found = compare(save(QUIET), save(QUIET.model_copy(update={"machine": machine, "measured_at": QUIET.measured_at})))
    assert found.record.notes[0] == (
        "other software: Linux 6.1 and Linux 6.2; new none and 1; onnxruntime 1.32.0 and 1.33.0"
    )


@pytest.mark.parametrize("change", [{"batch": 8}, {"threads": 2}, {"target": "xnnpack"}, {"through": "run"}])
def test_another_setting_is_refused_and_with_any_machine_said(save: Save, change: dict[str, Any]) -> None:
    a, b = save(QUIET), save(QUIET.model_copy(update=change))
    assert "edgecnn bench with the same" in refused(a, b, "no target, batch and thread count in common").next_step
    found = compare(a, b, any_machine=True)
    assert any("is compared with" in note for note in found.record.notes)
    assert " / " in found.record.places[0].place


def test_of_several_settings_the_common_ones_are_compared_and_the_others_named(save: Save) -> None:
    eight, two = QUIET.model_copy(update={"batch": 8}), QUIET.model_copy(update={"threads": 2})
    found = compare(save(QUIET, eight), save(two, QUIET))
    assert len(found.record.places) == 1
    assert found.record.only_a == ("cpu, batch 8, 1 threads, through iobinding",)
    assert found.record.only_b == ("cpu, batch 1, 2 threads, through iobinding",)
    refused(save(eight, two), save(QUIET), "batch 8", "batch 1")


def test_what_disturbed_either_is_said(save: Save) -> None:
    found = compare(save(full_latency_result()), save(QUIET))
    place = "A, cpu, batch 1, 1 threads, through iobinding"
    assert f"{place}: the hypervisor took 1% of the CPU's time for others" in found.record.notes
    assert f"{place}: too noisy to reach the precision that was asked for" in found.record.notes
    assert not any(note.startswith("B,") for note in found.record.notes)


# The gate


@pytest.mark.parametrize("model", ["float", "int8"])
@pytest.mark.parametrize(("factor", "passed"), [(1.5, False), (1.09, False), (1.04, True), (1.0, True), (0.5, True)])
def test_the_gate_fails_if_either_model_became_slower(save: Save, model: str, factor: float, passed: bool) -> None:
    found = compare(save(QUIET), save(slower(QUIET, factor, model=model)), fail_if_slower=0.05)
    assert found.verdict.passed == passed
    assert found.verdict.exit_code == (ExitCode.PASSED if passed else ExitCode.GATE_FAILED)
    by_name = {check.name.split()[0]: check for check in found.verdict.checks}
    assert by_name[model].measured == pytest.approx(factor)
    assert by_name[model].limit == 1.05


def test_a_rise_that_may_be_noise_does_not_fail_the_gate(save: Save) -> None:
    a = QUIET.model_copy(update={"int8_medians_us": (30.0, 35.0, 40.0, 45.0, 50.0, 33.0)})
    b = QUIET.model_copy(update={"int8_medians_us": (31.0, 36.0, 47.0, 55.0, 52.0, 47.0)})
    found = compare(save(a), save(b), fail_if_slower=0.05)
    ratio = figure(found, "p50", "int8").ratio
    assert ratio.low is not None
    assert ratio.low < 1
    assert ratio.median > 1.05
    assert found.verdict.passed


def test_without_an_interval_the_gate_goes_by_the_medians(save: Save) -> None:
    old = latency_result()
    times = old.int8_latency.model_copy(update={"p50_us": 1.06 * old.int8_latency.p50_us})
    worse = old.model_copy(update={"int8_latency": times})
    assert not compare(save(old), save(worse), fail_if_slower=0.05).verdict.passed
    assert compare(save(old), save(worse), fail_if_slower=0.07).verdict.passed


# Protocols


def test_protocols_are_compared_and_gated_too(save: Save) -> None:
    model = tiny_result().int8_model
    worse = tiny_result(
        int8_model=model.model_copy(
            update={
                "inferences_per_second": model.inferences_per_second / 2,
                "windows": tuple(rate / 2 for rate in model.windows),
            }
        ),
        departures=("windows of 1 s",),
    )
    found = compare(save(protocol=tiny_result()), save(protocol=worse), fail_if_slower=0.05)
    assert [place.place for place in found.record.places] == ["mlperf-tiny"]
    assert not found.verdict.passed
    (failed,) = (check for check in found.verdict.checks if not check.passed)
    assert failed.name == "int8 time, mlperf-tiny"
    assert failed.measured == pytest.approx(2)
    assert any("not according to the protocol: windows of 1 s" in note for note in found.record.notes)


def test_protocols_on_other_machines_or_threads_are_refused(save: Save) -> None:
    for other in (tiny_result(machine=MACHINE.model_copy(update={"cores": 3})), tiny_result(threads=2)):
        a, b = save(protocol=tiny_result()), save(protocol=other)
        assert "--any-machine" in refused(a, b).next_step
        assert compare(a, b, any_machine=True).record.notes


# What cannot be compared


def test_a_measurement_without_latency_is_refused(save: Save, tmp_path: Path) -> None:
    assert "edgecnn bench" in refused(save(QUIET), save(), "holds no latency").next_step
    refused(save(QUIET), save(protocol=tiny_result()), "in common")


def test_a_bundle_that_was_never_benched_is_refused(bundle_copy: Path, save: Save) -> None:
    with Bundle.open(bundle_copy).locked():
        Bundle.open(bundle_copy).amend({"latency": ()})
    refused(bundle_copy, save(QUIET), f"{bundle_copy}: holds no latency")


def test_what_is_neither_a_bundle_nor_a_measurement_is_refused(save: Save, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(save(QUIET), empty, "expected a bundle")
    refused(tmp_path / "none.json", save(QUIET), "not readable")
    torn = save(QUIET)
    torn.write_bytes(torn.read_bytes()[:-40])
    refused(torn, save(QUIET), "expected a measurement of edgecnn")


def test_figures_at_the_edge_of_what_is_allowed_do_not_overflow(save: Save) -> None:
    def extreme(us: float) -> LatencyResult:
        latency = QUIET.float_latency.model_copy(update={"p50_us": us, "p90_us": us, "p99_us": us})
        return QUIET.model_copy(update={"float_latency": latency, "float_medians_us": (us,) * 1000})

    found = compare(save(extreme(2e-12)), save(extreme(9e17)))
    assert figure(found, "p50", "float").ratio.median == pytest.approx(4.5e29)


def test_comparing_changes_nothing(save: Save, tmp_path: Path) -> None:
    a, b = save(QUIET), save(QUIET)
    before = snapshot(tmp_path)
    compare(a, b, fail_if_slower=0.05)
    assert snapshot(tmp_path) == before
    assert isinstance(measurement(QUIET), Measurement)


# Other int8 models.


def test_two_int8_models_are_compared_by_their_own_sizes_and_that_is_said(save: Save) -> None:
    own = QUIET.model_copy(update={"int8_model": "int8-qnn.onnx"})
    files = dict(measurement().models)
    files |= {"int8-qnn.onnx": MeasuredFile(sha256="f" * 64, size_bytes=81234)}
    found = compare(save(QUIET), save(own, models=files))
    size = figure(found, "size", "int8")
    assert (size.a, size.b) == (73642, 81234)
    said = "cpu, batch 1, 1 threads, through iobinding: int8 is int8.onnx in A and int8-qnn.onnx in B"
    assert said in found.record.notes
    same = compare(save(own, models=files), save(own, models=files))
    size = figure(same, "size", "int8")
    assert (size.a, size.b) == (81234, 81234)
    assert "int8-qnn.onnx: the same file" in same.record.notes
    assert not any("int8 is" in note for note in same.record.notes)


def test_a_bundle_is_compared_by_what_each_target_is_to_run(tmp_path: Path, save: Save) -> None:
    whole = fitted_manifest()
    folder = tmp_path / "bundle"
    folder.mkdir()
    shadowed = latency_result(target="qnn", batch=3)
    manifest = whole.model_copy(update={"latency": (*whole.latency, shadowed)})
    (folder / "manifest.json").write_text(manifest.model_dump_json(by_alias=True))
    own = latency_result(target="qnn", batch=3).model_copy(update={"int8_model": "int8-qnn.onnx"})
    found = compare(folder, save(own))
    assert [place.place for place in found.record.places] == ["qnn, batch 3, 1 threads"]
    assert not any("int8 is" in note for note in found.record.notes)
    assert "cpu, batch 1, 1 threads" in found.record.only_a
