"""All that one ``edgecnn validate`` is asked: the verdict, and of the manifest the targets that were named."""

from collections.abc import Sequence
from dataclasses import dataclass

from edgecnn.bundle.manifest import ValidationResult
from edgecnn.bundle.prediction import PredictionRecord
from edgecnn.pipeline.context import Options, Outcome
from edgecnn.pipeline.validate import validate
from edgecnn.pipeline.verdict import Gates, Verdict
from edgecnn.targets.choice import ALL, choose_targets


@dataclass(frozen=True, kw_only=True)
class Validated:
    """What one call measured.

    Attributes:
        outcome: with the whole manifest, results of earlier calls on other targets included.
        verdict: its checks are those of ``results``, in their order.
        results: of the targets that were named and answered.
        predictions: of CoreML and NNAPI, if all targets were asked.
    """

    outcome: Outcome
    verdict: Verdict
    results: tuple[ValidationResult, ...]
    predictions: tuple[PredictionRecord, ...]


def take_validation(
    *,
    targets: Sequence[str],
    n_images: int | None = None,
    allow_cpu_nodes: int = 0,
    gates: Gates | None = None,
    options: Options | None = None,
) -> Validated:
    """Validate, and pick what was asked out of what the bundle holds; see :func:`edgecnn.pipeline.validate.validate`.

    Args:
        targets: rows of the target table, or ``all``.
        n_images: how many of the test images.
        allow_cpu_nodes: how many nodes of each model the CPU may run in place of a provider.
        gates: ``max_drop_pp`` decides the verdict.
        options: bundle, data, and so on.

    Raises:
        EdgecnnError: as ``validate``.
    """
    chosen = choose_targets(targets)
    outcome, verdict = validate(
        targets=targets, n_images=n_images, allow_cpu_nodes=allow_cpu_nodes, gates=gates, options=options
    )
    manifest = outcome.manifest
    return Validated(
        outcome=outcome,
        verdict=verdict,
        results=tuple(row for row in manifest.validation if row.target in chosen),
        predictions=manifest.predictions if ALL in targets else (),
    )
