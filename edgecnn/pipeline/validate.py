"""Stage 5: is int8 as right as float? On the same test images, paired."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from edgecnn.bundle import Bundle
from edgecnn.bundle.locate import newest_folder
from edgecnn.bundle.manifest import FusionRecord, MachineRecord, ValidationResult
from edgecnn.data import Dataset, Images
from edgecnn.errors import DataError, UsageError
from edgecnn.measure.machine import describe_machine
from edgecnn.pipeline.context import Options, Outcome, Work, choose_dataset, input_size, read_model, working_on
from edgecnn.pipeline.export import FLOAT_MODEL
from edgecnn.pipeline.quantize import INT8_MODEL
from edgecnn.pipeline.report import report_stage
from edgecnn.pipeline.verdict import Gates, Verdict, check_drop, merge
from edgecnn.progress import Progress
from edgecnn.quantization.fusion import audit_fusion
from edgecnn.quantization.saturation import audit_saturation
from edgecnn.targets import reference_session, require, running
from edgecnn.targets.worker_session import WorkerSession

if TYPE_CHECKING:
    from edgecnn.measure.accuracy import Accuracy

#: Chooses the images where not all are asked for.
SAMPLE_SEED = 0
#: What the other targets are held against.
_REFERENCE = "cpu"


@dataclass(frozen=True, kw_only=True, eq=False)
class _Answers:
    """Both models' answers to the same images on one target."""

    of_float: "Accuracy"
    of_int8: "Accuracy"
    machine: MachineRecord
    measured_at: datetime


def validate(
    *,
    targets: Sequence[str] = (_REFERENCE,),
    n_images: int | None = None,
    gates: Gates | None = None,
    options: Options | None = None,
) -> tuple[Outcome, Verdict]:
    """Measure the accuracy of float and int8 on the test images, on each target.

    Targets other than this machine's CPU are also held against it, image by image, and int8 is audited for dot
    products that saturate on x86 CPUs without VNNI.

    Args:
        targets: rows of the target table.
        n_images: how many of the test images, chosen by seed; None for all.
        gates: ``max_drop_pp`` decides the verdict.
        options: bundle (default: the newest), data (default: the bundle's), and so on.

    Raises:
        UsageError: no such target, or less than one image.
        TargetError: a target is not available here; nothing is measured then.
        DataError: more images are asked for than there are.
        BundleError: a model is missing or was changed.
        StageError: a model gives NaN or infinite logits, or an emulated process fails.
    """
    options = options or Options()
    gates = gates or Gates()
    for name in targets:
        require(name)
    with working_on(options.bundle or newest_folder()) as bundle:
        dataset = choose_dataset(options, bundle.manifest, *input_size(bundle, FLOAT_MODEL))
        outcome = validate_stage(bundle, dataset, options, targets, n_images=n_images, always=True)
        results = [result for result in bundle.manifest.validation if result.target in targets]
        verdict = Verdict(checks=tuple(check_drop(result, gates) for result in results))
        bundle.amend({"checks": merge(bundle.manifest.checks, verdict.checks)})
        report_stage(bundle)
        return outcome, verdict


def validate_stage(
    bundle: Bundle,
    dataset: Dataset,
    options: Options,
    targets: Sequence[str] = (_REFERENCE,),
    *,
    n_images: int | None = None,
    always: bool = False,
) -> Outcome:
    """Validate inside a locked bundle; see :func:`validate`.

    Args:
        n_images: how many of the test images, chosen by seed; None for all.
        always: measure even if the manifest has these figures: who types ``validate`` wants to see it run.
    """
    models = {
        FLOAT_MODEL: read_model(bundle, FLOAT_MODEL, next_step="edgecnn export model.pt"),
        INT8_MODEL: read_model(bundle, INT8_MODEL, next_step="edgecnn quantize"),
    }
    require_same_classes(bundle, dataset, "validate")
    images = choose_images(dataset.test, n_images)
    machine = describe_machine()
    sample = {} if images is dataset.test else {"images": len(images), "seed": SAMPLE_SEED}
    work = Work(
        bundle=bundle,
        stage="validate",
        inputs={**model_hashes(bundle), "data": dataset.sha256},
        settings={
            "targets": list(targets),
            "machine": [machine.architecture, machine.cpu],
            "versions": dict(machine.versions),
            **sample,
        },
    )
    if not options.force and not always and work.is_done():
        return work.unchanged()
    results = _measure(targets, models, images, dataset, options.progress)
    kept = [old for old in bundle.manifest.validation if old.target not in targets]
    saturation = audit_saturation(models[INT8_MODEL], name=INT8_MODEL)
    fusion = _audit_fusion(models[INT8_MODEL], images)
    return work.finish((), {"validation": (*kept, *results), "saturation": saturation, "fusion": fusion})


