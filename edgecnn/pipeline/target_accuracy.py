"""Float and int8 on the same test images of several targets, each held against this machine's CPU."""

from collections.abc import Mapping
from dataclasses import dataclass

from edgecnn.bundle.manifest import Difference, ValidationFailure, ValidationResult
from edgecnn.data import Dataset, Images
from edgecnn.errors import ModelError, StageError, TargetError
from edgecnn.pipeline.answers import REFERENCE, Answer, Asking
from edgecnn.pipeline.export import FLOAT_MODEL
from edgecnn.pipeline.int8_choice import advising
from edgecnn.pipeline.quantize import INT8_MODEL, PORTABLE_MODEL
from edgecnn.pipeline.sampling import SAMPLE_SEED, choose_images
from edgecnn.pipeline.verdict import failed_target
from edgecnn.targets import target as target_row


@dataclass(frozen=True, kw_only=True)
class TargetAccuracy:
    """What was measured, and which targets gave no figures."""

    results: tuple[ValidationResult, ...]
    failures: tuple[ValidationFailure, ...]


def measure_accuracy(
    int8_models: Mapping[str, str], sizes: Mapping[str, int], dataset: Dataset, asking: Asking, *, keep_going: bool
) -> TargetAccuracy:
    """Run the float model and an int8 model on each target, and on this CPU where there are others.

    Args:
        int8_models: the name of the int8 model of each target.
        sizes: how many test images each target answers.
        dataset: whose test images.
        asking: the models.
        keep_going: whether a target that fails is told among the failures; else its error is raised.
    """
    results: list[ValidationResult] = []
    failures: list[ValidationFailure] = []
    for target, n in sizes.items():
        images = choose_images(dataset.test, n)
        model = int8_models[target]
        here = asking.reference(FLOAT_MODEL, images), asking.reference(_held_against(model, target), images)
        try:
            of_float = asking.ask(target, FLOAT_MODEL, images)
            with advising(asking.advice.get(target)):
                there = of_float, asking.ask(target, model, images)
        except (TargetError, StageError, ModelError) as error:
            if not keep_going or target == REFERENCE:
                raise
            failures.append(failed_target(target, error))
            continue
        results.append(_result(target, model, there, here, images, dataset))
    return TargetAccuracy(results=tuple(results), failures=tuple(failures))


def _held_against(model: str, target: str) -> str:
    """Return the file whose answers on this CPU a target's are held against: itself, or what it is the same as."""
    return INT8_MODEL if model == PORTABLE_MODEL and target != REFERENCE else model


_Both = tuple[Answer, Answer]


def _result(target: str, model: str, there: _Both, here: _Both, images: Images, dataset: Dataset) -> ValidationResult:
    from edgecnn.measure.accuracy import compare, difference

    of_float, of_int8 = there
    paired = compare(of_float.accuracy, of_int8.accuracy, images)
    against: list[Difference | None] = [None, None]
    if target != REFERENCE:
        against = [difference(cpu.accuracy, own.accuracy) for cpu, own in zip(here, there, strict=True)]
    sampled = images is not dataset.test
    return ValidationResult(
        target=target,
        int8_model=model,
        float_bits=target_row(target).float_bits,
        float_top1=of_float.accuracy.top1,
        int8_top1=of_int8.accuracy.top1,
        drop_pp=paired.drop_pp.delta,
        drop_pp_low=paired.drop_pp.low,
        drop_pp_high=paired.drop_pp.high,
        agreement=paired.agreement,
        p_value=paired.p_value,
        n=len(images),
        n_available=len(dataset.test) if sampled else None,
        sample_seed=SAMPLE_SEED if sampled else None,
        per_class=paired.per_class,
        float_against_cpu=against[0],
        int8_against_cpu=against[1],
        data_sha256=dataset.sha256,
        measured_at=of_int8.measured_at,
        machine=of_int8.machine,
        how=of_int8.how,
        provider=target_row(target).provider,
        float_nodes=of_float.nodes,
        int8_nodes=of_int8.nodes,
    )
