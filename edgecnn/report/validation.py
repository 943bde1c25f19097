"""One ``edgecnn validate`` as tables and as JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgecnn.bundle.manifest import Check, FusionRecord, SaturationRecord, ValidationFailure, ValidationResult
from edgecnn.bundle.prediction import PredictionRecord
from edgecnn.report.fusion import fusion_items
from edgecnn.report.prediction import prediction_items
from edgecnn.report.targets import failure_items, validation_items
from edgecnn.report.text import checks_items, plain, saturation_items, verdict_line
from edgecnn.report.views import validation_view

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True, kw_only=True)
class ValidationFigures:
    """What was measured on the targets that were named, and the gates on it.

    ``saturation`` and ``fusion`` are audits of ``int8.onnx``; None where no target ran it, or what it was rewritten of.
    """

    bundle: str
    results: Sequence[ValidationResult]
    checks: Sequence[Check]
    failures: Sequence[ValidationFailure]
    predictions: Sequence[PredictionRecord]
    saturation: SaturationRecord | None
    fusion: FusionRecord | None
    passed: bool


def validation_figures_items(found: ValidationFigures) -> "list[RenderableType]":
    """Return accuracy, both audits of int8, the targets without figures, predictions and the verdict."""
    return [
        *validation_items(found.results),
        *([] if found.saturation is None else saturation_items(found.saturation)),
        *([] if found.fusion is None else fusion_items(found.fusion)),
        *failure_items(found.failures),
        *(prediction_items(found.predictions) if found.predictions else []),
        *checks_items(found.checks),
        *([plain(unanswered(found.failures))] if found.failures else []),
        verdict_line(found.bundle, found.passed),
    ]


def unanswered(failures: Sequence[ValidationFailure]) -> str:
    """Return why a verdict is not passed though every check may be: who gave no figures."""
    names = ", ".join(failure.target for failure in failures)
    return f"Not passed, whatever the checks say: {names} gave no figures (above)."


def validation_figures_view(found: ValidationFigures) -> dict[str, Any]:
    """Return the object of ``edgecnn validate --json``."""
    return validation_view(
        found.bundle,
        found.results,
        found.checks,
        "passed" if found.passed else "failed",
        found.saturation,
        found.fusion,
        found.failures,
        found.predictions,
    )
