"""What ONNX Runtime fuses and what it leaves in float, in words and as a table."""

from typing import TYPE_CHECKING

from edgecnn.bundle.manifest import FusionRecord
from edgecnn.report.text import new_table, plain

if TYPE_CHECKING:
    from rich.console import RenderableType


def fusion_sentence(record: FusionRecord) -> str:
    """Return how the answers with and without graph optimizations compare."""
    return (
        f"ONNX Runtime's graph optimizations change the class of {record.argmax_flips} of {record.n} images, and no "
        f"logit by more than {record.max_abs_logit_difference:.2g}."
    )


def floats_by_reason(record: FusionRecord) -> list[tuple[str, str, str]]:
    """Return operator, why it runs in float, and the layers, in the order of the graph."""
    return [(op, reason, ", ".join(layers)) for (op, reason), layers in _by_reason(record).items()]


def _by_reason(record: FusionRecord) -> dict[tuple[str, str], list[str]]:
    found: dict[tuple[str, str], list[str]] = {}
    for one in record.unfused:
        found.setdefault((one.op, one.reason), []).append(one.layer)
    return found


def fusion_items(record: FusionRecord) -> "list[RenderableType]":
    """Return what ``edgecnn validate`` shows: the comparison, and what runs in float beside integers."""
    if not record.unfused:
        return [fusion_sentence(record)]
    rows = new_table("In float beside integers", "operator", "nodes", "why")
    rows.columns[2].justify = "left"
    for (op, reason), layers in _by_reason(record).items():
        rows.add_row(plain(op), str(len(layers)), plain(reason))
    return [rows, fusion_sentence(record)]
