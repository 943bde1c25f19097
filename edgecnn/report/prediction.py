"""Predicted partitions as a table, sentences and JSON; the same sentences on the terminal and in the report."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgecnn.bundle.prediction import PredictionRecord
from edgecnn.report.text import new_table, plain

if TYPE_CHECKING:
    from rich.console import RenderableType


_SUITABILITY = ("no", "maybe", "yes")


def provider_name(record: PredictionRecord) -> str:
    """Return the provider, with CoreML's model format."""
    return record.target if record.form is None else f"{record.target} {record.form}"


def prediction_items(records: Sequence[PredictionRecord]) -> "list[RenderableType]":
    """Return a table of predictions, and what to do about them."""
    table = new_table(
        "Predicted, not run: partitions", "model", "provider", "partitions", "nodes it takes", "worth trying"
    )
    table.columns[1].no_wrap = True
    for record in records:
        table.add_row(
            plain(record.model.removesuffix(".onnx")),
            plain(provider_name(record)),
            f"{record.partitions}",
            f"{record.supported_nodes} of {record.nodes}",
            record.suitability,
        )
    return [table, *(plain(sentence) for sentence in prediction_sentences(records))]


def prediction_sentences(records: Sequence[PredictionRecord]) -> list[str]:
    """Return what to ship where, what breaks partitions, and what the prediction cannot tell."""
    by_provider = {
        name: [record for record in records if provider_name(record) == name]
        for name in dict.fromkeys(map(provider_name, records))
    }
    sentences = []
    for name, own in by_provider.items():
        best = _best(own)
        sentences += [_advice(name, own, best)]
        sentences += [
            f"{name}: {breaker.nodes} {breaker.op} in {best[0].model}: {breaker.reason}; {breaker.change}."
            for breaker in best[0].breakers
        ]
    cautions = dict.fromkeys(f"{one.target}: {text}." for one in records for text in one.cautions)
    return [*sentences, *cautions, *_limits(records)]


def _best(own: Sequence[PredictionRecord]) -> list[PredictionRecord]:
    """Return the predictions of a provider that are as good as any: fewest cuts, then fewest nodes left."""

    def merit(record: PredictionRecord) -> tuple[int, bool, int, int]:
        left = record.nodes - record.supported_nodes
        return _SUITABILITY.index(record.suitability), record.supported_nodes > 0, -record.partitions, -left

    return [record for record in own if merit(record) == max(map(merit, own))]


def _advice(provider: str, own: Sequence[PredictionRecord], best: Sequence[PredictionRecord]) -> str:
    """Say which models a provider cuts least, and how often and by what it cuts the others."""
    names = " or ".join(record.model for record in best)
    if best[0].suitability == "no":
        told = [f"{provider}: not worth trying yet; {names} is cut least: {_partitions(best[0])}"]
    else:
        told = [f"{provider}: ship {names}: {_partitions(best[0])}"]
    told += [f"{_partitions(record)} in {record.model}{_cut_by(record)}" for record in own if record not in best]
    return f"{'; '.join(told)}."


def _partitions(record: PredictionRecord) -> str:
    if not record.supported_nodes:
        return "no node is taken"
    return f"{record.partitions} partition{'' if record.partitions == 1 else 's'}"


def _cut_by(record: PredictionRecord) -> str:
    operators = ", ".join(breaker.op for breaker in record.breakers)
    return f" (cut by {operators})" if operators else ""


def _limits(records: Sequence[PredictionRecord]) -> list[str]:
    limits = []
    if any(record.dynamic_batch and record.target == "nnapi" for record in records):
        limits.append(
            "nnapi: takes no size that varies: fix the batch with edgecnn export --batch 1, or in the app with "
            "add_free_dimension_override_by_name; the figures are with a batch of 1."
        )
    if conditions := dict.fromkeys(text.partition(":")[0] for record in records for text in record.unchecked):
        limits.append(
            f"Told from types of operators: conditions on {', '.join(sorted(conditions))} are not checked (unchecked)."
        )
    return limits


def prediction_view(path: str, records: Sequence[PredictionRecord]) -> dict[str, Any]:
    """Return the object of ``edgecnn targets predict --json``."""
    return {
        "path": path,
        "predictions": [record.model_dump(mode="json") for record in records],
        "sentences": prediction_sentences(records),
    }
