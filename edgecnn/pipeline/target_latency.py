"""Float and int8 in turns on several targets: their latency, start-up and memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import numpy as np
from numpy.typing import NDArray

from edgecnn.bundle.latency import LatencyResult, Startup
from edgecnn.bundle.manifest import ValidationFailure
from edgecnn.bundle.record import MachineRecord
from edgecnn.errors import ModelError, StageError, TargetError
from edgecnn.measure.bench_settings import BenchSettings
from edgecnn.measure.cpus import pinned
from edgecnn.measure.latency import ModelTimes, compare_latency
from edgecnn.measure.machine import describe_machine
from edgecnn.measure.memory import peak_memory_bytes, runtime_memory_bytes
from edgecnn.measure.noise import NoiseWatch
from edgecnn.measure.turns import feed_batch
from edgecnn.pipeline.bench_models import Models
from edgecnn.pipeline.export import FLOAT_MODEL
from edgecnn.pipeline.verdict import failed_target
from edgecnn.progress import Progress
from edgecnn.targets import Clock, running
from edgecnn.targets import target as target_row
from edgecnn.targets.native import NativeSession
from edgecnn.targets.worker_session import WorkerSession


@dataclass(frozen=True, kw_only=True)
class TargetLatency:
    """What was measured, and which targets gave no figures."""

    results: tuple[LatencyResult, ...]
    failures: tuple[ValidationFailure, ...]


def measure_latency(
    models: Mapping[str, Models], settings: Sequence[BenchSettings], progress: Progress, *, keep_going: bool
) -> TargetLatency:
    """Measure both models on each target with each setting.

    Args:
        models: what is measured on each target.
        settings: each is measured.
        progress: told the pairs done.
        keep_going: whether a target that fails is told among the failures; else its error is raised.
    """
    results: list[LatencyResult] = []
    failures: list[ValidationFailure] = []
    for target, both in models.items():
        try:
            results += [_bench_on(target, both, each, progress) for each in settings]
        except (TargetError, StageError, ModelError) as error:
            if not keep_going:
                raise
            failures.append(failed_target(target, error))
    return TargetLatency(results=tuple(results), failures=tuple(failures))


def _bench_on(target: str, models: Models, settings: BenchSettings, progress: Progress) -> LatencyResult:
    row = target_row(target)
    machine = _machine(target, models, settings.threads)  # before the measurement adds its own load
    clock: Clock = row.clock_here
    pixels = models.noise(settings.batch, seed=settings.seed)
    open_float, open_int8 = (partial(models.open, name, target, settings.threads) for name in models.names)
    with pinned(settings.threads) as cpus:
        watch = NoiseWatch(cpus=cpus)
        paired = compare_latency(open_float, open_int8, pixels, settings, progress, between=watch.sample)
        noise = (
            None
            if row.remote
            else watch.finish(
                np.sqrt(paired.of_float.medians_us * paired.of_int8.medians_us),
                sessions=2 * paired.pairs,
                unsteady_sessions=paired.of_float.unsettled + paired.of_int8.unsettled,
            )
        )
        startups = [
            _startup(name, target, models, pixels, settings, times)
            for name, times in zip(models.names, (paired.of_float, paired.of_int8), strict=True)
        ]
    return LatencyResult(
        target=target,
        batch=settings.batch,
        threads=settings.threads,
        through=settings.through,
        int8_model=models.int8,
        int8_session=models.int8_session(target),
        clock=clock,
        float_latency=paired.float_latency,
        int8_latency=paired.int8_latency,
        speedup=paired.speedup,
        verdict=paired.verdict,
        precision=paired.precision,
        float_startup=startups[0],
        int8_startup=startups[1],
        noise=noise,
        float_medians_us=tuple(map(float, paired.of_float.medians_us)),
        int8_medians_us=tuple(map(float, paired.of_int8.medians_us)),
        pairs=paired.pairs,
        rounds=settings.rounds,
        pinned_cpus=() if row.remote else cpus,
        measured_at=datetime.now(UTC).replace(microsecond=0),
        machine=machine,
    )


def _machine(target: str, models: Models, threads: int) -> MachineRecord:
    """Return what machine a target is, asked of itself where it is not this process."""
    if target_row(target).runtime_here is None:
        return describe_machine()
    allowed = models.cpu_nodes.get(target, 0)
    with running(target, models.of_float, model_name=FLOAT_MODEL, threads=threads, allow_cpu_nodes=allowed) as session:
        assert isinstance(session, WorkerSession)
        return session.machine


def _startup(
    name: str, target: str, models: Models, pixels: NDArray[np.uint8], settings: BenchSettings, times: ModelTimes
) -> Startup:
    model, row, peak, runtime = models.bytes_of(name), target_row(target), None, None
    if row.runtime_here is None and isinstance(session := models.open(name, target, settings.threads), NativeSession):
        # This process's memory says nothing of another runtime's.
        batch = feed_batch(session, pixels, settings.batch)
        peak = peak_memory_bytes(model, batch, provider=row.provider, threads=settings.threads)
        runtime = runtime_memory_bytes()
    return Startup(
        size_bytes=len(model),
        load_us=times.load_us,
        first_us=times.first_us,
        peak_memory_bytes=peak,
        runtime_memory_bytes=runtime,
    )
