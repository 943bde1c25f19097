"""Where in float and int8 the time goes, operator by operator."""

from collections.abc import Sequence

from edgecnn.bundle import Bundle
from edgecnn.bundle.operators import OperatorProfile
from edgecnn.errors import UsageError
from edgecnn.measure import operators
from edgecnn.measure.bench_settings import BenchSettings
from edgecnn.measure.cpus import no_garbage_collection, pinned
from edgecnn.measure.turns import feed_batch
from edgecnn.pipeline.bench import Models
from edgecnn.pipeline.export import FLOAT_MODEL
from edgecnn.pipeline.quantize import INT8_MODEL
from edgecnn.progress import Progress
from edgecnn.targets import target as target_row
from edgecnn.targets.native import NativeSession


def profile_operators(
    bundle: Bundle, *, targets: Sequence[str], settings: Sequence[BenchSettings], progress: Progress
) -> list[OperatorProfile]:
    """Profile both models on each target, once for each batch and thread count; nothing is written.

    Raises:
        BundleError: a model is missing or was changed.
        UsageError: a target does not run in the onnxruntime installed here.
        TargetError: a target is not available here.
        StageError: the profiler wrote something else than expected.
    """
    models = Models.read(bundle)
    wanted = dict.fromkeys((target, each.batch, each.threads) for target in targets for each in settings)
    found = []
    for done, (target, batch, threads) in enumerate(wanted, start=1):
        with pinned(threads), no_garbage_collection():
            of_float, of_int8, layers = operators.profile_operators(
                (
                    _profiled(models, FLOAT_MODEL, target, batch, threads),
                    _profiled(models, INT8_MODEL, target, batch, threads),
                ),
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
