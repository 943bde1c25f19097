from datetime import UTC, datetime
from typing import Any, TypeVar, get_args

import pytest

from edgecnn.bundle.manifest import (
    DOWNSTREAM,
    Artifact,
    CalibrationRecord,
    Check,
    LatencyResult,
    Manifest,
    ParityRecord,
    Record,
    StageName,
    StageRecord,
    ValidationResult,
)
from edgecnn.bundle.revision import of_present_files, superseded, without
from edgecnn.bundle.tuning import RecommendationRecord, TuningRecord
from tests.bundles import fitted_manifest

STAGES: tuple[StageName, ...] = get_args(StageName)
OUTPUTS: dict[StageName, tuple[str, ...]] = {
    "train": ("model.pt",),
    "export": ("float.onnx",),
    "simplify": ("float.onnx",),
    "tune": ("float_tuned.onnx",),
    "quantize": ("int8.onnx",),
    "fit": ("int8-xnnpack.onnx",),
    "validate": (),
    "bench": (),
    "report": ("report.html",),
}
Kind = TypeVar("Kind", bound=Record)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def record(stage: StageName, version: str = "0") -> StageRecord:
    outputs = dict.fromkeys(OUTPUTS[stage], version * 64)
    return StageRecord(inputs={}, settings={}, outputs=outputs, finished_at=NOW, seconds=0)


def claim(kind: type[Kind], **fields: Any) -> Kind:
    """A claim with these fields only."""
    made = kind.model_construct(**fields)
    assert isinstance(made, kind)
    return made


def finished(*stages: StageName) -> Manifest:
    """A manifest with every kind of claim; what stands in the claims does not matter here."""
    return Manifest(
        edgecnn_version="0",
        stages={stage: record(stage) for stage in stages},
        artifacts=tuple(
            Artifact(stage=stage, path=name, sha256="0" * 64, size_bytes=1)
            for stage in stages
            for name in OUTPUTS[stage]
        ),
        parity=tuple(claim(ParityRecord, stage=stage) for stage in stages if stage in ("export", "simplify")),
        calibration=claim(CalibrationRecord, seed=0),
        validation=(claim(ValidationResult, target="cpu"),),
        latency=(claim(LatencyResult, target="cpu"),),
        checks=(claim(Check, name="drop"),),
        tuning=claim(TuningRecord, target="cpu"),
        recommendation=claim(RecommendationRecord, target="cpu"),
    )


@pytest.mark.parametrize("stage", STAGES)
def test_another_output_ends_everything_downstream(stage: StageName) -> None:
    assert superseded(finished(*STAGES), stage, record(stage, "1")) == set(DOWNSTREAM[stage])


def test_only_stages_that_were_done_are_ended() -> None:
    assert superseded(finished("train", "export", "report"), "train", record("train", "1")) == {"export", "report"}
    assert superseded(finished(), "train", record("train")) == set()


@pytest.mark.parametrize("stage", ["train", "simplify", "tune", "quantize", "report"])
def test_the_same_output_ends_nothing(stage: StageName) -> None:
    assert superseded(finished(*STAGES), stage, record(stage)) == set()


def test_the_same_export_ends_what_follows_once_simplify_has_replaced_its_file() -> None:
    later = {"tune", "quantize", "fit", "validate", "bench", "report"}
    assert superseded(finished(*STAGES), "export", record("export")) == later | {"simplify"}
    assert superseded(finished("train", "export", "quantize"), "export", record("export")) == set()


@pytest.mark.parametrize("stage", ["validate", "bench"])
def test_a_new_measurement_ends_the_report_although_no_file_changed(stage: StageName) -> None:
    assert superseded(finished(*STAGES), stage, record(stage)) == {"report"}


def test_a_tuning_belongs_to_the_float_model_and_not_to_int8() -> None:
    assert "tune" in superseded(finished(*STAGES), "simplify", record("simplify", "1"))
    assert "tune" not in superseded(finished(*STAGES), "quantize", record("quantize", "1"))


def test_a_stage_done_for_the_first_time_ends_what_was_made_without_it() -> None:
    before = finished("train", "export", "quantize", "validate")
    assert superseded(before, "simplify", record("simplify")) == {"quantize", "validate"}


def test_without_takes_out_records_artifacts_and_parity_of_the_stages() -> None:
    left = without(finished(*STAGES), {"simplify", "report"})
    assert set(left.stages) == set(STAGES) - {"simplify", "report"}
    assert [(a.stage, a.path) for a in left.artifacts] == [
        ("train", "model.pt"),
        ("export", "float.onnx"),
        ("tune", "float_tuned.onnx"),
        ("quantize", "int8.onnx"),
        ("fit", "int8-xnnpack.onnx"),
    ]
    assert [p.stage for p in left.parity] == ["export"]
    assert left.calibration
    assert left.validation
    assert left.latency
    assert left.checks


@pytest.mark.parametrize(
    ("stage", "cleared"),
    [
        ("fit", {"checks"}),
        ("tune", {"tuning", "recommendation"}),
        ("quantize", {"calibration"}),
        ("validate", {"validation", "checks"}),
        ("bench", {"latency", "checks"}),
        ("report", set()),
    ],
)
def test_without_takes_out_the_claims_of_the_stage_and_no_others(stage: StageName, cleared: set[str]) -> None:
    left = without(finished(*STAGES), {stage})
    claims = ("calibration", "validation", "latency", "checks", "tuning", "recommendation")
    assert {name for name in claims if not getattr(left, name)} == cleared


def test_without_nothing_is_the_same_manifest() -> None:
    assert without(finished(*STAGES), set()) == finished(*STAGES)


def test_a_model_of_a_targets_own_belongs_to_the_float_model_and_not_to_int8() -> None:
    assert "fit" in superseded(finished(*STAGES), "simplify", record("simplify", "1"))
    assert "fit" not in superseded(finished(*STAGES), "quantize", record("quantize", "1"))
    assert superseded(finished(*STAGES), "fit", record("fit", "1")) == {"report"}, "int8.onnx keeps what was measured"


def test_what_is_said_of_files_that_are_there_is_kept() -> None:
    whole = fitted_manifest()
    assert of_present_files(whole) == whole
    assert (len(whole.fitted), len(whole.predictions)) == (2, 2)


@pytest.mark.parametrize(
    ("name", "targets", "models"),
    [
        ("float.onnx", {"qnn"}, {"int8.onnx"}),
        ("int8.onnx", {"qnn", "coreml"}, {"float.onnx"}),
        ("int8-qnn.onnx", {"coreml"}, {"float.onnx", "int8.onnx"}),
    ],
)
@pytest.mark.parametrize("gone", [False, True])
def test_what_is_said_of_a_file_goes_with_it(name: str, targets: set[str], models: set[str], gone: bool) -> None:
    whole = fitted_manifest()
    other = [a.model_copy(update={"sha256": "9" * 64}) if a.path == name else a for a in whole.artifacts]
    left = of_present_files(
        whole.model_copy(update={"artifacts": tuple(a for a in other if a.path != name or not gone)})
    )
    assert {one.target for one in left.fitted} == targets
    assert {one.model for one in left.predictions} == models


def test_of_two_files_of_a_name_the_newest_counts() -> None:
    whole = fitted_manifest()
    (old,) = (a for a in whole.artifacts if a.path == "float.onnx")
    newer = old.model_copy(update={"stage": "simplify", "sha256": "9" * 64})
    left = of_present_files(whole.model_copy(update={"artifacts": (*whole.artifacts, newer)}))
    assert [one.target for one in left.fitted] == ["qnn"]
