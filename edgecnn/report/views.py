"""What ``--json`` prints: one object a command, with the fields that ``docs/json.md`` lists."""

from collections.abc import Mapping, Sequence
from typing import Any

from edgecnn.bundle.comparison import ComparisonRecord
from edgecnn.bundle.manifest import (
    Artifact,
    Check,
    FusionRecord,
    Manifest,
    Record,
    SaturationRecord,
    ValidationFailure,
    ValidationResult,
)
from edgecnn.bundle.measurement import Measurement
from edgecnn.bundle.prediction import PredictionRecord

Json = dict[str, Any]

_VALIDATION_FIELDS = (
    "target",
    "int8_model",
    "float_bits",
    "float_top1",
    "int8_top1",
    "drop_pp",
    "drop_pp_low",
    "drop_pp_high",
    "agreement",
    "p_value",
    "n",
    "n_available",
    "how",
    "provider",
    "float_nodes",
    "int8_nodes",
)


def validation_view(
    bundle: str,
    results: Sequence[ValidationResult],
    checks: Sequence[Check],
    verdict: str,
    saturation: SaturationRecord | None,
    fusion: FusionRecord | None,
    failures: Sequence[ValidationFailure] = (),
    predictions: Sequence[PredictionRecord] = (),
) -> Json:
    """Return the object of ``edgecnn validate --json``; top-1 is a fraction, drops are in percentage points."""
    rows = [
        {name: getattr(result, name) for name in _VALIDATION_FIELDS}
        | _drop_check(result, checks)
        | {
            "float_against_cpu": _optional(result.float_against_cpu),
            "int8_against_cpu": _optional(result.int8_against_cpu),
            "machine": result.machine.model_dump(mode="json"),
            "per_class": [row.model_dump(mode="json") for row in result.per_class],
        }
        for result in results
    ]
    return {
        "bundle": bundle,
        "n": max((result.n for result in results), default=0),
        "results": rows,
        "checks": [check.model_dump(mode="json") for check in checks],
        "failures": [failure.model_dump(mode="json") for failure in failures],
        "predictions": [prediction.model_dump(mode="json") for prediction in predictions],
        "saturation": _optional(saturation),
        "fusion": _optional(fusion),
        "verdict": verdict,
    }


def _drop_check(result: ValidationResult, checks: Sequence[Check]) -> Json:
    """Return the gate on what a target's int8 loses; the other gates are in the list of checks alone."""
    names = {f"accuracy drop on {result.target}", f"accuracy drop on {result.target}, {result.int8_model}"}
    check = next(check for check in checks if check.name in names)
    return {"max_drop_pp": check.limit, "passed": check.passed}


def _optional(record: Record | None) -> Json | None:
    return None if record is None else record.model_dump(mode="json")


def latency_view(bundle: str, measurement: Measurement, failures: Sequence[ValidationFailure] = ()) -> Json:
    """Return the object of ``edgecnn bench --json``; times are in microseconds."""
    results, protocol = measurement.results, measurement.protocol
    machines = [each.machine for each in (*results, *((protocol,) if protocol else ()))]
    return {
        "bundle": bundle,
        "machine": machines[0].model_dump(mode="json") if machines else None,
        "results": [result.model_dump(mode="json", exclude={"machine", "measured_at"}) for result in results],
        "failures": [failure.model_dump(mode="json") for failure in failures],
        "profiles": [profile.model_dump(mode="json") for profile in measurement.profiles],
        "protocol": None if protocol is None else protocol.model_dump(mode="json", exclude={"machine", "measured_at"}),
    }


def comparison_view(record: ComparisonRecord, checks: Sequence[Check], verdict: str) -> Json:
    """Return the object of ``edgecnn compare --json``."""
    return {
        **record.model_dump(mode="json"),
        "checks": [check.model_dump(mode="json") for check in checks],
        "verdict": verdict,
    }


def artifacts_view(bundle: str, artifacts: Sequence[Artifact], verdict: str, *, unchanged: bool) -> Json:
    """Return the object of a stage that makes files."""
    return {
        "bundle": bundle,
        "artifacts": [artifact.model_dump(mode="json") for artifact in artifacts],
        "unchanged": unchanged,
        "verdict": verdict,
    }


def run_view(
    bundle: str,
    manifest: Manifest,
    unchanged: Sequence[str],
    failures: Sequence[ValidationFailure] = (),
    predictions: Sequence[PredictionRecord] = (),
) -> Json:
    """Return the object of ``edgecnn run``."""
    passed = all(check.passed for check in manifest.checks) and not failures
    return {
        "bundle": bundle,
        "artifacts": [artifact.model_dump(mode="json") for artifact in manifest.artifacts],
        "unchanged": list(unchanged),
        "validation": [result.model_dump(mode="json") for result in manifest.validation],
        "fitted": [record.model_dump(mode="json") for record in manifest.fitted],
        "latency": [result.model_dump(mode="json") for result in manifest.latency],
        "failures": [failure.model_dump(mode="json") for failure in failures],
        "predictions": [prediction.model_dump(mode="json") for prediction in predictions],
        "checks": [check.model_dump(mode="json") for check in manifest.checks],
        "recommendation": _optional(manifest.recommendation),
        "verdict": "passed" if passed else "failed",
    }


def targets_view(rows: Sequence[tuple[str, str, str, str | None, str]]) -> Json:
    """Return the object of ``edgecnn targets``."""
    return {
        "targets": [
            {
                "target": name,
                "summary": summary,
                "state": state,
                "ready": why_not is None,
                "why_not": why_not,
                "remedy": remedy,
            }
            for name, summary, state, why_not, remedy in rows
        ]
    }


def installed_view(name: str, folder: str | None, program: str, *, unchanged: bool) -> Json:
    """Return the object of ``edgecnn targets install``."""
    return {"target": name, "folder": folder, "program": program, "unchanged": unchanged}


def demo_page_view(folder: str, bundle: str, files: Mapping[str, int], samples: int, address: str | None) -> Json:
    """Return the object of ``edgecnn demo-page``; ``files`` gives bytes by name."""
    return {"page": folder, "bundle": bundle, "files": dict(files), "samples": samples, "address": address}


def all_installed_view(installed: Sequence[Json], failed: Sequence[Json]) -> Json:
    """Return the object of ``edgecnn targets install all``: what each target's own would be, and the errors."""
    return {"installed": list(installed), "failures": list(failed)}


def error_view(kind: str, message: str, next_step: str, exit_code: int) -> Json:
    """Return the object that stands for a failure."""
    return {"error": {"type": kind, "message": message, "next_step": next_step, "exit_code": exit_code}}
