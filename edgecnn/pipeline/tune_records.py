"""From what a search found to what the manifest says of it."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from pydantic import JsonValue

from edgecnn.bundle.atomic import sha256_bytes
from edgecnn.bundle.manifest import MachineRecord
from edgecnn.bundle.tuning import CandidateRecord, RatioRecord, RecommendationRecord, TuningRecord
from edgecnn.pipeline.calibration_job import CalibrationJob
from edgecnn.pipeline.quantize_settings import recorded
from edgecnn.pipeline.tune_settings import TuneSettings

if TYPE_CHECKING:
    from edgecnn.stats import Comparison
    from edgecnn.tuning.choice import Row
    from edgecnn.tuning.meter import Meter
    from edgecnn.tuning.search import Tuned

#: A rewritten float model that is better than the stock one, which stays the reference.
FLOAT_TUNED_MODEL: Literal["float_tuned.onnx"] = "float_tuned.onnx"
Shipped = Literal["float.onnx", "float_tuned.onnx", "int8.onnx"]


def recorded_settings(settings: TuneSettings, job: CalibrationJob, machine: MachineRecord) -> dict[str, JsonValue]:
    """Return what decides whether a tuning is to be done again."""
    return {
        "target": settings.target,
        "objective": settings.objective,
        "max_drop_pp": settings.max_drop_pp,
        "seconds": settings.seconds,
        "threads": settings.threads,
        "batch": settings.images_a_call,
        "seed": settings.seed,
        "images": job.n_images,
        "held_out": job.n_held_out,
        "recipes": [recorded(one) for one in job.recipes],
        "machine": [machine.architecture, machine.cpu],
        "versions": dict(machine.versions),
    }


def tuning_record(
    found: "Tuned", job: CalibrationJob, settings: TuneSettings, meter: "Meter", machine: MachineRecord
) -> TuningRecord:
    """Return the whole log."""
    made = found.int8.made
    assert made is not None
    assert made.candidate.recipe is not None
    return TuningRecord(
        target=settings.target,
        unit=meter.unit,
        objective=settings.objective,
        max_drop_pp=settings.max_drop_pp,
        seconds=settings.seconds,
        seed=settings.seed,
        batch=settings.images_a_call,
        threads=settings.threads,
        pinned_cpus=meter.cpus,
        n_images=job.n_images,
        n_held_out=len(job.held_out),
        float_sha256=sha256_bytes(job.model),
        int8_sha256=sha256_bytes(made.data),
        chosen=made.candidate.record(),
        recipe=recorded(made.candidate.recipe),
        met=found.met,
        candidates=tuple(_candidate_record(row) for row in found.rows),
        notes=found.notes,
        machine=machine,
        measured_at=datetime.now(UTC).replace(microsecond=0),
    )


def _candidate_record(row: "Row") -> CandidateRecord:
    drop_pp = row.made.drop_pp if row.made else None
    standing = row.standing
    return CandidateRecord(
        stage=row.stage,
        configuration=row.candidate.record(),
        size_bytes=len(row.made.data) if row.made else None,
        drop_pp=drop_pp.delta if drop_pp else None,
        drop_pp_low=drop_pp.low if drop_pp else None,
        drop_pp_high=drop_pp.high if drop_pp else None,
        cost=standing.cost if standing else None,
        heats=len(standing.costs) if standing else 0,
        against_float=_ratio(standing.against_reference) if standing else None,
        dropped=row.dropped,
        on_front=row.on_front,
    )


def recommendation_record(found: "Tuned", log: TuningRecord, model: Shipped, sha256: str) -> RecommendationRecord:
    """Return which file to ship, and why."""
    made = found.recommended.made
    assert made is not None
    assert made.drop_pp is not None
    return RecommendationRecord(
        model=model,
        sha256=sha256,
        int8_sha256=log.int8_sha256,
        configuration=made.candidate.record(),
        why=found.why,
        speedup=_ratio(found.speedup),
        drop_pp=made.drop_pp.delta,
        drop_pp_low=made.drop_pp.low,
        drop_pp_high=made.drop_pp.high,
        target=log.target,
        unit=log.unit,
        objective=log.objective,
        machine=log.machine,
        measured_at=log.measured_at,
    )


def recommended_sentence(found: "Tuned") -> str:
    """Return in a line what came out."""
    return f"{found.recommended.candidate.name}: {found.why}"


def _ratio(comparison: "Comparison") -> RatioRecord:
    return RatioRecord(median=comparison.delta, low=comparison.low, high=comparison.high)
