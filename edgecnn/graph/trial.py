"""The network by itself, before anything is exported: what fails in PyTorch is not the exporter's fault."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgecnn.errors import CheckpointError
from edgecnn.graph.parity import TOLERANCE, with_extremes
from edgecnn.models.quiet import first_line

_ALONE = "wrap it in a module that returns the logits alone: one row for each image"


def require_classifier(
    run: Callable[[NDArray[np.uint8]], Any], pixels: NDArray[np.uint8], batch_sizes: tuple[int, ...]
) -> None:
    """Require that a network maps images to rows of logits, each image by itself, and the same each time.

    Args:
        run: the network in PyTorch, from uint8 ``[N, H, W, 3]`` to what should be logits float32 ``[N, classes]``.
        pixels: real images, uint8 ``[N, H, W, 3]``.
        batch_sizes: that it must take.

    Raises:
        CheckpointError: it raises an error, answers with something else than logits, or its answer for an image
            depends on chance or on the other images of the batch.
    """
    images = with_extremes(pixels)
    answers = {size: _answer(run, images[np.arange(size) % len(images)]) for size in batch_sizes}
    smallest, largest = min(batch_sizes), max(batch_sizes)
    again = _answer(run, images[np.arange(largest) % len(images)])
    if _differ(answers[largest], again):
        raise CheckpointError(
            "export: the network gives other answers to the same images the second time: something random is at work.",
            next_step="call network.eval() before it is saved, and give F.dropout training=self.training",
        )
    if _differ(answers[largest][:smallest], answers[smallest]):
        raise CheckpointError(
            "export: the network's answer for an image depends on the other images of the batch, "
            "as with batch norm in training mode, or a branch on the values of the whole batch.",
            next_step="call network.eval() before it is saved; take out control flow that depends on the data",
        )


def _answer(run: Callable[[NDArray[np.uint8]], Any], images: NDArray[np.uint8]) -> Tensor:
    n, height, width, channels = images.shape
    try:
        logits = run(images)
    except Exception as error:  # a stranger's forward may raise anything; it is named, not swallowed
        raise CheckpointError(
            f"export: the network itself fails on images of {[n, channels, height, width]} ({first_line(error)}).",
            next_step="make it work in PyTorch on the CPU; --input-size or --resize if it wants another size, "
            "--batch if it takes one batch size only. Pictures are RGB: a network of one channel needs a forward that "
            "begins with x.mean(1, keepdim=True)",
        ) from error
    if not isinstance(logits, Tensor):
        raise CheckpointError(
            f"export: the network gives {_describe(logits)}; expected one tensor of logits [N, classes].",
            next_step=_ALONE,
        )
    if logits.ndim != 2 or logits.shape[0] != n or not logits.shape[1]:
        raise CheckpointError(
            f"export: the network gives {list(logits.shape)} for {n} images; expected logits [N, classes].",
            next_step=_ALONE,
        )
    if logits.dtype != torch.float32:
        raise CheckpointError(
            f"export: the network gives {logits.dtype}; expected logits in float32.", next_step="call network.float()"
        )
    return logits


def _describe(answer: Any) -> str:
    if isinstance(answer, dict):
        return f"a dictionary with {', '.join(map(str, answer)) or 'nothing in it'}"
    if isinstance(answer, (tuple, list)):
        return f"a {type(answer).__name__} of {len(answer)}"
    return type(answer).__name__


def _differ(first: Tensor, second: Tensor) -> bool:
    """Tell whether logits differ by more than rounding; NaN, which parity refuses, is no difference here."""
    largest = max(float(first.abs().max()), float(torch.finfo(torch.float32).tiny))
    return float((first - second).abs().max()) > TOLERANCE * largest