def _audit_fusion(model: bytes, images: Images) -> FusionRecord:
    session = reference_session(model, model_name=INT8_MODEL)  # a stranger's manifest may say anything of it
    return audit_fusion(model, images, session.input, name=INT8_MODEL)


def choose_images(test: Images, n: int | None) -> Images:
    """Return ``n`` of the test images, the first of a shuffle by :data:`SAMPLE_SEED`, or all of them.

    Raises:
        UsageError: less than one is asked for.
        DataError: more are asked for than there are.
    """
    if n is None or n == len(test):
        return test
    if n < 1:
        raise UsageError(f"--images must be above 0, found {n}.", next_step="--images 1000")
    if n > len(test):
        raise DataError(
            f"validate: {n} test images were asked for, there are {len(test)}.", next_step=f"--images {len(test)}"
        )
    return test.take(np.sort(np.random.default_rng(SAMPLE_SEED).permutation(len(test))[:n]))


def measure_accuracy(
    targets: Sequence[str], models: dict[str, bytes], images: Images, dataset: Dataset, progress: Progress
) -> list[ValidationResult]:
    """Measure a float and an int8 model, by file name in this order, on each target."""
    return _measure(targets, models, images, dataset, progress)


def _measure(
    targets: Sequence[str], models: dict[str, bytes], images: Images, dataset: Dataset, progress: Progress
) -> list[ValidationResult]:
    """Run both models on each target; where there are others than this CPU, on this CPU as well."""
    wanted = dict.fromkeys(targets)  # someone may say --provider cpu twice
    others = [name for name in wanted if name != _REFERENCE]
    answers = {name: _ask(name, models, images, progress) for name in ([_REFERENCE, *others] if others else wanted)}
    return [_result(name, answers, images, dataset) for name in wanted]


def _ask(target: str, models: dict[str, bytes], images: Images, progress: Progress) -> _Answers:
    from edgecnn.measure.accuracy import top1

    found: list[Accuracy] = []
    machine = None
    for name, model in models.items():
        with running(target, model, model_name=name) as session:
            title = name if target == _REFERENCE else f"{name} on {target}"
            found.append(top1(session, images, name=title, progress=progress))
            if isinstance(session, WorkerSession):
                machine = session.machine
    return _Answers(
        of_float=found[0],
        of_int8=found[1],
        machine=machine or describe_machine(),
        measured_at=datetime.now(UTC).replace(microsecond=0),
    )


def _result(target: str, answers: dict[str, _Answers], images: Images, dataset: Dataset) -> ValidationResult:
    from edgecnn.measure.accuracy import compare, difference

    there = answers[target]
    here = answers[_REFERENCE] if target != _REFERENCE else None
    paired = compare(there.of_float, there.of_int8, images)
    sampled = images is not dataset.test
    return ValidationResult(
        target=target,
        float_top1=there.of_float.top1,
        int8_top1=there.of_int8.top1,
        drop_pp=paired.drop_pp.delta,
        drop_pp_low=paired.drop_pp.low,
        drop_pp_high=paired.drop_pp.high,
        agreement=paired.agreement,
        p_value=paired.p_value,
        n=len(images),
        n_available=len(dataset.test) if sampled else None,
        sample_seed=SAMPLE_SEED if sampled else None,
        per_class=paired.per_class,
        float_against_cpu=difference(here.of_float, there.of_float) if here else None,
        int8_against_cpu=difference(here.of_int8, there.of_int8) if here else None,
        data_sha256=dataset.sha256,
        measured_at=there.measured_at,
        machine=there.machine,
    )


def model_hashes(bundle: Bundle) -> dict[str, str]:
    """Return the SHA-256 of the float and the int8 model."""
    found = {name: bundle.manifest.artifact(name) for name in (FLOAT_MODEL, INT8_MODEL)}
    return {name: artifact.sha256 for name, artifact in found.items() if artifact}


def require_same_classes(bundle: Bundle, dataset: Dataset, command: str) -> None:
    """Refuse other classes, or another order: the labels are indices, so nothing would be measured.

    Raises:
        DataError: the classes are not those of the bundle.
    """
    known = bundle.manifest.data
    if known is not None and known.classes != dataset.classes:
        raise DataError(
            f"{command}: the bundle's classes are {', '.join(known.classes)}; "
            f"{dataset.name} has {', '.join(dataset.classes)}.",
            next_step="give test images of the same classes, in the same order, with --data",
        )
