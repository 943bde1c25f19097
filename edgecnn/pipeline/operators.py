"""Where in float and int8 the time goes, operator by operator."""

from collections.abc import Mapping, Sequence

from edgecnn.bundle.operators import OperatorProfile
from edgecnn.errors import UsageError
from edgecnn.measure import operators
from edgecnn.measure.bench_settings import BenchSettings
from edgecnn.measure.cpus import no_garbage_collection, pinned
from edgecnn.measure.turns import feed_batch
from edgecnn.pipeline.bench_models import Models
from edgecnn.progress import Progress
from edgecnn.targets import target as target_row
from edgecnn.targets.native import NativeSession


def profile_operators(
    models: Mapping[str, Models], *, settings: Sequence[BenchSettings], progress: Progress
) -> list[OperatorProfile]:
    """Profile both models of each target, once for each batch and thread count; nothing is written.

    Raises:
        UsageError: a target does not run in the onnxruntime installed here.
        TargetError: a target is not available here.
        StageError: the profiler wrote something else than expected.
    """
    wanted = dict.fromkeys((target, each.batch, each.threads) for target in models for each in settings)
    found = []
    for done, (target, batch, threads) in enumerate(wanted, start=1):
        with pinned(threads), no_garbage_collection():
            first, second = (_profiled(models[target], name, target, batch, threads) for name in models[target].names)
            of_float, of_int8, layers = operators.profile_operators(
                (first, second),
                provider=target_row(target).provider,
                threads=threads,
            )
        progress.update("profile", done, len(wanted))
        found.append(
            OperatorProfile(
                target=target, batch=batch, threads=threads, float_model=of_float, int8_model=of_int8, layers=layers
            )
        )
    return found


def _profiled(models: Models, name: str, target: str, batch: int, threads: int) -> operators.Profiled:
    pixels = models.noise(batch, seed=0)
    session = models.open(name, target, threads)
    if not isinstance(session, NativeSession):
        raise UsageError(
            f"bench: --profile reads the profiler of the onnxruntime installed here; {target} runs elsewhere.",
            next_step="edgecnn bench --profile --provider cpu",
        )
    return operators.Profiled(model=models.bytes_of(name), name=name, batch=feed_batch(session, pixels, batch))
