"""Short tables for the terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgecnn.bundle.manifest import Artifact, Check, LatencyResult, ValidationResult

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_STYLE = {"faster": "green", "same": "yellow", "slower": "bold red"}


def table(title: str, *columns: str) -> "Table":
    """Return an empty table; the first column is aligned left, the others right."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    return table


def artifacts_table(artifacts: Sequence[Artifact]) -> "Table":
    """Return files with their sizes and hashes."""
    rows = table("Files", "file", "made by", "bytes", "SHA-256")
    for artifact in artifacts:
        rows.add_row(artifact.path, artifact.stage, f"{artifact.size_bytes:,}", f"{artifact.sha256[:16]}…")
    return rows


def validation_table(results: Sequence[ValidationResult]) -> "Table":
    """Return accuracy, float beside int8; the drop is in percentage points."""
    rows = table("Top-1 accuracy", "target", "float", "int8", "drop", "95% interval", "p", "agree", "images")
    for result in results:
        rows.add_row(
            result.target,
            f"{result.float_top1:.2%}",
            f"{result.int8_top1:.2%}",
            f"{result.drop_pp:+.2f}",
            f"{result.drop_pp_low:+.2f}..{result.drop_pp_high:+.2f}",
            f"{result.p_value:.2f}",
            f"{result.agreement:.1%}",
            f"{result.n}",
        )
    return rows


def class_table(result: ValidationResult) -> "Table":
    """Return the drop by class on one target, the largest first."""
    rows = table(f"Drop by class on {result.target}", "class", "images", "float", "int8", "points")
    for row in sorted(result.per_class, key=lambda row: -row.drop_pp):
        name = "".join(character for character in row.name if character.isprintable())
        rows.add_row(_plain(name), f"{row.n:,}", f"{row.float_top1:.2%}", f"{row.int8_top1:.2%}", f"{row.drop_pp:+.2f}")
    return rows


def latency_table(results: Sequence[LatencyResult]) -> "Table":
    """Return latency, float beside int8."""
    columns = ("target", "batch", "thr", "", "p50", "p90", "p99", "ratio", "95% interval")
    rows = table("Latency, microseconds; ratio is float / int8", *columns)
    for result in results:
        place = (result.target, str(result.batch), str(result.threads))
        for name, latency in (("float", result.float_latency), ("int8", result.int8_latency)):
            times = (f"{latency.p50_us:.1f}", f"{latency.p90_us:.1f}", f"{latency.p99_us:.1f}")
            if name == "float":
                rows.add_row(*place, name, *times)
            else:
                ratio = f"{result.speedup.median:.3f}"
                interval = f"{result.speedup.low:.3f}..{result.speedup.high:.3f}"
                rows.add_row("", "", "", name, *times, ratio, interval)
    return rows


def latency_sentence(result: LatencyResult) -> "Text":
    """Return the verdict in words."""
    from rich.text import Text

    ratio = result.speedup.median
    words = {
        "faster": f"int8 is {ratio:.2f} times as fast as float here.",
        "same": "int8 and float are equally fast here, within the noise.",
        "slower": f"int8 is SLOWER than float here: it takes {1 / ratio:.2f} times as long. Ship float on this target, "
        "unless the smaller file is what you need.",
    }
    return Text(f"{result.target}: {words[result.verdict]}", style=_STYLE[result.verdict])


def checks_table(checks: Sequence[Check]) -> "Table":
    """Return the gates, with what was measured."""
    from rich.text import Text

    rows = table("Verdict", "check", "measured", "limit", "")
    for check in checks:
        word = Text("passed", style="green") if check.passed else Text("FAILED", style="bold red")
        rows.add_row(check.name, f"{round(check.measured, 4):.10g}", f"{round(check.limit, 4):.10g} {check.unit}", word)
    return rows


def verdict_line(bundle: str, passed: bool) -> "Text":
    """Return the last line: the verdict, and where the report is."""
    from rich.text import Text

    word = Text("PASSED", style="bold green") if passed else Text("FAILED", style="bold red")
    return Text.assemble(word, f"  report: {bundle}/report.md")


def targets_table(rows: Sequence[tuple[str, str, str | None, str]]) -> "Table":
    """Return each target: name, summary, why it cannot run here, and what would help."""
    from rich.text import Text

    listing = table("Targets", "target", "state here", "what it is")
    for column in listing.columns:
        column.justify = "left"
    for name, summary, why_not, remedy in rows:
        state = Text("ready", style="green") if why_not is None else Text(f"{why_not}; {remedy}")
        listing.add_row(name, state, summary)
    return listing


def _plain(text: str) -> "Text":
    """Return text in which square brackets are not rich's markup."""
    from rich.text import Text

    return Text(text)
