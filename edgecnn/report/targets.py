"""Targets side by side: their states, and what both models answered on each."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edgecnn.bundle.manifest import Difference, ValidationFailure, ValidationResult
from edgecnn.report.text import class_table, distinct, model_sentences, new_table, plain, validation_table

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_CPU = "CPUExecutionProvider"
#: Targets whose tables by class still fit on a screen.
_FEW = 3


def validation_items(results: Sequence[ValidationResult]) -> "list[RenderableType]":
    """Return accuracy, the drop by class, and how other targets compare with this machine's CPU.

    The drop by class is shown of every target that answers otherwise, of many targets only of the first.
    """
    if not results:
        return []
    many = len(results) > _FEW
    classes = results[:1] if many else distinct(results)
    items: list[RenderableType] = [validation_table(results), *map(plain, model_sentences(results))]
    items += [class_table(row) for row in classes]
    if any(row.int8_against_cpu for row in results):
        items.append(comparison_table(results))
        items += [plain(sentence) for sentence in fallback_sentences(results)]
    return items


def comparison_table(results: Sequence[ValidationResult]) -> "Table":
    """Return both models on each target: where their nodes ran, and how their answers differ from this CPU's."""
    columns = ("target", "answer", "model", "nodes", "top-1", "points", "flips", "largest")
    table = new_table("Nodes there + on the CPU; against this CPU: points, flips, logits", *columns)
    table.collapse_padding = True
    table.columns[0].no_wrap = True
    for result in results:
        head = (result.target, result.how or "")
        for name, nodes, top1, against in (
            ("float", result.float_nodes, result.float_top1, result.float_against_cpu),
            ("int8", result.int8_nodes, result.int8_top1, result.int8_against_cpu),
        ):
            table.add_row(*head, name, placement(nodes, result.provider), f"{top1:.2%}", *_difference(against))
            head = ("", "")
    return table


def fallback_sentences(results: Sequence[ValidationResult]) -> list[str]:
    """Return which targets left nodes to the CPU, and how many: their figures are partly the CPU's."""
    sentences = []
    for result in results:
        left = [
            f"{nodes[_CPU]} of {sum(nodes.values())} nodes of {model}"
            for model, nodes in (("float.onnx", result.float_nodes), (result.int8_model, result.int8_nodes))
            if result.provider != _CPU and nodes.get(_CPU)
        ]
        if left:
            sentences.append(
                f"{result.target}: the CPU ran {' and '.join(left)}, which {result.provider} does not take; "
                "--allow-cpu-nodes 0 refuses that."
            )
    return sentences


def placement(nodes: Mapping[str, int], provider: str | None) -> str:
    """Return how many nodes the provider ran, and how many the CPU ran in its place: ``30+4``."""
    if provider is None or not nodes:
        return ""
    return f"{nodes.get(provider, 0)}+{0 if provider == _CPU else nodes.get(_CPU, 0)}"


def _difference(against: Difference | None) -> tuple[str, str, str]:
    if against is None:
        return "", "", ""
    change = "" if against.top1_change_pp is None else f"{against.top1_change_pp:+.2f}"
    return change, str(against.argmax_flips), f"{against.max_abs_logit_difference:.2g}"


def failure_items(failures: Sequence[ValidationFailure]) -> "list[RenderableType]":
    """Return the targets that gave no figures, and why."""
    if not failures:
        return []
    table = new_table("No figures", "target", "why not", "what to do")
    for column in table.columns:
        column.justify = "left"
    for failure in failures:
        table.add_row(failure.target, plain(failure.reason), plain(failure.next_step))
    return [table]


def states_table(rows: Sequence[tuple[str, str, str, str | None, str]]) -> "Table":
    """Return each target: name, summary, state, why it cannot run here, and what would help."""
    from rich.text import Text

    table = new_table("Targets", "target", "state here", "what it is")
    for column in table.columns:
        column.justify = "left"
    words = {"installable": "installable", "impossible": "not possible here"}
    for name, summary, state, why_not, remedy in rows:
        ready = Text("ready", style="green")
        told = ready if why_not is None else Text(f"{words[state]}: {why_not}; {remedy}")
        table.add_row(name, told, summary)
    return table
