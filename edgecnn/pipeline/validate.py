"""Stage 5: is int8 as right as float? On the same test images, paired."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
from pydantic import JsonValue

from edgecnn.bundle import Bundle
from edgecnn.bundle.locate import newest_folder
from edgecnn.bundle.manifest import FusionRecord, ValidationFailure, ValidationResult
from edgecnn.data import Dataset, Images
from edgecnn.errors import DataError, EdgecnnError, ModelError, StageError, TargetError, UsageError
from edgecnn.measure.machine import describe_machine
from edgecnn.pipeline.answers import REFERENCE, Answers, Asking, require_count
from edgecnn.pipeline.context import Options, Outcome, Work, choose_dataset, input_size, read_model, working_on
from edgecnn.pipeline.export import FLOAT_MODEL
from edgecnn.pipeline.predict import predict_bundle
from edgecnn.pipeline.quantize import INT8_MODEL
from edgecnn.pipeline.report import report_stage
from edgecnn.pipeline.verdict import Gates, Verdict, check_drop, merge
from edgecnn.progress import Progress
from edgecnn.quantization.fusion import audit_fusion
from edgecnn.quantization.saturation import audit_saturation
from edgecnn.targets import reference_session, require
from edgecnn.targets import target as target_row
from edgecnn.targets.choice import ALL, choose_targets

#: Chooses the images where not all are asked for.
SAMPLE_SEED = 0
#: Test images on another target, and on one that is simulated, where the user does not say.
_ELSEWHERE, _SIMULATED = 1000, 200


def validate(
    *,
    targets: Sequence[str] = (REFERENCE,),
    n_images: int | None = None,
    allow_cpu_nodes: int = 0,
    gates: Gates | None = None,
    options: Options | None = None,
) -> tuple[Outcome, Verdict]:
    """Measure the accuracy of float and int8 on the test images, on each target.

    Targets other than this machine's CPU are also held against it, image by image, and int8 is audited for dot
    products that saturate on x86 CPUs without VNNI. Of several targets, one that is missing, fails or crashes does not
    lose the others' figures: it is recorded with its reason, and the verdict is not passed.

    Args:
        targets: rows of the target table, or ``all`` for every one that is ready here; CoreML and NNAPI are then
            predicted as well.
        n_images: how many of the test images, chosen by seed; None for all on this CPU, 1,000 on other targets and
            200 on simulators.
        allow_cpu_nodes: how many nodes of each model the CPU may run in place of a provider that does not take them.
        gates: ``max_drop_pp`` decides the verdict.
        options: bundle (default: the newest), data (default: the bundle's), and so on.

    Raises:
        UsageError: no such target, less than one image, or nodes fewer than none.
        TargetError: the only target is not available here; nothing is measured then.
        DataError: more images are asked for than there are.
        BundleError: a model is missing or was changed.
        StageError: a model gives NaN or infinite logits, or an emulated process fails.
    """
    options = options or Options()
    gates = gates or Gates()
    require_count(allow_cpu_nodes)
    predicting = ALL in targets
    targets = choose_targets(targets)
    if len(targets) == 1:
        require(targets[0])
    with working_on(options.bundle or newest_folder()) as bundle:
        dataset = choose_dataset(options, bundle.manifest, *input_size(bundle, FLOAT_MODEL))
        outcome = validate_stage(
            bundle,
            dataset,
            options,
            targets,
            n_images=n_images,
            allow_cpu_nodes=allow_cpu_nodes,
            always=True,
            keep_going=len(targets) > 1,
        )
        if predicting:
            predict_bundle(bundle)
            outcome = replace(outcome, manifest=bundle.manifest)
        results = [result for result in bundle.manifest.validation if result.target in targets]
        failures = tuple(failure for failure in bundle.manifest.validation_failures if failure.target in targets)
        verdict = Verdict(checks=tuple(check_drop(result, gates) for result in results), failures=failures)
        bundle.amend({"checks": merge(bundle.manifest.checks, verdict.checks)})
        report_stage(bundle)
        return outcome, verdict


def validate_stage(
    bundle: Bundle,
    dataset: Dataset,
    options: Options,
    targets: Sequence[str] = (REFERENCE,),
    *,
    n_images: int | None = None,
    allow_cpu_nodes: int = 0,
    always: bool = False,
    keep_going: bool = False,
) -> Outcome:
    """Validate inside a locked bundle; see :func:`validate`.

    Args:
        n_images: how many of the test images, chosen by seed; None for each target's own number.
        allow_cpu_nodes: how many nodes of each model the CPU may run in place of a provider.
        always: measure even if the manifest has these figures: who types ``validate`` wants to see it run.
        keep_going: whether a target that fails is recorded; else its error is raised.
    """
    models = {
        FLOAT_MODEL: read_model(bundle, FLOAT_MODEL, next_step="edgecnn export model.pt"),
        INT8_MODEL: read_model(bundle, INT8_MODEL, next_step="edgecnn quantize"),
    }
    require_same_classes(bundle, dataset, "validate")
    sizes = sample_sizes(tuple(dict.fromkeys(targets)), n_images, len(dataset.test))
    images = choose_images(dataset.test, max(sizes.values()))
    machine = describe_machine()
    work = Work(
        bundle=bundle,
        stage="validate",
        inputs={**model_hashes(bundle), "data": dataset.sha256},
        settings={
            "targets": list(targets),
            "machine": [machine.architecture, machine.cpu],
            "versions": dict(machine.versions),
            **_sampled(sizes, len(dataset.test)),
            **({"allow_cpu_nodes": allow_cpu_nodes} if allow_cpu_nodes else {}),
        },
    )
    if not options.force and not always and work.is_done():
        return work.unchanged()
    asking = Asking(models=models, allow_cpu_nodes=allow_cpu_nodes, progress=options.progress)
    results, failures = _measure(sizes, dataset, asking, keep_going=keep_going)
    kept = [old for old in bundle.manifest.validation if old.target not in sizes]
    failed = [old for old in bundle.manifest.validation_failures if old.target not in sizes]
    saturation = audit_saturation(models[INT8_MODEL], name=INT8_MODEL)
    fusion = _audit_fusion(models[INT8_MODEL], images)
    found = {"validation": (*kept, *results), "validation_failures": (*failed, *failures)}
    return work.finish((), {**found, "saturation": saturation, "fusion": fusion})


def _sampled(sizes: Mapping[str, int], available: int) -> dict[str, JsonValue]:
    """Return the images that are asked for, in words for the record: nothing if it is all of them."""
    distinct = set(sizes.values())
    if distinct == {available}:
        return {}
    return {"images": distinct.pop() if len(distinct) == 1 else dict(sizes), "seed": SAMPLE_SEED}


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
    targets: Sequence[str],
    models: dict[str, bytes],
    n_images: int | None,
    dataset: Dataset,
    progress: Progress,
    *,
    allow_cpu_nodes: int = 0,
) -> list[ValidationResult]:
    """Measure a float and an int8 model, by file name in this order, on each target."""
    sizes = sample_sizes(tuple(dict.fromkeys(targets)), n_images, len(dataset.test))
    asking = Asking(models=models, allow_cpu_nodes=allow_cpu_nodes, progress=progress)
    return _measure(sizes, dataset, asking, keep_going=False)[0]


def sample_sizes(targets: Sequence[str], n_images: int | None, available: int) -> dict[str, int]:
    """Return how many test images each target answers: as told, else all on this CPU and a sample elsewhere."""
    if n_images is not None:
        return dict.fromkeys(targets, n_images)
    default = {"measured": _ELSEWHERE, "emulated": _ELSEWHERE, "simulated": _SIMULATED}
    return {
        name: available if name == REFERENCE else min(available, default[target_row(name).clock_here])
        for name in targets
    }


def _measure(
    sizes: Mapping[str, int], dataset: Dataset, asking: Asking, *, keep_going: bool
) -> tuple[list[ValidationResult], list[ValidationFailure]]:
    """Run both models on each target; where there are others than this CPU, on this CPU as well."""
    results: list[ValidationResult] = []
    failures: list[ValidationFailure] = []
    references: dict[int, Answers] = {}
    for name, n in sizes.items():
        images = choose_images(dataset.test, n)
        if n not in references:
            references[n] = asking.ask(REFERENCE, images)
        there = references[n]
        if name != REFERENCE:
            try:
                there = asking.ask(name, images)
            except (TargetError, StageError, ModelError) as error:
                if not keep_going:
                    raise
                failures.append(_failure(name, error))
                continue
        results.append(_result(name, there, references[n], images, dataset))
    return results, failures


def _failure(target: str, error: EdgecnnError) -> ValidationFailure:
    return ValidationFailure(
        target=target,
        reason=error.message,
        next_step=error.next_step,
        exit_code=error.exit_code,
        failed_at=datetime.now(UTC).replace(microsecond=0),
    )


def _result(target: str, there: Answers, reference: Answers, images: Images, dataset: Dataset) -> ValidationResult:
    from edgecnn.measure.accuracy import compare, difference

    here = reference if target != REFERENCE else None
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
        how=there.how,
        provider=target_row(target).provider,
        float_nodes=there.float_nodes,
        int8_nodes=there.int8_nodes,
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
