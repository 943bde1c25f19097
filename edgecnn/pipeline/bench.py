"""Stage 6: is int8 faster than float? Measured in turns on the same machine."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from edgecnn.bundle import Bundle
from edgecnn.bundle.locate import newest_folder
from edgecnn.bundle.manifest import LatencyResult
from edgecnn.measure.latency import BenchSettings, compare_latency, pinned
from edgecnn.measure.machine import describe_machine
from edgecnn.pipeline.context import Options, Outcome, Work, input_size, read_model, working_on
from edgecnn.pipeline.export import FLOAT_MODEL
from edgecnn.pipeline.quantize import INT8_MODEL
from edgecnn.pipeline.report import report_stage
from edgecnn.pipeline.validate import model_hashes
from edgecnn.pipeline.verdict import Gates, Verdict, check_speedup, merge
from edgecnn.targets import TARGETS, Clock, Session, open_session, require, require_clock


def bench(
    *,
    targets: Sequence[str] = ("cpu",),
    settings: BenchSettings | None = None,
    gates: Gates | None = None,
    options: Options | None = None,
) -> tuple[Outcome, list[LatencyResult], Verdict]:
    """Measure the latency of float and int8 in turns, in fresh pairs of sessions, on each target.

    No images are needed: the time of a convolution does not depend on what is in the picture.

    Args:
        targets: rows of the target table.
        settings: batch, threads, rounds and so on.
        gates: ``require_speedup`` decides the verdict.
        options: bundle (default: the newest), and so on.

    Raises:
        UsageError: no such target, one that is emulated, or settings that cannot be measured.
        TargetError: a target is not available here; nothing is measured then.
        BundleError: a model is missing or was changed.
    """
    options = options or Options()
    settings = settings or BenchSettings()
    gates = gates or Gates()
    for name in targets:
        require_clock(name)
        require(name)
    with working_on(options.bundle or newest_folder()) as bundle:
        outcome = bench_stage(bundle, options, targets, settings, always=True)
        results = _measured_with(bundle, targets, settings)
        checks = tuple(check_speedup(result) for result in results) if gates.require_speedup else ()
        verdict = Verdict(checks=checks)
        bundle.amend({"checks": merge(bundle.manifest.checks, verdict.checks)})
        report_stage(bundle)
        return outcome, results, verdict


def bench_stage(
    bundle: Bundle,
    options: Options,
    targets: Sequence[str] = ("cpu",),
    settings: BenchSettings | None = None,
    *,
    always: bool = False,
) -> Outcome:
    """Benchmark inside a locked bundle; see :func:`bench`.

    Args:
        always: measure even if the manifest has these figures: who types ``bench`` wants to see it run.
    """
    settings = settings or BenchSettings()
    float_model = read_model(bundle, FLOAT_MODEL, next_step="edgecnn export model.pt")
    int8_model = read_model(bundle, INT8_MODEL, next_step="edgecnn quantize")
    machine = describe_machine()
    work = Work(
        bundle=bundle,
        stage="bench",
        inputs=model_hashes(bundle),
        settings={
            "targets": list(targets),
            "batch": settings.batch,
            "threads": settings.threads,
            "pairs": settings.pairs,
            "rounds": settings.rounds,
            "seconds": settings.seconds,
            "warmup": settings.warmup,
            "seed": settings.seed,
            "machine": [machine.architecture, machine.cpu],
            "versions": dict(machine.versions),
        },
    )
    if not options.force and not always and work.is_done():
        return work.unchanged()
    pixels = _noise(settings.batch, *input_size(bundle, FLOAT_MODEL), seed=settings.seed)
    distinct = dict.fromkeys(targets)  # someone may say --provider cpu twice
    results = [_bench_on(target, float_model, int8_model, pixels, settings, options) for target in distinct]
    replaced = {(result.target, result.batch, result.threads) for result in results}
    kept = [old for old in bundle.manifest.latency if (old.target, old.batch, old.threads) not in replaced]
    return work.finish((), {"latency": (*kept, *results)})


def _measured_with(bundle: Bundle, targets: Sequence[str], settings: BenchSettings) -> list[LatencyResult]:
    """Return the results of one call: these targets at this batch and thread count."""
    return [
        result
        for result in bundle.manifest.latency
        if result.target in targets and (result.batch, result.threads) == (settings.batch, settings.threads)
    ]


def _noise(batch: int, height: int, width: int, *, seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Return random uint8 pixels ``[batch, H, W, 3]``, the same on every machine."""
    return np.random.default_rng(seed).integers(0, 256, (batch, height, width, 3), np.uint8)


def _bench_on(
    target: str,
    float_model: bytes,
    int8_model: bytes,
    pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
    settings: BenchSettings,
    options: Options,
) -> LatencyResult:
    machine = describe_machine()  # before the measurement adds its own load
    clock: Clock = TARGETS[target].clock

    def open_float() -> Session:
        return open_session(target, float_model, model_name=FLOAT_MODEL, threads=settings.threads)

    def open_int8() -> Session:
        return open_session(target, int8_model, model_name=INT8_MODEL, threads=settings.threads)

    with pinned(settings.threads) as cpus:
        paired = compare_latency(open_float, open_int8, pixels, settings, options.progress)
    return LatencyResult(
        target=target,
        batch=settings.batch,
        threads=settings.threads,
        clock=clock,
        float_latency=paired.float_latency,
        int8_latency=paired.int8_latency,
        speedup=paired.speedup,
        verdict=paired.verdict,
        pairs=settings.pairs,
        rounds=settings.rounds,
        pinned_cpus=cpus,
        measured_at=datetime.now(UTC).replace(microsecond=0),
        machine=machine,
    )
