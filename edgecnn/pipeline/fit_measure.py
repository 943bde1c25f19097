"""Accuracy and latency of a target's own int8 model, kept with its record: as ``validate`` and ``bench``, by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgecnn.bundle import Bundle
from edgecnn.bundle.locate import newest_folder
from edgecnn.bundle.manifest import FittedRecord, LatencyResult, ValidationResult
from edgecnn.data import Dataset
from edgecnn.measure.bench_settings import BenchSettings
from edgecnn.measure.machine import describe_machine
from edgecnn.pipeline.answers import require_count
from edgecnn.pipeline.bench import Models, measure_latency
from edgecnn.pipeline.context import Options, choose_dataset, input_size, read_model, working_on
from edgecnn.pipeline.export import FLOAT_MODEL
from edgecnn.pipeline.fit_commit import require_own
from edgecnn.pipeline.report import report_stage
from edgecnn.pipeline.validate import measure_accuracy, require_same_classes
from edgecnn.pipeline.verdict import Gates, Verdict, check_drop, check_speedup, merge
from edgecnn.targets import require, require_clock
from edgecnn.targets.choice import choose_targets


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured of a target's own model: its record, these results of it, and the gates on them."""

    bundle: Path
    record: FittedRecord
    validation: tuple[ValidationResult, ...] = ()
    latency: tuple[LatencyResult, ...] = ()
    verdict: Verdict


def validate_fitted(
    model: str,
    *,
    targets: Sequence[str] = ("cpu",),
    n_images: int | None = None,
    allow_cpu_nodes: int = 0,
    gates: Gates | None = None,
    options: Options | None = None,
) -> Measured:
    """Measure the accuracy of ``float.onnx`` and a target's own int8 model on the same test images.

    Args:
        model: its file name, such as ``int8-xnnpack.onnx``.
        targets: rows of the target table, or ``all``.
        n_images: how many of the test images, chosen by seed; None as of ``validate``.
        allow_cpu_nodes: how many nodes of each model the CPU may run in place of a provider.
        gates: ``max_drop_pp`` decides the verdict.
        options: bundle (default: the newest), data (default: the bundle's), and so on.

    Raises:
        UsageError: no such target.
        TargetError: a target is not available here; nothing is measured then.
        BundleError: the bundle has no such model, or one was changed.
        DataError: the images cannot be loaded, or are of other classes.
    """
    options, gates = options or Options(), gates or Gates()
    require_count(allow_cpu_nodes)
    targets = choose_targets(targets)
    for name in targets:
        require(name)
    with working_on(options.bundle or newest_folder()) as bundle:
        require_own(bundle, model)
        dataset = choose_dataset(options, bundle.manifest, *input_size(bundle, FLOAT_MODEL))
        return validate_fitted_stage(
            bundle, dataset, model, targets, gates, options, n_images=n_images, allow_cpu_nodes=allow_cpu_nodes
        )


def validate_fitted_stage(
    bundle: Bundle,
    dataset: Dataset,
    model: str,
    targets: Sequence[str],
    gates: Gates,
    options: Options,
    *,
    n_images: int | None = None,
    allow_cpu_nodes: int = 0,
) -> Measured:
    """Validate a target's own model inside a locked bundle; see :func:`validate_fitted`."""
    record = require_own(bundle, model)
    require_same_classes(bundle, dataset, "validate")
    results = measure_accuracy(
        targets, _models(bundle, model), n_images, dataset, options.progress, allow_cpu_nodes=allow_cpu_nodes
    )
    kept = [old for old in record.validation if old.target not in targets]
    verdict = Verdict(checks=tuple(check_drop(result, gates, model=model) for result in results))
    record = record.model_copy(update={"validation": (*kept, *results)})
    _write(bundle, record, verdict)
    return Measured(bundle=bundle.folder, record=record, validation=tuple(results), verdict=verdict)


def is_validated(record: FittedRecord, target: str, dataset: Dataset) -> bool:
    """Tell whether all test images were measured on a target by this machine with these versions."""
    here = describe_machine()
    return any(
        (result.target, result.n, result.data_sha256) == (target, len(dataset.test), dataset.sha256)
        and (target != "cpu" or (result.machine.cpu, result.machine.versions) == (here.cpu, here.versions))
        for result in record.validation
    )


def bench_fitted(
    model: str,
    *,
    targets: Sequence[str] = ("cpu",),
    settings: Sequence[BenchSettings] = (BenchSettings(),),
    allow_cpu_nodes: int = 0,
    gates: Gates | None = None,
    options: Options | None = None,
) -> Measured:
    """Measure the latency of ``float.onnx`` and a target's own int8 model in turns, as :func:`edgecnn.bench` does.

    Raises:
        UsageError: no such target, one that is emulated, or settings that cannot be measured.
        TargetError: a target is not available here; nothing is measured then.
        BundleError: the bundle has no such model, or one was changed.
    """
    options, gates = options or Options(), gates or Gates()
    require_count(allow_cpu_nodes)
    targets = choose_targets(targets, timed=True)
    for name in targets:
        require_clock(name)
        require(name)
    with working_on(options.bundle or newest_folder()) as bundle:
        record = require_own(bundle, model)
        models = Models.read(bundle, model, allow_cpu_nodes=allow_cpu_nodes)
        results = measure_latency(targets, models, settings, options.progress)
        replaced = {_key(result) for result in results}
        kept = [old for old in record.latency if _key(old) not in replaced]
        checks = tuple(check_speedup(one, model=model) for one in results) if gates.require_speedup else ()
        verdict = Verdict(checks=checks)
        record = record.model_copy(update={"latency": (*kept, *results)})
        _write(bundle, record, verdict)
        return Measured(bundle=bundle.folder, record=record, latency=tuple(results), verdict=verdict)


def _models(bundle: Bundle, model: str) -> dict[str, bytes]:
    return {
        FLOAT_MODEL: read_model(bundle, FLOAT_MODEL, next_step="edgecnn export model.pt"),
        model: read_model(bundle, model, next_step=f"edgecnn quantize --for {require_own(bundle, model).target}"),
    }


def _key(result: LatencyResult) -> tuple[str, int, int, str]:
    return result.target, result.batch, result.threads, result.through


def _write(bundle: Bundle, record: FittedRecord, verdict: Verdict) -> None:
    fitted = tuple(record if one.target == record.target else one for one in bundle.manifest.fitted)
    bundle.amend({"fitted": fitted, "checks": merge(bundle.manifest.checks, verdict.checks)})
    report_stage(bundle)
