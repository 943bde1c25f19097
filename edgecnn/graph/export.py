"""One door out of PyTorch: an exporter's graph leaves only if it gives PyTorch's answers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgecnn.bundle.manifest import ParityRecord, TensorSpec
from edgecnn.errors import EdgecnnError, ParityError, StageError
from edgecnn.graph import onnx_file
from edgecnn.graph.deployed import Deployed, Preprocessing
from edgecnn.graph.exporters import EXPORTERS, Exporter
from edgecnn.graph.fold_normalization import fold_normalization
from edgecnn.graph.parity import BATCH_SIZES, Form, check_parity, with_extremes
from edgecnn.graph.trial import require_classifier
from edgecnn.models.quiet import quiet
from edgecnn.targets import reference_session
from edgecnn.targets.session import feed

#: The oldest that torch.export's ONNX exporter writes without converting; see docs/export.md.
OPSET = 18
#: The IR version that came with opset 18: every runtime that knows the one knows the other.
IR_VERSION = 8
NAME = "the exported model"


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A float model and how it compares with PyTorch's.

    Attributes:
        data: the ONNX file.
        parity: logits against PyTorch's.
        folded: whether the normalization went into the first convolution.
        exporter: which of the exporters made it.
        refused: why the exporters before it were not used, a line each.
    """

    data: bytes
    parity: ParityRecord
    folded: bool
    exporter: str
    refused: tuple[str, ...]


def export_network(
    network: nn.Module,
    pixels: NDArray[np.uint8],
    preprocessing: Preprocessing,
    *,
    batch: int | None = None,
    opset: int = OPSET,
) -> Exported:
    """Export a classifier and compare its logits with PyTorch's, on real images and on extreme ones.

    The exporters of :data:`edgecnn.graph.exporters.EXPORTERS` are tried in order; one whose graph cannot be made
    or differs from PyTorch is passed over, and that is told.

    Args:
        network: maps preprocessed float32 ``[N, 3, H, W]`` to logits; put into evaluation mode.
        pixels: real images as they will be fed, for the comparison, uint8 ``[N, H, W, 3]``.
        preprocessing: what the graph does before the network.
        batch: a fixed batch size, or None for one that may vary.
        opset: of the ONNX file.

    Raises:
        CheckpointError: the network itself fails on such images, or is no classifier of single images.
        StageError: no exporter could export the network.
        ParityError: what they exported gives other answers.
    """
    deployed = Deployed(_evaluating(network), preprocessing)
    deployed.training = False  # eval() would ask the network again
    require_classifier(_by_torch(deployed, preprocessing), pixels, BATCH_SIZES if batch is None else (batch,))
    refused: list[str] = []
    first: EdgecnnError | None = None
    for name, exporter in EXPORTERS.items():
        try:
            return _export_with(name, exporter, deployed, pixels, preprocessing, batch, opset, tuple(refused))
        except (StageError, EdgecnnError) as error:
            refused.append(f"{name}: {error.message}")
            if first is None or isinstance(error, ParityError):
                first = error
    assert first is not None
    kind = ParityError if isinstance(first, ParityError) else StageError
    raise kind("\n".join(refused), next_step=first.next_step) from first


def _evaluating(network: nn.Module) -> nn.Module:
    """Return the network in evaluation mode; one out of a torch.export archive is fixed in the mode it was saved in."""
    try:
        return network.eval()
    except NotImplementedError:
        return network


def _by_torch(deployed: Deployed, preprocessing: Preprocessing) -> Callable[[NDArray[np.uint8]], Any]:
    """Return PyTorch's own form, from uint8 ``[N, H, W, 3]`` to whatever the network answers."""

    def run(images: NDArray[np.uint8]) -> Any:
        height, width, channels = images.shape[1:]
        shape = (channels, height, width) if preprocessing.input_layout == "nchw" else (height, width, channels)
        spec = TensorSpec(name="input", dtype=preprocessing.input_type, shape=("batch", *shape))
        with torch.inference_mode(), quiet():
            return deployed(torch.from_numpy(feed(images, spec)))

    return run


def _export_with(
    name: str,
    exporter: Exporter,
    deployed: Deployed,
    pixels: NDArray[np.uint8],
    preprocessing: Preprocessing,
    batch: int | None,
    opset: int,
    refused: tuple[str, ...],
) -> Exported:
    _, height, width, channels = pixels.shape
    shape = (channels, height, width) if preprocessing.input_layout == "nchw" else (height, width, channels)
    dtype = torch.float32 if preprocessing.input_type == "float32" else torch.uint8
    model = exporter(deployed, torch.zeros((batch or 2, *shape), dtype=dtype), batch is not None, opset)
    if opset == OPSET:
        model.ir_version = IR_VERSION
    folded = fold_normalization(model)
    data = onnx_file.serialize(model)
    onnx_file.parse(data, NAME)
    session = reference_session(data, model_name=NAME)
    by_torch = _by_torch(deployed, preprocessing)

    parity = check_parity(
        "export",
        Form(name="PyTorch", run=lambda images: by_torch(images).numpy()),
        Form(name=NAME, run=lambda images: session.run(feed(images, session.input))),
        with_extremes(pixels),
        batch_sizes=BATCH_SIZES if batch is None else (batch,),
    )
    return Exported(data=data, parity=parity, folded=folded, exporter=name, refused=refused)
