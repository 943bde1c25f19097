"""Two measurements side by side, for the terminal."""

from typing import TYPE_CHECKING

from edgecnn.bundle.comparison import ComparedPlace, ComparisonRecord, Figure
from edgecnn.report.latency import printable
from edgecnn.report.text import new_table, plain

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_SCALES = {"bytes": "{:,.0f}", "us": "{:,.1f}", "images/s": "{:,.0f}", "1/s": "{:,.1f}"}


def comparison_items(record: ComparisonRecord) -> "list[RenderableType]":
    """Return a table for each place, what only one of the two holds, and the notes."""
    items: list[RenderableType] = [plain(f"A: {record.a}"), plain(f"B: {record.b}")]
    items += [place_table(place) for place in record.places]
    items += [plain(f"only in A: {printable(name)}") for name in record.only_a]
    items += [plain(f"only in B: {printable(name)}") for name in record.only_b]
    return items + [plain(printable(note)) for note in record.notes]


def place_table(place: ComparedPlace) -> "Table":
    """Return every figure of A and B, with the ratio and its interval."""
    table = new_table(printable(place.place), "", "figure", "A", "B", "B / A", "95% interval")
    for figure in place.figures:
        ratio = figure.ratio
        known = ratio.low is not None and ratio.high is not None
        interval = f"{ratio.low:.3f}..{ratio.high:.3f}" if known else ""
        name = f"{figure.name}, {figure.unit}"
        table.add_row(
            figure.model, name, _cell(figure, figure.a), _cell(figure, figure.b), f"{ratio.median:.3f}", interval
        )
    return table


def _cell(figure: Figure, value: float) -> str:
    return _SCALES.get(figure.unit, "{:.4f}").format(value)
