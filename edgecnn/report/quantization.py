"""Sensitivity and search, as tables, a chart and JSON."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgecnn.bundle.manifest import JudgementRecord, LayerSensitivityRecord, SearchRecord, SensitivityRecord
from edgecnn.report.text import new_table, plain

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_BAR_WIDTH = 30


def search_items(record: SearchRecord) -> "list[RenderableType]":
    """Return every try of a search, and how it ended."""
    rows = new_table(f"Tries, {record.n:,} training images held apart", "recipe", "drop", "95% interval", "dB", "")
    for one in record.tries:
        rows.add_row(
            plain(one.recipe), f"{one.drop_pp:+.2f}", _interval(one), _decibels(one.sqnr_db), "met" if one.met else ""
        )
    return [rows, search_sentence(record)]


def search_sentence(record: SearchRecord) -> str:
    """Return how a search ended, in words."""
    if record.met:
        best = min((one for one in record.tries if one.met), key=lambda one: len(one.float_layers))
        kept = f"; float stay {', '.join(best.float_layers)}" if best.float_layers else ""
        return f"{best.recipe} loses {best.drop_pp:+.2f} points; {record.max_drop_pp:g} were allowed{kept}."
    best = min(record.tries, key=lambda one: one.drop_pp)
    return (
        f"The budget of {record.max_drop_pp:g} points cannot be met; the best found is {best.recipe}, which loses "
        f"{best.drop_pp:+.2f} ({_interval(best)})."
    )


def sensitivity_items(record: SensitivityRecord) -> "list[RenderableType]":
    """Return every layer's figures, the one that costs most first, and a chart of what is won by leaving it float."""
    rows = new_table(
        f"Sensitivity with {record.recipe}, {record.n:,} training images held apart",
        *("layer", "weights", "inputs", "alone: dB", "drop", "all but: dB", "drop"),
    )
    for layer in record.layers:
        rows.add_row(
            plain(layer.layer),
            _decibels(layer.weight_sqnr_db),
            _decibels(layer.activation_sqnr_db),
            _decibels(layer.alone.sqnr_db),
            f"{layer.alone.drop_pp:+.2f}",
            _decibels(layer.all_but.sqnr_db),
            f"{layer.all_but.drop_pp:+.2f}",
        )
    whole = record.whole
    return [
        rows,
        _chart(record.layers, whole),
        f"All layers in integers: {_decibels(whole.sqnr_db)} dB, {whole.drop_pp:+.2f} points ({_interval(whole)}). "
        "dB is signal to quantization noise: of weights and inputs as rounded, else of the logits.",
    ]


def _chart(layers: Sequence[LayerSensitivityRecord], whole: JudgementRecord) -> "Table":
    rows = new_table("What the logits gain, in dB, if this layer alone stays float", "layer", "dB", "")
    rows.columns[2].justify = "left"
    gains = [(layer.layer, _gain(layer, whole)) for layer in layers]
    largest = max((gain for _, gain in gains if math.isfinite(gain)), default=0.0)
    for layer, gain in gains:
        rows.add_row(plain(layer), f"{gain:+.1f}" if math.isfinite(gain) else "exact", "█" * _width(gain, largest))
    return rows


def _width(gain: float, largest: float) -> int:
    if math.isinf(gain):
        return _BAR_WIDTH
    return round(_BAR_WIDTH * max(gain, 0.0) / largest) if largest > 0 else 0


def _gain(layer: LayerSensitivityRecord, whole: JudgementRecord) -> float:
    """Return what is won; infinite where the logits become exact."""
    if whole.sqnr_db is None:
        return 0.0
    if layer.all_but.sqnr_db is None:
        return math.inf
    return layer.all_but.sqnr_db - whole.sqnr_db


def _interval(record: JudgementRecord) -> str:
    return f"{record.drop_pp_low:+.2f}..{record.drop_pp_high:+.2f}"


def _decibels(value: float | None) -> str:
    return "exact" if value is None else f"{value:.1f}"


def search_view(record: SearchRecord | None) -> dict[str, Any]:
    """Return what ``edgecnn quantize --max-drop --json`` adds."""
    return {} if record is None else {"search": record.model_dump(mode="json")}


def sensitivity_view(bundle: str, record: SensitivityRecord) -> dict[str, Any]:
    """Return the object of ``edgecnn sensitivity --json``."""
    return {"bundle": bundle, **record.model_dump(mode="json")}
