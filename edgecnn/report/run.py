"""One ``edgecnn run`` as tables: what the bundle holds now, and the verdict."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgecnn.bundle.manifest import Check, Manifest, ValidationFailure
from edgecnn.bundle.prediction import PredictionRecord
from edgecnn.bundle.shipped import shipped_latency, shipped_validation
from edgecnn.report.fit import fitted_items
from edgecnn.report.latency import latency_items
from edgecnn.report.prediction import prediction_items
from edgecnn.report.targets import failure_items
from edgecnn.report.text import artifacts_table, checks_items, model_sentences, plain, validation_table, verdict_line
from edgecnn.report.tuning import recommendation_sentence

if TYPE_CHECKING:
    from rich.console import RenderableType


def run_items(
    bundle: str,
    manifest: Manifest,
    checks: Sequence[Check],
    passed: bool,
    *,
    fitting: bool,
    failures: Sequence[ValidationFailure] = (),
    predictions: Sequence[PredictionRecord] = (),
) -> "list[RenderableType]":
    """Return files, accuracy and latency of what each target runs, what to ship, and all that is left to say.

    Args:
        bundle: its folder.
        manifest: after the run.
        checks: of the gates.
        passed: the verdict over them.
        fitting: whether the run made models for targets, which are shown then.
        failures: of targets that gave no figures.
        predictions: of targets that can only be predicted.
    """
    accuracy = shipped_validation(manifest)
    return [
        artifacts_table(manifest.artifacts),
        validation_table(accuracy),
        *map(plain, model_sentences(accuracy)),
        *(fitted_items(manifest.fitted, manifest.artifacts) if fitting else ()),
        *latency_items(shipped_latency(manifest)),
        *([] if manifest.recommendation is None else [recommendation_sentence(manifest.recommendation)]),
        *failure_items(failures),
        *(prediction_items(predictions) if predictions else []),
        *checks_items(checks),
        verdict_line(bundle, passed),
    ]
