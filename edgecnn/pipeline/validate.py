"""Stage 5: is int8 as right as float? On the same test images, paired."""

from collections.abc import Sequence
from datetime import UTC, datetime

from edgecnn.bundle import Bundle
from edgecnn.bundle.locate import newest_folder
from edgecnn.bundle.manifest import ValidationResult
from edgecnn.data import Dataset, Images
from edgecnn.errors import DataError
from edgecnn.measure.machine import describe_machine
from edgecnn.pipeline.context import Options, Outcome, Work, choose_dataset, input_size, read_model, working_on
from edgecnn.pipeline.export import FLOAT_MODEL
from edgecnn.pipeline.quantize import INT8_MODEL
from edgecnn.pipeline.report import report_stage
from edgecnn.pipeline.verdict import Gates, Verdict, check_drop, merge
from edgecnn.targets import open_session, require


def validate(
    *, targets: Sequence[str] = ("cpu",), gates: Gates | None = None, options: Options | None = None
) -> tuple[Outcome, Verdict]:
    """Measure the accuracy of float and int8 on the test images, on each target.

    Args:
        targets: rows of the target table.
        gates: ``max_drop_pp`` decides the verdict.
        options: bundle (default: the newest), data (default: the bundle's), and so on.

    Raises:
        UsageError: no such target.
        TargetError: a target is not available here; nothing is measured then.
        BundleError: a model is missing or was changed.
        StageError: a model gives NaN or infinite logits.
    """
    options = options or Options()
    gates = gates or Gates()
    for name in targets:
        require(name)
    with working_on(options.bundle or newest_folder()) as bundle:
        dataset = choose_dataset(options, bundle.manifest, *input_size(bundle, FLOAT_MODEL))
        outcome = validate_stage(bundle, dataset, options, targets, always=True)
        results = [result for result in bundle.manifest.validation if result.target in targets]
        verdict = Verdict(checks=tuple(check_drop(result, gates) for result in results))
        bundle.amend({"checks": merge(bundle.manifest.checks, verdict.checks)})
        report_stage(bundle)
        return outcome, verdict


def validate_stage(
    bundle: Bundle, dataset: Dataset, options: Options, targets: Sequence[str] = ("cpu",), *, always: bool = False
) -> Outcome:
    """Validate inside a locked bundle; see :func:`validate`.

    Args:
        always: measure even if the manifest has these figures: who types ``validate`` wants to see it run.
    """
    float_model = read_model(bundle, FLOAT_MODEL, next_step="edgecnn export model.pt")
    int8_model = read_model(bundle, INT8_MODEL, next_step="edgecnn quantize")
    _require_same_classes(bundle, dataset)
    machine = describe_machine()
    work = Work(
        bundle=bundle,
        stage="validate",
        inputs={**model_hashes(bundle), "data": dataset.sha256},
        settings={
            "targets": list(targets),
            "machine": [machine.architecture, machine.cpu],
            "versions": dict(machine.versions),
        },
    )
    if not options.force and not always and work.is_done():
        return work.unchanged()
    distinct = dict.fromkeys(targets)  # someone may say --provider cpu twice
    results = [_validate_on(target, float_model, int8_model, dataset, options) for target in distinct]
    kept = [old for old in bundle.manifest.validation if old.target not in targets]
    return work.finish((), {"validation": (*kept, *results)})


def _validate_on(
    target: str, float_model: bytes, int8_model: bytes, dataset: Dataset, options: Options
) -> ValidationResult:
    from edgecnn.measure.accuracy import compare, top1

    images: Images = dataset.test
    float_top1, int8_top1 = (
        top1(open_session(target, model, model_name=name), images, name=name, progress=options.progress)
        for name, model in ((FLOAT_MODEL, float_model), (INT8_MODEL, int8_model))
    )
    paired = compare(float_top1, int8_top1, images)
    return ValidationResult(
        target=target,
        float_top1=float_top1.top1,
        int8_top1=int8_top1.top1,
        drop_pp=paired.drop_pp.delta,
        drop_pp_low=paired.drop_pp.low,
        drop_pp_high=paired.drop_pp.high,
        agreement=paired.agreement,
        p_value=paired.p_value,
        n=len(images),
        per_class=paired.per_class,
        data_sha256=dataset.sha256,
        measured_at=datetime.now(UTC).replace(microsecond=0),
        machine=describe_machine(),
    )


def model_hashes(bundle: Bundle) -> dict[str, str]:
    """Return the SHA-256 of the float and the int8 model."""
    found = {name: bundle.manifest.artifact(name) for name in (FLOAT_MODEL, INT8_MODEL)}
    return {name: artifact.sha256 for name, artifact in found.items() if artifact}


def _require_same_classes(bundle: Bundle, dataset: Dataset) -> None:
    """The labels are indices: other classes, or another order, would measure nothing."""
    known = bundle.manifest.data
    if known is not None and known.classes != dataset.classes:
        raise DataError(
            f"validate: the bundle's classes are {', '.join(known.classes)}; "
            f"{dataset.name} has {', '.join(dataset.classes)}.",
            next_step="give test images of the same classes, in the same order, with --data",
        )
