"""What is told of each who took part, as Markdown and as JSON."""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from edgecnn.stats import Comparison


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A model that ran.

    Attributes:
        name: in the table.
        form: float or int8.
        ours: whether edgecnn made it.
        input: type and shape of what a call is given.
        made_by: how it came to be.
        top1: share of test images classified rightly.
        drop: of top-1 against our float model, as a fraction.
        p50_us: median latency of a call in microseconds.
        p90_us: its 90th percentile.
        calls: how many were timed.
        ratio: latency over the reference's; above 1 is slower.
    """

    name: str
    form: Literal["float", "int8"]
    ours: bool
    input: str
    made_by: str
    top1: float
    drop: Comparison
    p50_us: float
    p90_us: float
    calls: int
    ratio: Comparison


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A peer or model that did not run, and why."""

    name: str
    reason: str


Row = Measured | Failed
_COLUMNS = ("", "input", "top-1", "points lost (95%)", "p50, us", "latency / {reference} (95%)", "made by")
_ALIGN = ("---", "---", "---:", "---", "---:", "---", "---")


def as_table(rows: list[Row], reference: str) -> str:
    """Return a Markdown table: float models, then int8, each by latency; at the end who did not run."""
    measured = [row for row in rows if isinstance(row, Measured)]
    ordered = sorted(measured, key=lambda row: (row.form, row.p50_us))
    failed = [row for row in rows if isinstance(row, Failed)]
    lines = [list(_COLUMNS), list(_ALIGN), *map(_cells, ordered), *map(_failed_cells, failed)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines).format(reference=reference)


def _cells(row: Measured) -> list[str]:
    drop, ratio = row.drop, row.ratio
    name = f"**{row.name}**" if row.ours else row.name
    cells = [
        name,
        row.input,
        f"{row.top1:.2%}",
        f"{100 * drop.delta:+.2f} ({100 * drop.low:+.2f} to {100 * drop.high:+.2f})",
        f"{row.p50_us:.1f}",
        f"{ratio.delta:.2f} ({ratio.low:.2f} to {ratio.high:.2f})",
        row.made_by,
    ]
    return [_escaped(cell) for cell in cells]


def _failed_cells(row: Failed) -> list[str]:
    return [_escaped(row.name), "", "", "", "", "", _escaped(f"did not run: {row.reason}")]


def _escaped(text: str) -> str:
    """Keep a cell a cell, and keep braces for the one who fills in the reference."""
    return " ".join(text.split()).replace("|", "\\|").replace("{", "{{").replace("}", "}}")


def as_json(rows: list[Row], facts: dict[str, Any]) -> dict[str, Any]:
    """Return the rows and what holds for all of them."""
    return {**facts, "rows": [asdict(row) | {"ran": isinstance(row, Measured)} for row in rows]}


def put_between_marks(document: Path, name: str, text: str) -> None:
    """Replace what stands between a document's marks of a name; a document without them gets both at its end."""
    begin, end = f"<!-- bench_peers {name} -->\n", f"<!-- end of bench_peers {name} -->\n"
    before = document.read_text(encoding="utf-8") if document.is_file() else ""
    marked = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    whole = begin + text + end
    after = marked.sub(lambda _: whole, before) if marked.search(before) else before + whole
    document.write_text(after, encoding="utf-8")
