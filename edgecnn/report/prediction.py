"""Predicted partitions as a table, sentences and JSON; the same sentences on the terminal and in the report."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgecnn.bundle.prediction import PredictionRecord
from edgecnn.report.text import new_table, plain

if TYPE_CHECKING:
    from rich.console import RenderableType

_FLOAT = "float.onnx"


def provider_name(record: PredictionRecord) -> str:
    """Return the provider, with CoreML's model format."""
    return record.target if record.form is None else f"{record.target} {record.form}"


def prediction_items(records: Sequence[PredictionRecord]) -> "list[RenderableType]":
    """Return a table of predictions, and what to do about them."""
    table = new_table(
        "Predicted, not run: partitions", "model", "provider", "partitions", "nodes it takes", "worth trying"
    )
    for record in records:
        table.add_row(
            plain(record.model),
            provider_name(record),
            f"{record.partitions}",
            f"{record.supported_nodes} of {record.nodes}",
            record.suitability,
        )
    return [table, *(plain(sentence) for sentence in prediction_sentences(records))]


def prediction_sentences(records: Sequence[PredictionRecord]) -> list[str]:
    """Return what to ship where, what breaks partitions, and what the prediction cannot tell."""
    sentences = [advice for name in _providers(records) if (advice := _advice(name, records))]
    sentences += [_breaks(name, records) for name in _providers(records) if _of_float(name, records)]
    sentences = [sentence for sentence in sentences if sentence]
    if any(record.dynamic_batch and record.target == "nnapi" for record in records):
        sentences.append(
            "nnapi: takes no size that varies: fix the batch with edgecnn export --batch 1, or in the app with "
            "add_free_dimension_override_by_name; the figures are with a batch of 1."
        )
    conditions = dict.fromkeys(condition for record in records for condition in record.unchecked)
    if conditions:
        sentences.append(f"Not checked, for it is predicted from types of operators: {' '.join(conditions)}")
    return sentences


def _providers(records: Sequence[PredictionRecord]) -> list[str]:
    return list(dict.fromkeys(map(provider_name, records)))


def _of_float(provider: str, records: Sequence[PredictionRecord]) -> list[PredictionRecord]:
    """Return the predictions of a provider: of the float model where there is one, else of all."""
    own = [record for record in records if provider_name(record) == provider]
    return [record for record in own if record.model == _FLOAT] or own


def _advice(provider: str, records: Sequence[PredictionRecord]) -> str:
    """Say which model a provider cuts least, where it is given several."""
    own = [record for record in records if provider_name(record) == provider]
    if len(own) < 2:
        return ""
    # Nothing taken is no partition at all: the most nodes first, then the fewest cuts.
    best = max(own, key=lambda record: (record.supported_nodes / record.nodes, -record.partitions))
    told = ", ".join(f"{_partitions(record)} in {record.model}" for record in own if record is not best)
    return f"{provider}: ship {best.model}: {_partitions(best)} in it, {told}."


def _partitions(record: PredictionRecord) -> str:
    return f"{record.partitions} partition{'' if record.partitions == 1 else 's'}"


def _breaks(provider: str, records: Sequence[PredictionRecord]) -> str:
    told = [
        f"{breaker.nodes} {breaker.op} in {record.model} ({breaker.reason}): {breaker.change}"
        for record in _of_float(provider, records)
        for breaker in record.breakers
    ]
    return f"{provider}: cut by {'; '.join(told)}." if told else ""


def prediction_view(path: str, records: Sequence[PredictionRecord]) -> dict[str, Any]:
    """Return the object of ``edgecnn targets predict --json``."""
    return {
        "path": path,
        "predictions": [record.model_dump(mode="json") for record in records],
        "sentences": prediction_sentences(records),
    }
