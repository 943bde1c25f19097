"""How a run measures its targets: of several, one that fails does not lose the others' figures."""

from collections.abc import Sequence
from datetime import UTC, datetime

from edgecnn.bundle import Bundle
from edgecnn.bundle.manifest import Manifest, ValidationFailure
from edgecnn.data import Dataset
from edgecnn.errors import EdgecnnError
from edgecnn.measure.bench_settings import BenchSettings
from edgecnn.pipeline.bench import bench_stage
from edgecnn.pipeline.context import Options, Outcome
from edgecnn.pipeline.validate import validate_stage


def validate_targets(
    bundle: Bundle, dataset: Dataset, options: Options, targets: Sequence[str], *, allow_cpu_nodes: int
) -> Outcome:
    """Validate; what gave no figures the last time is asked again, for its next step may have been taken."""
    return validate_stage(
        bundle,
        dataset,
        options,
        targets,
        allow_cpu_nodes=allow_cpu_nodes,
        always=bool(without_answers(bundle.manifest, targets)),
        keep_going=len(targets) > 1,
    )


def without_answers(manifest: Manifest, targets: Sequence[str]) -> tuple[ValidationFailure, ...]:
    """Return the failures of these targets that the manifest holds."""
    return tuple(failure for failure in manifest.validation_failures if failure.target in targets)


def bench_targets(
    bundle: Bundle,
    options: Options,
    targets: Sequence[str],
    settings: BenchSettings,
    *,
    allow_cpu_nodes: int,
    lost: list[ValidationFailure],
) -> Outcome:
    """Measure the latency of the targets that answered, or of all of them if none did.

    Args:
        bundle: locked.
        options: of the run.
        targets: rows of the target table that have a clock.
        settings: how latency is measured.
        allow_cpu_nodes: how many nodes of each model the CPU may run in place of a provider.
        lost: takes what a target says that fails while others go on; its stage does not count as done then.
    """
    silent = {failure.target for failure in without_answers(bundle.manifest, targets)}
    asked = [name for name in targets if name not in silent] or list(targets)
    before, errors = bundle.manifest.latency, list[EdgecnnError]()
    outcome = bench_stage(
        bundle,
        options,
        asked,
        settings,
        allow_cpu_nodes=allow_cpu_nodes,
        failures=errors if len(targets) > 1 else None,
    )
    if errors:
        measured = {row.target for row in bundle.manifest.latency if row not in before}
        failed = [name for name in asked if name not in measured]
        lost += [_failure(name, error) for name, error in zip(failed, errors, strict=True)]
        bundle.amend({"stages": {name: one for name, one in bundle.manifest.stages.items() if name != "bench"}})
    return outcome


def _failure(target: str, error: EdgecnnError) -> ValidationFailure:
    return ValidationFailure(
        target=target,
        reason=error.message,
        next_step=error.next_step,
        exit_code=error.exit_code,
        failed_at=datetime.now(UTC).replace(microsecond=0),
    )


def failures_of(
    manifest: Manifest, targets: Sequence[str], lost: Sequence[ValidationFailure]
) -> tuple[ValidationFailure, ...]:
    """Return why targets gave no figures, each once: of one that did not even answer, that."""
    silent = without_answers(manifest, targets)
    known = {failure.target for failure in silent}
    return (*silent, *(failure for failure in lost if failure.target not in known))
