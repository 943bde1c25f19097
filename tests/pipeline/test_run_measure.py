"""Of several targets, one that fails does not lose the others' figures, and is not taken for done."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from edgecnn.bundle import Bundle
from edgecnn.bundle.latency import LatencyResult
from edgecnn.bundle.manifest import ValidationFailure
from edgecnn.errors import TargetError
from edgecnn.measure.bench_settings import BenchSettings
from edgecnn.pipeline import target_latency
from edgecnn.pipeline.context import Options
from edgecnn.pipeline.run_measure import bench_targets, failures_of
from edgecnn.pipeline.validation_job import without_answers
from tests.bundles import read_manifest
from tests.environments import fake_environment, plant_environment

QUICK = BenchSettings(pairs=6, rounds=1, seconds=0.1)


def failure(target: str, reason: str = "it crashed") -> ValidationFailure:
    return ValidationFailure(
        target=target, reason=reason, next_step="look", exit_code=4, failed_at=datetime(2026, 1, 1, tzinfo=UTC)
    )


@pytest.fixture
def bundle(bundle_copy: Path) -> Bundle:
    return Bundle.open(bundle_copy)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a target with a clock, beside this CPU."""
    return plant_environment(monkeypatch, fake_environment(), clock="measured")


Break = Callable[[str], None]


@pytest.fixture
def break_down(monkeypatch: pytest.MonkeyPatch) -> Break:
    """Return a way to let the benchmark on a target fail."""
    measure = target_latency._bench_on

    def of(target: str) -> None:
        def refuse(name: str, *rest: object) -> LatencyResult:
            if name == target:
                raise TargetError(f"{name} is gone", next_step="fetch it")
            return measure(name, *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(target_latency, "_bench_on", refuse)

    return of


def go(bundle: Bundle, *targets: str) -> tuple[list[ValidationFailure], bool]:
    lost: list[ValidationFailure] = []
    outcome = bench_targets(bundle, Options(), targets, QUICK, cpu_nodes={}, lost=lost)
    return lost, outcome.unchanged


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_target_that_failed_is_the_one_that_is_named(
    bundle: Bundle, fake: str, break_down: Break, order: tuple[int, int]
) -> None:
    break_down(fake)
    first, second = (("cpu", fake)[index] for index in order)
    (one,), _ = go(bundle, first, second)
    assert (one.target, one.reason, one.next_step, one.exit_code) == (fake, f"{fake} is gone", "fetch it", 5)
    assert [row.target for row in read_manifest(bundle.folder).latency] == ["cpu"]


def test_a_benchmark_that_lost_a_target_is_not_done(bundle: Bundle, fake: str, break_down: Break) -> None:
    break_down(fake)
    go(bundle, "cpu", fake)
    assert "bench" not in read_manifest(bundle.folder).stages
    again, unchanged = go(bundle, "cpu", fake)
    assert ([one.target for one in again], unchanged) == ([fake], False)
    break_down("nothing")
    assert go(bundle, "cpu") == ([], False)
    assert go(bundle, "cpu") == ([], True)


def test_the_only_target_that_fails_is_an_error(bundle: Bundle, fake: str, break_down: Break) -> None:
    break_down(fake)
    with pytest.raises(TargetError, match=f"{fake} is gone"):
        go(bundle, fake)


def test_a_target_without_answers_is_not_timed(bundle: Bundle, fake: str, break_down: Break) -> None:
    break_down(fake)
    bundle.amend({"validation_failures": (failure(fake),)})
    assert go(bundle, "cpu", fake)[0] == []
    assert bundle.manifest.stages["bench"].settings["targets"] == ["cpu"]


def test_where_no_target_answered_each_is_tried(bundle: Bundle, fake: str, break_down: Break) -> None:
    break_down(fake)
    bundle.amend({"validation_failures": (failure(fake), failure("cpu"))})
    assert [one.target for one in go(bundle, "cpu", fake)[0]] == [fake]


def test_a_target_is_listed_once_and_by_what_failed_first(bundle: Bundle) -> None:
    bundle.amend({"validation_failures": (failure("qnn"), failure("wasm"), failure("webgpu"))})
    assert [one.target for one in without_answers(bundle.manifest, ["cpu", "wasm", "qnn"])] == ["qnn", "wasm"]
    lost = [failure("wasm", "later"), failure("xnnpack", "later")]
    found = failures_of(bundle.manifest, ["wasm", "xnnpack"], lost)
    assert [(one.target, one.reason) for one in found] == [("wasm", "it crashed"), ("xnnpack", "later")]


def test_a_defect_is_no_failure_of_a_target(bundle: Bundle, fake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(name: str, *rest: object) -> LatencyResult:
        raise ZeroDivisionError

    monkeypatch.setattr(target_latency, "_bench_on", defect)
    with pytest.raises(ZeroDivisionError):
        go(bundle, "cpu", fake)
