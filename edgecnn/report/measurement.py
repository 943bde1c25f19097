"""One ``edgecnn bench`` as tables."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgecnn.bundle.manifest import Check, ValidationFailure
from edgecnn.bundle.measurement import Measurement
from edgecnn.report.latency import latency_items, protocol_items
from edgecnn.report.operators import profile_items
from edgecnn.report.targets import failure_items
from edgecnn.report.text import checks_table, verdict_line

if TYPE_CHECKING:
    from rich.console import RenderableType


def measurement_items(
    bundle: str, found: Measurement, checks: Sequence[Check], failures: Sequence[ValidationFailure], passed: bool
) -> "list[RenderableType]":
    """Return latency or a protocol's figures, profiles, targets without figures, and the verdict."""
    items: list[RenderableType] = latency_items(found.results) if found.results else []
    if found.protocol is not None:
        items += protocol_items(found.protocol)
    items += profile_items(found.profiles)
    items += failure_items(failures)
    if checks:
        items.append(checks_table(checks))
    return [*items, verdict_line(bundle, passed)] if checks or failures else items
