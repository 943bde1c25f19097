"""A tuning as a table, sentences and JSON."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgecnn.bundle.manifest import Manifest
from edgecnn.bundle.tuning import CandidateRecord, ConfigurationRecord, RatioRecord, RecommendationRecord, TuningRecord
from edgecnn.report.text import new_table, plain

if TYPE_CHECKING:
    from rich.console import RenderableType

#: What a cost is in, for people.
UNITS = {"us": "microseconds a call", "instructions": "instructions a call"}


def tuning_items(record: TuningRecord, recommendation: RecommendationRecord) -> "list[RenderableType]":
    """Return what was measured, stage by stage, and what is recommended."""
    items: list[RenderableType] = []
    for stage in stages(record):
        rows = new_table(f"{stage} on {record.target}, {UNITS[record.unit]}", *_COLUMNS)
        rows.columns[-1].justify = "left"
        rows.collapse_padding = True
        for one in record.candidates:
            if one.stage == stage:
                rows.add_row(*_cells(one), plain(one.configuration.name + _end(one)))
        items.append(rows)
    items += [plain(note) for note in record.notes]
    return [*items, plain(recommendation_sentence(recommendation))]


_COLUMNS = ("cost", "of float", "95% interval", "drop", "bytes", "candidate")


def _cells(one: CandidateRecord) -> tuple[str, ...]:
    size = "" if one.size_bytes is None else f"{one.size_bytes:,}"
    drop = "" if one.drop_pp is None else f"{one.drop_pp:+.2f}"
    if one.cost is None or one.against_float is None:
        return ("", "", "", drop, size)
    ratio = one.against_float
    return (cost_text(one.cost), f"{ratio.median:.3f}", f"{ratio.low:.3f}..{ratio.high:.3f}", drop, size)


def _end(one: CandidateRecord) -> str:
    """Return how it ended for a candidate: dropped, never measured, or on the Pareto front."""
    if one.dropped and one.heats:
        return f" (out after {one.heats} heats)"
    if one.dropped:
        return f" ({one.dropped})"
    return " (front)" if one.on_front else ""


def stages(record: TuningRecord) -> Sequence[str]:
    """Return the stages of a tuning in their order."""
    return list(dict.fromkeys(one.stage for one in record.candidates))


def cost_text(cost: float) -> str:
    """Return microseconds with a decimal, and instructions in thousands."""
    return f"{cost:.1f}" if cost < 10_000 else f"{cost:,.0f}"


def recommendation_sentence(record: RecommendationRecord) -> str:
    """Return which file to ship, and why."""
    opened = _opened(record.configuration)
    return (
        f"Ship {record.model} on {record.target}{opened}: {record.why}. "
        f"{_speed_sentence(record)} It loses {record.drop_pp:+.2f} points "
        f"({record.drop_pp_low:+.2f}..{record.drop_pp_high:+.2f}) on training images held apart."
    )


def _opened(configuration: ConfigurationRecord) -> str:
    said = [] if configuration.session == "default" else [f"session options {configuration.session}"]
    said += [] if configuration.threads == 1 else [f"{configuration.threads} threads"]
    return f" with {' and '.join(said)}" if said else ""


def _speed_sentence(record: RecommendationRecord) -> str:
    if record.model == "float.onnx" and not _opened(record.configuration):
        return "It is what all others were measured against."
    ratio, counted = record.speedup, record.unit == "instructions"
    if ratio.high < 1:
        slower = RatioRecord(median=1 / ratio.median, low=1 / ratio.high, high=1 / ratio.low)
        return f"It takes {_times(slower)} times {'the instructions of' if counted else 'as long as'} float.onnx."
    what = "times fewer instructions than" if counted else "times as fast as"
    return f"{_times(ratio)} {what} float.onnx."


def _times(ratio: RatioRecord) -> str:
    return f"{ratio.median:.2f} ({ratio.low:.2f}..{ratio.high:.2f})"


def tuning_view(bundle: str, manifest: Manifest, *, unchanged: bool) -> dict[str, Any]:
    """Return the object of ``edgecnn tune --json``."""
    tuning, recommendation = manifest.tuning, manifest.recommendation
    return {
        "bundle": bundle,
        "unchanged": unchanged,
        "tuning": None if tuning is None else tuning.model_dump(mode="json"),
        "recommendation": None if recommendation is None else recommendation.model_dump(mode="json"),
        "verdict": "passed" if tuning is not None and tuning.met else "failed",
    }
