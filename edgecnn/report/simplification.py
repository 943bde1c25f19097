"""What simplifying did, as tables and as JSON."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgecnn.bundle.manifest import SimplificationRecord, SkippedPassRecord
from edgecnn.report.text import new_table

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from edgecnn.graph.bisection import LayerLedger
    from edgecnn.graph.simplify import Simplified, SkippedPass
    from edgecnn.graph.tensor_comparison import TensorParity

Json = dict[str, Any]


def nodes_table(before: Mapping[str, int], after: Mapping[str, int]) -> "Table":
    """Return node counts by operator, before and after."""
    rows = new_table("Nodes", "operator", "before", "after")
    for op in sorted({*before, *after}):
        rows.add_row(op, str(before.get(op, 0)), str(after.get(op, 0)))
    rows.add_row("all", str(sum(before.values())), str(sum(after.values())))
    return rows


def simplification_items(record: SimplificationRecord) -> "list[RenderableType]":
    """Return what ``edgecnn simplify`` shows of a bundle: node counts, and what was left out."""
    return [nodes_table(record.nodes_before, record.nodes_after), *_skipped(record.skipped)]


def file_items(path: str, output: str, simplified: "Simplified[TensorParity]") -> "list[RenderableType]":
    """Return what ``edgecnn simplify FILE`` shows: node counts, what was compared, and what was left out."""
    parity = simplified.record
    batches = f" at batch {', '.join(map(str, parity.batch_sizes))}" if parity.batch_sizes else ""
    outputs = "its output is" if parity.outputs == 1 else f"its {parity.outputs} outputs are"
    layers = [] if simplified.layers is None else [f"layer by layer: {simplified.layers}"]
    return [
        nodes_table(simplified.nodes_before, simplified.nodes_after),
        *_skipped(simplified.skipped),
        *layers,
        f"{output}: {outputs} as {path}'s on {parity.n_runs} sets of inputs{batches}; the largest difference is "
        f"{parity.max_relative_difference:.1e} of the largest value, {parity.tolerance:.0e} is allowed.",
    ]


def _skipped(skipped: "Sequence[SkippedPass | SkippedPassRecord]") -> list[str]:
    return [f"onnxsim's {one.name} was left out, for it changed the answers: {one.reason}" for one in skipped]


def simplification_view(record: SimplificationRecord | None) -> Json:
    """Return what ``edgecnn simplify --json`` adds for a bundle."""
    return {} if record is None else {"simplification": record.model_dump(mode="json")}


def file_view(path: str, output: str, sizes_bytes: tuple[int, int], simplified: "Simplified[TensorParity]") -> Json:
    """Return the object of ``edgecnn simplify FILE --json``."""
    parity = simplified.record
    return {
        "model": path,
        "output": output,
        "size_before_bytes": sizes_bytes[0],
        "size_after_bytes": sizes_bytes[1],
        "nodes_before": simplified.nodes_before,
        "nodes_after": simplified.nodes_after,
        "skipped": [{"name": one.name, "reason": one.reason} for one in simplified.skipped],
        "parity": {
            "n_runs": parity.n_runs,
            "outputs": parity.outputs,
            "batch_sizes": list(parity.batch_sizes),
            "max_relative_difference": parity.max_relative_difference,
            "tolerance": parity.tolerance,
        },
        "layers": None if simplified.layers is None else _layers_view(simplified.layers),
        "verdict": "passed",
    }


def _layers_view(layers: "LayerLedger") -> Json:
    return {
        "n": layers.n,
        "n_equal": layers.n_equal,
        "worst_layer": layers.worst_layer,
        "worst_relative": layers.worst_relative,
    }
