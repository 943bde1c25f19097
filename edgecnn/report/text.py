"""Short tables for the terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgecnn.bundle.manifest import Artifact, Check, LatencyResult, SaturationRecord, ValidationResult
from edgecnn.report.saturation import saturation_sentences

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

#: More gates than these are not all shown on a screen.
_FEW_CHECKS = 8


def new_table(title: str, *columns: str) -> "Table":
    """Return an empty table; the first column is aligned left, the others right."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    return table


def artifacts_table(artifacts: Sequence[Artifact]) -> "Table":
    """Return files with their sizes and hashes."""
    table = new_table("Files", "file", "made by", "bytes", "SHA-256")
    for artifact in artifacts:
        table.add_row(artifact.path, artifact.stage, f"{artifact.size_bytes:,}", f"{artifact.sha256[:16]}…")
    return table


def validation_table(results: Sequence[ValidationResult]) -> "Table":
    """Return accuracy, float beside int8; the drop is in percentage points."""
    table = new_table("Top-1 accuracy", "target", "float", "int8", "drop", "95% interval", "p", "agree", "images")
    table.padding = 0  # the name of a target and the interval must fit into 80 columns
    table.columns[0].no_wrap = True
    table.show_edge = False
    for result in results:
        table.add_row(
            result.target,
            f"{result.float_top1:.2%}",
            f"{result.int8_top1:.2%}",
            f"{result.drop_pp:+.2f}",
            f"{result.drop_pp_low:+.2f}..{result.drop_pp_high:+.2f}",
            f"{result.p_value:.2f}",
            f"{result.agreement:.1%}",
            f"{result.n}" if result.n_available is None else f"{result.n}/{result.n_available}",
        )
    return table


def model_sentences(results: Sequence[ValidationResult | LatencyResult]) -> list[str]:
    """Return which file ran as int8 where it was not ``int8.onnx``."""
    targets: dict[str, dict[str, None]] = {}
    for result in results:
        targets.setdefault(result.int8_model, {})[result.target] = None
    told = [f"{model} on {', '.join(names)}" for model, names in targets.items() if model != "int8.onnx"]
    return [f"int8 is {'; '.join(told)}."] if told else []


def distinct(results: Sequence[ValidationResult]) -> list[ValidationResult]:
    """Leave out results that repeat an earlier one class by class, as on CPUs that answer alike."""
    return [row for index, row in enumerate(results) if all(row.per_class != old.per_class for old in results[:index])]


def saturation_items(record: SaturationRecord) -> "list[RenderableType]":
    """Return what the audit for x86 CPUs without VNNI says: a sentence, and the layers that can saturate."""
    items: list[RenderableType] = [plain(sentence) for sentence in saturation_sentences(record)]
    if not record.can_saturate:
        return items
    table = new_table("Can saturate on x86 without VNNI", "layer", "worst pair sum", "fits", "outputs")
    for layer in record.can_saturate:
        fits = "32,767" if layer.worst_pair_sum > 0 else "-32,768"
        affected = f"{layer.outputs_that_can_saturate} of {layer.outputs}"
        table.add_row(plain(layer.layer), f"{layer.worst_pair_sum:,}", fits, affected)
    return [table, *items]


def class_table(result: ValidationResult) -> "Table":
    """Return the drop by class on one target, the largest first."""
    table = new_table(f"Drop by class on {result.target}", "class", "images", "float", "int8", "points")
    for row in sorted(result.per_class, key=lambda row: -row.drop_pp):
        name = "".join(character for character in row.name if character.isprintable())
        table.add_row(plain(name), f"{row.n:,}", f"{row.float_top1:.2%}", f"{row.int8_top1:.2%}", f"{row.drop_pp:+.2f}")
    return table


def checks_items(checks: Sequence[Check]) -> "list[RenderableType]":
    """Return the gates, with what was measured; of many, those that failed and how many passed."""
    if len(checks) <= _FEW_CHECKS:
        return [checks_table(checks)]
    failed = [check for check in checks if not check.passed]
    passed = plain(f"{len(checks) - len(failed)} of {len(checks)} checks passed; the report lists each.")
    return [checks_table(failed), passed] if failed else [passed]


def checks_table(checks: Sequence[Check]) -> "Table":
    """Return the gates, with what was measured."""
    from rich.text import Text

    table = new_table("Verdict", "check", "measured", "limit", "")
    for check in checks:
        word = Text("passed", style="green") if check.passed else Text("FAILED", style="bold red")
        table.add_row(
            check.name, f"{round(check.measured, 4):.10g}", f"{round(check.limit, 4):.10g} {check.unit}", word
        )
    return table


def verdict_line(bundle: str, passed: bool) -> "Text":
    """Return the last line: the verdict, and where the report is."""
    from rich.text import Text

    word = Text("PASSED", style="bold green") if passed else Text("FAILED", style="bold red")
    return Text.assemble(word, f"  report: {bundle}/report.md")


def plain(text: str) -> "Text":
    """Return text in which square brackets are not rich's markup."""
    from rich.text import Text

    return Text(text)
