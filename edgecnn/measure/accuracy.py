"""Top-1 accuracy, and two models compared image by image."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecnn.bundle.manifest import ClassAccuracy, Difference
from edgecnn.data import Images
from edgecnn.errors import DataError, StageError
from edgecnn.progress import Progress
from edgecnn.stats import Comparison, mcnemar_p, paired_drop
from edgecnn.targets.session import Session, feed

BATCH_SIZE = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Accuracy:
    """Top-1 accuracy of one model.

    Attributes:
        n: number of images.
        top1: fraction of images whose largest logit is that of their class.
        per_image_correct: bool ``[N]``.
        predictions: int64 ``[N]``.
        logits: float32 ``[N, classes]``.
    """

    n: int
    top1: float
    per_image_correct: NDArray[np.bool_]
    predictions: NDArray[np.int64]
    logits: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class PairedAccuracy:
    """Two models on the same images; ``drop`` is in percentage points."""

    drop_pp: Comparison
    agreement: float
    p_value: float
    per_class: tuple[ClassAccuracy, ...]


def top1(session: Session, images: Images, *, name: str, progress: Progress) -> Accuracy:
    """Classify every image.

    Args:
        session: the model.
        images: labelled images of the model's size.
        name: what to call the model in a message or bar.
        progress: told the images done.

    Raises:
        DataError: there are no images, or the model has another number of classes.
        StageError: the model gives NaN or infinite logits.
    """
    if not len(images):
        raise DataError("validate: there are no test images.", next_step="give some with --data SOURCE")
    answers = np.empty((len(images), len(images.classes)), np.float32)
    fixed = session.input.shape[0]
    batch_size = fixed if isinstance(fixed, int) else BATCH_SIZE
    for start in range(0, len(images), batch_size):
        chosen = np.arange(start, start + batch_size)
        if not isinstance(fixed, int):
            chosen = chosen[chosen < len(images)]
        logits = session.run(feed(images.pixels[chosen % len(images)], session.input))
        if logits.shape != (len(chosen), len(images.classes)):
            raise DataError(
                f"{name}: gives {list(logits.shape)} for {len(chosen)} images of {len(images.classes)} classes.",
                next_step="give the images the model was trained for with --data",
            )
        if not np.isfinite(logits).all():
            raise StageError(f"validate: {name} gives NaN or infinite logits.", next_step="edgecnn run --force")
        kept = min(batch_size, len(images) - start)
        answers[start : start + kept] = logits[:kept]
        progress.update(f"validate {name}", start + kept, len(images))
    predictions = answers.argmax(1)
    correct = predictions == images.labels
    return Accuracy(
        n=len(images),
        top1=float(correct.mean()),
        per_image_correct=correct,
        predictions=predictions,
        logits=answers,
    )


def compare(reference: Accuracy, candidate: Accuracy, images: Images) -> PairedAccuracy:
    """Compare two models' answers to the same images."""
    drop = paired_drop(reference.per_image_correct, candidate.per_image_correct)
    return PairedAccuracy(
        drop_pp=Comparison(delta=100 * drop.delta, low=100 * drop.low, high=100 * drop.high),
        agreement=float((reference.predictions == candidate.predictions).mean()),
        p_value=mcnemar_p(reference.per_image_correct, candidate.per_image_correct),
        per_class=tuple(
            _of_class(label, name, reference, candidate, images)
            for label, name in enumerate(images.classes)
            if (images.labels == label).any()
        ),
    )


def difference(reference: Accuracy, candidate: Accuracy) -> Difference:
    """Compare the answers of one model on two targets to the same images, in the same batches."""
    drop = paired_drop(reference.per_image_correct, candidate.per_image_correct)
    return Difference(
        argmax_flips=int((reference.predictions != candidate.predictions).sum()),
        max_abs_logit_difference=float(np.abs(reference.logits - candidate.logits).max()),
        top1_change_pp=0.0 - 100 * drop.delta,
        top1_change_low_pp=0.0 - 100 * drop.high,
        top1_change_high_pp=0.0 - 100 * drop.low,
    )


def _of_class(label: int, name: str, reference: Accuracy, candidate: Accuracy, images: Images) -> ClassAccuracy:
    members = images.labels == label
    before = float(reference.per_image_correct[members].mean())
    after = float(candidate.per_image_correct[members].mean())
    return ClassAccuracy(
        name=name,
        n=int(members.sum()),
        float_top1=before,
        int8_top1=after,
        drop_pp=100 * (before - after),
    )
