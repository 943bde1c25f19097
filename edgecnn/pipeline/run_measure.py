"""How a run measures latency: of several targets, one that fails does not lose the others' figures."""

from collections.abc import Mapping, Sequence

from edgecnn.bundle import Bundle
from edgecnn.bundle.manifest import Manifest, ValidationFailure
from edgecnn.measure.bench_settings import BenchSettings
from edgecnn.pipeline.bench import bench_stage
from edgecnn.pipeline.context import Options, Outcome
from edgecnn.pipeline.validation_job import without_answers


def bench_targets(
    bundle: Bundle,
    options: Options,
    targets: Sequence[str],
    settings: BenchSettings,
    *,
    cpu_nodes: Mapping[str, int],
    lost: list[ValidationFailure],
) -> Outcome:
    """Measure the latency of the targets that answered, or of all of them if none did.

    Args:
        bundle: locked.
        options: of the run.
        targets: rows of the target table that have a clock.
        settings: how latency is measured.
        cpu_nodes: how many of a model's nodes the CPU may run in place of each target's provider.
        lost: takes what a target says that fails while others go on.
    """
    silent = {failure.target for failure in without_answers(bundle.manifest, targets)}
    asked = [name for name in targets if name not in silent] or list(targets)
    failures = lost if len(targets) > 1 else None
    return bench_stage(bundle, options, asked, settings, cpu_nodes=cpu_nodes, failures=failures)


def failures_of(
    manifest: Manifest, targets: Sequence[str], lost: Sequence[ValidationFailure]
) -> tuple[ValidationFailure, ...]:
    """Return why targets gave no figures, each once: of one that did not even answer, that."""
    silent = without_answers(manifest, targets)
    known = {failure.target for failure in silent}
    return (*silent, *(failure for failure in lost if failure.target not in known))
