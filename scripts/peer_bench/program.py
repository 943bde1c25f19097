"""The trained network as a torch program that normalizes its own input: what the peers that read PyTorch are given."""

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgecnn.errors import ParityError
from edgecnn.models.checkpoint import load
from edgecnn.targets import reference_session
from edgecnn.targets.session import feed

#: Two float forms of one network: torch and onnxruntime differ by about a hundredth of it.
TOLERANCE = 1e-3


class Normalized(nn.Module):
    """Normalizes, then runs a network."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, x: Tensor) -> Tensor:
        """Map images in [0, 1], float32 ``[N, 3, H, W]``, to logits ``[N, classes]``."""
        logits: Tensor = self.network((x - self.mean) / self.std)
        return logits


def export_program(checkpoint: Path, destination: Path, model: bytes, pixels: NDArray[np.uint8]) -> None:
    """Write a checkpoint as a ``.pt2`` that takes one image in [0, 1] a call.

    Args:
        checkpoint: ``model.pt``.
        destination: where to.
        model: ``float.onnx``, whose function it must be.
        pixels: uint8 ``[N, H, W, 3]`` to compare on.

    Raises:
        CheckpointError: the checkpoint cannot be read.
        ParityError: it is another function.
    """
    info, module = load(checkpoint)
    network = takes_unit_range(module.eval(), info.mean, info.std)
    session = reference_session(model, model_name="float.onnx")
    images = np.asarray(feed(pixels, session.input), np.float32)
    with torch.no_grad():
        logits = network(torch.from_numpy(images)).numpy()
    off = float(np.abs(logits - session.run(images)).max())
    if not off <= TOLERANCE:
        raise ParityError(
            f"{checkpoint.name} and float.onnx: expected logits within {TOLERANCE:g} of each other, found {off:.2g}.",
            next_step="edgecnn export model.pt",
        )
    torch.export.save(torch.export.export(network, (torch.zeros(1, *info.input_shape),)), destination)


def takes_unit_range(module: nn.Module, means: Sequence[float], stds: Sequence[float]) -> nn.Module:
    """Return a network that is fed [0, 1], as ``float.onnx`` is.

    The normalization is folded into an unpadded first convolution; a padded one is fed what is normalized before it.
    """
    mean, std = (torch.tensor(each, dtype=torch.float64).view(1, -1, 1, 1) for each in (means, stds))
    folded = copy.deepcopy(module)
    first = next(each for each in folded.modules() if isinstance(each, nn.Conv2d))
    if any(first.padding):
        return Normalized(module, mean.float(), std.float()).eval()
    with torch.no_grad():
        weight = first.weight.double() / std
        bias = (0.0 if first.bias is None else first.bias.double()) - (weight * mean).sum((1, 2, 3))
        first.weight.copy_(weight)
        first.bias = nn.Parameter(bias.float())
    return folded
