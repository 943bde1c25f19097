"""Float and int8 by the rules of MLPerf Tiny: speed in windows, accuracy on a small and on the full test set."""

from datetime import UTC, datetime

import numpy as np

from edgecnn.bundle import Bundle
from edgecnn.bundle.mlperf_tiny import TinyModel, TinyResult
from edgecnn.data import Images
from edgecnn.errors import UsageError
from edgecnn.measure import mlperf_tiny as rules
from edgecnn.measure.accuracy import top1
from edgecnn.measure.bench_settings import BenchSettings
from edgecnn.measure.cpus import pinned
from edgecnn.measure.machine import describe_machine
from edgecnn.measure.noise import NoiseWatch
from edgecnn.pipeline.bench_models import Models
from edgecnn.pipeline.context import Options, choose_dataset
from edgecnn.pipeline.validation_job import require_same_classes
from edgecnn.progress import Progress
from edgecnn.targets import Session

PROTOCOL = "mlperf-tiny"


def run_mlperf_tiny(
    bundle: Bundle, models: Models, *, target: str, settings: BenchSettings, window_seconds: float, options: Options
) -> TinyResult:
    """Measure both models of a bundle on its own test images; nothing is written.

    Args:
        bundle: whose images they are.
        models: float and int8.
        target: a row of the target table with a clock.
        settings: threads, ``through`` and seed; the batch is 1.
        window_seconds: length of each of the five windows; shorter than ten is said in the result.
        options: where the images are.

    Raises:
        UsageError: another batch than 1.
        DataError: the bundle's images are not to be had, or others were given that have other classes.
    """
    if settings.batch != 1:
        raise UsageError(
            f"bench: {PROTOCOL} is at batch 1, found --batch {settings.batch}.",
            next_step=f"--protocol {PROTOCOL} --batch 1",
        )
    dataset = choose_dataset(options, bundle.manifest, models.height, models.width)
    require_same_classes(bundle, dataset, "bench")
    images = dataset.test
    chosen = rules.balanced_indices(images.labels, n_classes=len(images.classes))
    machine = describe_machine()
    with pinned(settings.threads) as cpus:
        sessions = [models.open(name, target, settings.threads) for name in models.names]
        watch = NoiseWatch(cpus=cpus)
        windows, unsettled = rules.time_windows(
            sessions,
            images.take(np.array(chosen)),
            seconds=window_seconds,
            through=settings.through,
            seed=settings.seed,
            watch=watch,
            progress=options.progress,
        )
        noise = watch.finish(
            1e6 / np.sqrt(np.prod(windows, axis=0)), sessions=2 * rules.WINDOWS, unsteady_sessions=unsettled
        )
    of_float, of_int8 = (
        _model(session, name, images, chosen, found, options.progress)
        for session, name, found in zip(sessions, models.names, windows, strict=True)
    )
    return TinyResult(
        target=target,
        threads=settings.threads,
        window_seconds=window_seconds,
        float_model=of_float,
        int8_model=of_int8,
        n_balanced=len(chosen),
        n_full=len(images),
        departures=tuple(rules.departures(images, chosen, window_seconds)),
        noise=noise,
        measured_at=datetime.now(UTC).replace(microsecond=0),
        machine=machine,
    )


def _model(
    session: Session, name: str, images: Images, chosen: list[int], windows: list[float], progress: Progress
) -> TinyModel:
    accuracy = top1(session, images, name=name, progress=progress)
    return TinyModel(
        inferences_per_second=float(np.median(windows)),
        windows=tuple(windows),
        balanced_top1=float(accuracy.per_image_correct[chosen].mean()),
        full_top1=accuracy.top1,
    )
