"""What was measured of targets' own models, put into their records: pure functions of the manifest's ``fitted``."""

from collections.abc import Iterable, Mapping

from edgecnn.bundle.latency import LatencyResult
from edgecnn.bundle.manifest import FittedRecord, StageName, StageRecord, ValidationResult

_Fitted = tuple[FittedRecord, ...]


def with_validation(fitted: _Fitted, asked: Mapping[str, str], results: Iterable[ValidationResult]) -> _Fitted:
    """Return the records with new figures of accuracy in the place of old ones.

    Args:
        fitted: the records.
        asked: the int8 model of each target that was asked; its old figures of that model go, whether it answered.
        results: what was answered.
    """
    by_model: dict[str, list[ValidationResult]] = {}
    for result in results:
        by_model.setdefault(result.int8_model, []).append(result)
    return tuple(
        record.model_copy(
            update={
                "validation": (
                    *(old for old in record.validation if asked.get(old.target) != record.model),
                    *by_model.get(record.model, ()),
                )
            }
        )
        if record.is_own
        else record
        for record in fitted
    )


def with_latency(fitted: _Fitted, results: Iterable[LatencyResult]) -> _Fitted:
    """Return the records with new latencies in the place of those of the same place."""
    by_model: dict[str, list[LatencyResult]] = {}
    for result in results:
        by_model.setdefault(result.int8_model, []).append(result)
    return tuple(
        record.model_copy(update={"latency": replaced(record.latency, by_model[record.model])})
        if record.is_own and record.model in by_model
        else record
        for record in fitted
    )


def replaced(old: Iterable[LatencyResult], new: Iterable[LatencyResult]) -> tuple[LatencyResult, ...]:
    """Return old results followed by new ones, without the old of the same target, batch, threads and way."""
    new = tuple(new)
    places = {place(result) for result in new}
    return (*(result for result in old if place(result) not in places), *new)


def place(result: LatencyResult) -> tuple[str, int, int, str]:
    """Return where and how a latency was measured."""
    return result.target, result.batch, result.threads, result.through


def without_claim(
    stages: Mapping[StageName, StageRecord], stage: StageName, asked: Mapping[str, str]
) -> dict[StageName, StageRecord]:
    """Return the stages without one whose figures of targets' own models were replaced by others; else all of them.

    Args:
        stages: of a manifest.
        stage: ``validate`` or ``bench``.
        asked: the model of each target whose figures were replaced; all of them targets' own.
    """
    record = stages.get(stage)
    models = record.settings.get("int8_models") if record is not None else None
    claimed = models if isinstance(models, dict) else {}
    lost = any(claimed.get(target) == model for target, model in asked.items())
    return {name: one for name, one in stages.items() if name != stage or not lost}
