"""A profile of operators for the terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgecnn.bundle.operators import LayerTimes, ModelProfile, OperatorProfile
from edgecnn.report.text import new_table, plain

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

#: The operators that take longest; all of them are in ``--json`` and in the saved file.
SHOWN = 8


def profile_items(profiles: Sequence[OperatorProfile]) -> "list[RenderableType]":
    """Return each profile: layers side by side, what is slower in int8, overhead, and the longest operators."""
    items: list[RenderableType] = []
    for profile in profiles:
        where = f"{profile.target}, batch {profile.batch}, {profile.threads} threads"
        items += [layers_table(where, profile.layers), slower_sentence(profile)]
        items += [overhead_sentence("float", profile.float_model), overhead_sentence("int8", profile.int8_model)]
        items += [operators_table("float", profile.float_model), operators_table("int8", profile.int8_model)]
        items.append(
            plain(f"{where}: medians over {_runs(profile)} runs, with about 1 us of the profiler's own in each.")
        )
    return items


def layers_table(where: str, layers: Sequence[LayerTimes]) -> "Table":
    """Return every layer with its time in both models."""
    table = new_table(f"Layers on {where}, us", "layer", "op", "float", "int8", "")
    for layer in layers:
        word = plain("SLOWER in int8" if layer.slower_in_int8 else "")
        table.add_row(plain(layer.layer), layer.op, _us(layer.float_us), _us(layer.int8_us), word)
    return table


def slower_sentence(profile: OperatorProfile) -> "Text":
    """Return the names of the layers that are slower in int8."""
    slower = [layer.layer for layer in profile.layers if layer.slower_in_int8]
    if not slower:
        return plain("No layer is slower in int8 than in float.")
    return plain(f"Slower in int8 than in float: {', '.join(slower)}.")


def overhead_sentence(name: str, model: ModelProfile) -> "Text":
    """Return what converting and rearranging take together, by operator."""
    by_op: dict[str, float] = {}
    for operator in model.operators:
        if operator.overhead:
            by_op[operator.op] = by_op.get(operator.op, 0.0) + operator.us
    share = model.overhead_us / model.total_us if model.total_us else 0.0
    parts = ", ".join(f"{op} {us:.1f} us" for op, us in sorted(by_op.items(), key=lambda item: -item[1]))
    return plain(f"{name}: {share:.0%} of {model.total_us:.1f} us only converts or rearranges: {parts or 'nothing'}.")


def operators_table(name: str, model: ModelProfile) -> "Table":
    """Return the operators that take longest."""
    ordered = sorted(model.operators, key=lambda operator: -operator.us)
    title = f"{name}: longest of {len(ordered)} operators, us"
    table = new_table(title, "operator", "type", "layer", "median", "share")
    for operator in ordered[:SHOWN]:
        row = (operator.op, plain(operator.layer or ""), f"{operator.us:.1f}", f"{operator.share:.1%}")
        table.add_row(plain(operator.name), *row)
    return table


def _runs(profile: OperatorProfile) -> str:
    counts = sorted({profile.float_model.runs, profile.int8_model.runs})
    return " and ".join(map(str, counts))


def _us(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f}"
