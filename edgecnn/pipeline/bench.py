"""Stage 6: is int8 faster than float? Measured in turns on the same machine."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from edgecnn.bundle import Bundle
from edgecnn.bundle.atomic import sha256_bytes
from edgecnn.bundle.latency import LatencyResult, Startup
from edgecnn.bundle.locate import newest_folder
from edgecnn.bundle.record import MachineRecord
from edgecnn.bundle.tuning import RecommendationRecord
from edgecnn.errors import EdgecnnError, StageError, TargetError
from edgecnn.measure.bench_settings import BenchSettings
from edgecnn.measure.cpus import pinned
from edgecnn.measure.latency import ModelTimes, compare_latency
from edgecnn.measure.machine import describe_machine
from edgecnn.measure.memory import peak_memory_bytes, runtime_memory_bytes
from edgecnn.measure.noise import NoiseWatch
from edgecnn.measure.turns import feed_batch
from edgecnn.pipeline.answers import require_count
from edgecnn.pipeline.context import Options, Outcome, Work, input_size, read_model, working_on
from edgecnn.pipeline.export import FLOAT_MODEL
from edgecnn.pipeline.quantize import INT8_MODEL
from edgecnn.pipeline.report import report_stage
from edgecnn.pipeline.validate import model_hashes
from edgecnn.pipeline.verdict import Gates, Verdict, check_speedup, merge
from edgecnn.progress import Progress
from edgecnn.targets import Clock, Session, open_session, require, require_clock, running
from edgecnn.targets import target as target_row
from edgecnn.targets.choice import choose_targets
from edgecnn.targets.native import NativeSession
from edgecnn.targets.session_options import DEFAULT_SESSION
from edgecnn.targets.worker_session import WorkerSession


@dataclass(frozen=True, kw_only=True)
class Models:
    """Both models of a bundle, checked against its manifest, and something to feed them."""

    of_float: bytes
    of_int8: bytes
    height: int
    width: int
    recommendation: RecommendationRecord | None = None
    allow_cpu_nodes: int = 0

    @classmethod
    def read(cls, bundle: Bundle, int8: str = INT8_MODEL, *, allow_cpu_nodes: int = 0) -> "Models":
        """Read float.onnx and an int8 model; raises as :func:`bench`."""
        of_float = read_model(bundle, FLOAT_MODEL, next_step="edgecnn export model.pt")
        of_int8 = read_model(bundle, int8, next_step="edgecnn quantize")
        height, width = input_size(bundle, FLOAT_MODEL)
        return cls(
            of_float=of_float,
            of_int8=of_int8,
            height=height,
            width=width,
            recommendation=bundle.manifest.recommendation,
            allow_cpu_nodes=allow_cpu_nodes,
        )

    def open(self, name: str, target: str, threads: int) -> Session:
        """Open one of them on a target, int8 as its tuning there says."""
        session = self.int8_session(target) if name == INT8_MODEL else DEFAULT_SESSION
        return open_session(
            target,
            self.bytes_of(name),
            model_name=name,
            threads=threads,
            options_name=session,
            allow_cpu_nodes=self.allow_cpu_nodes,
        )

    def int8_session(self, target: str) -> str:
        """Return the row of the table of session options that a tuning of this very int8 recommends for a target."""
        found = self.recommendation
        if found is None or found.target != target or found.sha256 != sha256_bytes(self.of_int8):
            return DEFAULT_SESSION
        return found.configuration.session

    def bytes_of(self, name: str) -> bytes:
        """Return the file of that name."""
        return {FLOAT_MODEL: self.of_float, INT8_MODEL: self.of_int8}[name]

    def noise(self, batch: int, *, seed: int) -> NDArray[np.uint8]:
        """Return random uint8 pixels ``[batch, H, W, 3]``, the same on every machine."""
        shape = (batch, self.height, self.width, 3)
        return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def bench(
    *,
    targets: Sequence[str] = ("cpu",),
    settings: BenchSettings | Sequence[BenchSettings] | None = None,
    allow_cpu_nodes: int = 0,
    gates: Gates | None = None,
    options: Options | None = None,
) -> tuple[Outcome, list[LatencyResult], Verdict]:
    """Measure the latency of float and int8 in turns, in fresh pairs of sessions, on each target.

    No images are needed: the time of a convolution does not depend on what is in the picture.

    Args:
        targets: rows of the target table, or ``all`` for every one that is ready here and has a clock. Where one of
            several fails, the others' figures are kept before its error is raised.
        settings: batch, threads, rounds and so on; several are measured one after the other.
        allow_cpu_nodes: how many nodes of each model the CPU may run in place of a provider that does not take them.
        gates: ``require_speedup`` decides the verdict.
        options: bundle (default: the newest), and so on.

    Raises:
        UsageError: no such target, one that is emulated, or settings that cannot be measured.
        TargetError: a target is not available here; nothing is measured then.
        BundleError: a model is missing or was changed.
    """
    options = options or Options()
    gates = gates or Gates()
    chosen = _each(settings)
    require_count(allow_cpu_nodes)
    targets = choose_targets(targets, timed=True)
    for name in targets:
        require_clock(name)
        require(name)
    failures: list[EdgecnnError] = []
    with working_on(options.bundle or newest_folder()) as bundle:
        outcome = bench_stage(
            bundle,
            options,
            targets,
            chosen,
            allow_cpu_nodes=allow_cpu_nodes,
            always=True,
            failures=failures if len(targets) > 1 else None,
        )
        results = _measured_with(bundle, targets, chosen)
        checks = tuple(check_speedup(result) for result in results) if gates.require_speedup else ()
        verdict = Verdict(checks=checks)
        bundle.amend({"checks": merge(bundle.manifest.checks, verdict.checks)})
        report_stage(bundle)
        if failures:
            raise failures[0]
        return outcome, results, verdict


def bench_stage(
    bundle: Bundle,
    options: Options,
    targets: Sequence[str] = ("cpu",),
    settings: BenchSettings | Sequence[BenchSettings] | None = None,
    *,
    allow_cpu_nodes: int = 0,
    always: bool = False,
    failures: list[EdgecnnError] | None = None,
) -> Outcome:
    """Benchmark inside a locked bundle; see :func:`bench`.

    Args:
        allow_cpu_nodes: how many nodes of each model the CPU may run in place of a provider.
        always: measure even if the manifest has these figures: who types ``bench`` wants to see it run.
        failures: takes the error of a target that fails while the others go on; None to raise it.
    """
    chosen = _each(settings)
    models = Models.read(bundle, allow_cpu_nodes=allow_cpu_nodes)
    machine = describe_machine()
    work = Work(
        bundle=bundle,
        stage="bench",
        inputs=model_hashes(bundle),
        settings={
            "targets": list(targets),
            **_recorded(chosen),
            "machine": [machine.architecture, machine.cpu],
            "versions": dict(machine.versions),
            **({"allow_cpu_nodes": allow_cpu_nodes} if allow_cpu_nodes else {}),
        },
    )
    if not options.force and not always and work.is_done():
        return work.unchanged()
    results = measure_latency(targets, models, chosen, options.progress, failures=failures)
    replaced = {_key(result) for result in results}
    kept = [old for old in bundle.manifest.latency if _key(old) not in replaced]
    return work.finish((), {"latency": (*kept, *results)})


def measure_latency(
    targets: Sequence[str],
    models: Models,
    settings: Sequence[BenchSettings],
    progress: Progress,
    *,
    failures: list[EdgecnnError] | None = None,
) -> list[LatencyResult]:
    """Measure both models on each target, said twice or not, with each setting.

    Args:
        targets: rows of the target table.
        models: what is measured.
        settings: each is measured.
        progress: told the pairs done.
        failures: takes the error of a target that fails while the others go on; None to raise it.
    """
    results: list[LatencyResult] = []
    for target in dict.fromkeys(targets):
        try:
            results += [_bench_on(target, models, each, progress) for each in settings]
        except (TargetError, StageError) as error:
            if failures is None:
                raise
            failures.append(error)
    return results


def _each(settings: BenchSettings | Sequence[BenchSettings] | None) -> tuple[BenchSettings, ...]:
    if settings is None or isinstance(settings, BenchSettings):
        return (settings or BenchSettings(),)
    return tuple(dict.fromkeys(settings))


def _recorded(settings: Sequence[BenchSettings]) -> dict[str, JsonValue]:
    """Return each setting by name, or a list of them where they differ."""
    columns: dict[str, list[JsonValue]] = {name: [] for name in asdict(settings[0])}
    for each in settings:
        for name, value in asdict(each).items():
            columns[name].append(value)
    return {name: values if len(set(map(str, values))) > 1 else values[0] for name, values in columns.items()}


def _key(result: LatencyResult) -> tuple[str, int, int, str]:
    return result.target, result.batch, result.threads, result.through


def _measured_with(bundle: Bundle, targets: Sequence[str], settings: Sequence[BenchSettings]) -> list[LatencyResult]:
    """Return the results of one call: these targets with these settings."""
    wanted = {(target, each.batch, each.threads, each.through) for target in targets for each in settings}
    return [result for result in bundle.manifest.latency if _key(result) in wanted]


def _bench_on(target: str, models: Models, settings: BenchSettings, progress: Progress) -> LatencyResult:
    row = target_row(target)
    machine = _machine(target, models, settings.threads)  # before the measurement adds its own load
    clock: Clock = row.clock_here
    pixels = models.noise(settings.batch, seed=settings.seed)
    open_float, open_int8 = (partial(models.open, name, target, settings.threads) for name in (FLOAT_MODEL, INT8_MODEL))
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
            for name, times in ((FLOAT_MODEL, paired.of_float), (INT8_MODEL, paired.of_int8))
        ]
    return LatencyResult(
        target=target,
        batch=settings.batch,
        threads=settings.threads,
        through=settings.through,
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
    with running(
        target, models.of_float, model_name=FLOAT_MODEL, threads=threads, allow_cpu_nodes=models.allow_cpu_nodes
    ) as session:
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
