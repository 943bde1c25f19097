"""Two forms of one network on the same images: the same answers, or an error that names the worst."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecnn.bundle.manifest import ParityRecord, StageName
from edgecnn.errors import ParityError

Logits = NDArray[np.float32]
Run = Callable[[NDArray[np.uint8]], Logits]

#: Largest difference of a logit, as a fraction of the largest logit. Float32 rounding of a reordered
#: sum is around 1e-6; a wrong weight, axis or normalization is far above 1e-3.
TOLERANCE = 1e-4
#: Enough real images to meet every branch of a ReLU network, few enough to take milliseconds.
N_IMAGES = 64
BATCH_SIZES = (1, 2, 8)


def with_extremes(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the images and eight that no camera takes: all 0, all 255, checkerboards, single points, noise.

    A branch that the real images never take, or a clip they never reach, shows there.

    Args:
        pixels: uint8 ``[N, H, W, C]``.

    Returns:
        uint8 ``[N + 8, H, W, C]``.
    """
    _, height, width, channels = pixels.shape
    extremes = np.zeros((8, height, width, channels), np.uint8)
    board = (np.add.outer(np.arange(height), np.arange(width)) % 2).astype(bool)
    extremes[1] = 255
    extremes[2, board] = 255
    extremes[3, ~board] = 255
    extremes[4, 0, 0] = 255  # a corner: padding and alignment
    extremes[5, height // 2, width // 2] = 255
    extremes[6] = np.linspace(0, 255, width).astype(np.uint8)[None, :, None]
    extremes[7] = np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)
    return np.concatenate([pixels, extremes])


@dataclass(frozen=True, kw_only=True)
class Form:
    """One form of a network: what to call it, and how to run it on uint8 ``[N, H, W, C]``."""

    name: str
    run: Run


def check_parity(
    stage: StageName,
    reference: Form,
    candidate: Form,
    pixels: NDArray[np.uint8],
    *,
    batch_sizes: tuple[int, ...] = BATCH_SIZES,
) -> ParityRecord:
    """Compare ``candidate`` with ``reference`` on the same images at every batch size.

    Raises:
        ParityError: a logit differs by more than :data:`TOLERANCE`, is not finite, or has another shape.
    """
    worst_absolute, worst_relative, flips = 0.0, 0.0, 0
    for batch_size in batch_sizes:
        expected = _in_batches(reference.run, pixels, batch_size)
        found = _in_batches(candidate.run, pixels, batch_size)
        if found.shape != expected.shape:
            raise ParityError(
                f"{stage}: {candidate.name} gives {list(found.shape)}, {reference.name} {list(expected.shape)}.",
                next_step="report it with the model: this is a defect of the exporter or simplifier",
            )
        for form, logits in ((reference, expected), (candidate, found)):
            if not np.isfinite(logits).all():
                raise ParityError(
                    f"{stage}: {form.name} gives NaN or infinite logits at batch {batch_size}.",
                    next_step="look for NaN or huge weights; train the model again",
                )
        if expected.ndim != 2:
            raise ParityError(
                f"{stage}: {reference.name} gives {list(expected.shape)}, expected [N, classes].",
                next_step="give a classifier: one row of logits for each image",
            )
        expected, found = expected[: len(pixels)], found[: len(pixels)]
        difference = np.abs(found.astype(np.float64) - expected.astype(np.float64))
        absolute = float(difference.max())
        relative = absolute / max(float(np.max(np.abs(expected))), float(np.finfo(np.float32).tiny))
        flips += int((found.argmax(1) != expected.argmax(1)).sum())
        if relative > TOLERANCE:
            image, logit = np.unravel_index(int(difference.argmax()), difference.shape)
            raise ParityError(
                f"{stage}: {candidate.name} and {reference.name} differ at batch {batch_size}: "
                f"image {image}, logit {logit} is {found[image, logit]:.6g} instead of "
                f"{expected[image, logit]:.6g}; relative to the largest logit {relative:.1e}, "
                f"allowed {TOLERANCE:.0e}. Nothing was written.",
                next_step="report it with the model: this is a defect of the exporter or simplifier",
                images=batch_of(int(image), batch_size, len(pixels)),
            )
        worst_absolute, worst_relative = max(worst_absolute, absolute), max(worst_relative, relative)
    return ParityRecord(
        stage=stage,
        reference=reference.name,
        n=len(pixels),
        batch_sizes=batch_sizes,
        max_abs_difference=worst_absolute,
        max_relative_difference=worst_relative,
        tolerance=TOLERANCE,
        argmax_flips=flips,
    )


def batch_of(image: int, batch_size: int, n: int) -> tuple[int, ...]:
    """Return the images that share a batch with ``image``: the last batch is filled up from the start."""
    start = image // batch_size * batch_size
    return tuple(index % n for index in range(start, start + batch_size))


def telling_images(n: int, batch: int | None) -> tuple[int, ...]:
    """Return a few of the images of :func:`with_extremes` to compare layers on: real ones, a ramp and noise.

    Args:
        n: how many images there are, the extremes included.
        batch: a fixed batch size, or None.
    """
    few = (0, 1 % n, n - 2, n - 1)
    return few if batch is None else tuple(few[index % len(few)] for index in range(batch))


def _in_batches(run: Run, pixels: NDArray[np.uint8], batch_size: int) -> Logits:
    """Run whole batches only, for a fixed batch allows no other; the last is filled up from the start."""
    starts = range(0, len(pixels), batch_size)
    return np.concatenate([run(pixels[np.arange(start, start + batch_size) % len(pixels)]) for start in starts])
