"""One door out of PyTorch: an exporter's graph leaves only if it gives PyTorch's answers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import nn

from edgecnn.bundle.manifest import ParityRecord, TensorSpec
from edgecnn.errors import EdgecnnError, ParityError, StageError
from edgecnn.graph import onnx_file
from edgecnn.graph.activations import onnx_activations
from edgecnn.graph.bisection import LayerLedger, compare_layers
from edgecnn.graph.deployed import Deployed, Preprocessing
from edgecnn.graph.exporters import EXPORTERS, Exporter
from edgecnn.graph.external_data import split_weights
from edgecnn.graph.fold_normalization import fold_normalization
from edgecnn.graph.parity import BATCH_SIZES, TOLERANCE, Form, check_parity, telling_images, with_extremes
from edgecnn.graph.torch_activations import torch_activations
from edgecnn.graph.trial import require_classifier
from edgecnn.models.quiet import quiet
from edgecnn.targets import reference_session
from edgecnn.targets.session import feed

#: The oldest that torch.export's ONNX exporter writes without converting; see docs/export.md.
OPSET = 18
NAME = "the exported model"
#: Beside ``float.onnx``, for a network of more than 2 GiB.
WEIGHTS = "float.onnx.data"


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A float model and how it compares with PyTorch's.

    Attributes:
        data: the ONNX file.
        weights: the content of :data:`WEIGHTS`, where the ONNX file cannot hold them all.
        parity: logits against PyTorch's.
        folded: whether the normalization went into the first convolution.
        exporter: which of the exporters made it.
        refused: why the exporters before it were not used, a line each.
        layers: the comparison with PyTorch layer by layer, if it was asked for.
    """

    data: bytes
    weights: bytes | None
    parity: ParityRecord
    folded: bool
    exporter: str
    refused: tuple[str, ...]
    layers: LayerLedger | None


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A network and all that is said of its export."""

    deployed: Deployed
    pixels: NDArray[np.uint8]
    preprocessing: Preprocessing
    batch: int | None
    opset: int
    labels: tuple[str, ...]
    bisect: bool


def export_network(
    network: nn.Module,
    pixels: NDArray[np.uint8],
    preprocessing: Preprocessing,
    *,
    batch: int | None = None,
    opset: int = OPSET,
    labels: tuple[str, ...] = (),
    bisect: bool = False,
) -> Exported:
    """Export a classifier and compare its logits with PyTorch's, on real images and on extreme ones.

    The exporters of :data:`edgecnn.graph.exporters.EXPORTERS` are tried in order; one whose graph cannot be made
    or differs from PyTorch is passed over, and that is told, with the first layer that differs.

    Args:
        network: maps preprocessed float32 ``[N, 3, H, W]`` to logits; put into evaluation mode.
        pixels: real images as they will be fed, for the comparison, uint8 ``[N, H, W, 3]``.
        preprocessing: what the graph does before the network.
        batch: a fixed batch size, or None for one that may vary.
        opset: of the ONNX file; its IR version is the oldest that allows it.
        labels: class names to put into the file, in the order of the logits.
        bisect: compare layer by layer even if the logits agree.

    Raises:
        CheckpointError: the network itself fails on such images, or is no classifier of single images.
        StageError: no exporter could export the network.
        ParityError: what they exported gives other answers.
    """
    deployed = Deployed(_evaluating(network), preprocessing)
    deployed.training = False  # eval() would ask the network again
    job = _Job(
        deployed=deployed,
        pixels=pixels,
        preprocessing=preprocessing,
        batch=batch,
        opset=opset,
        labels=labels,
        bisect=bisect,
    )
    require_classifier(_by_torch(deployed, preprocessing), pixels, BATCH_SIZES if batch is None else (batch,))
    refused: list[str] = []
    first: EdgecnnError | None = None
    for name, exporter in EXPORTERS.items():
        try:
            return _export_with(name, exporter, job, tuple(refused))
        except EdgecnnError as error:
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


def _export_with(name: str, exporter: Exporter, job: _Job, refused: tuple[str, ...]) -> Exported:
    _, height, width, channels = job.pixels.shape
    shape = (channels, height, width) if job.preprocessing.input_layout == "nchw" else (height, width, channels)
    dtype = torch.float32 if job.preprocessing.input_type == "float32" else torch.uint8
    example = torch.zeros((job.batch or 2, *shape), dtype=dtype)
    model = exporter(job.deployed, example, job.batch is not None, job.opset)
    model.ir_version = onnx.helper.find_min_ir_version_for(model.opset_import)
    folded = fold_normalization(model)
    onnx_file.write_labels(model, job.labels)
    onnx_file.require_finite_weights(model, NAME)
    weights = split_weights(model, WEIGHTS)
    data = onnx_file.serialize(model)
    if weights is None:
        onnx_file.parse(data, NAME)
    parity, layers = _compare(data, weights, job)
    return Exported(
        data=data, weights=weights, parity=parity, folded=folded, exporter=name, refused=refused, layers=layers
    )


def _compare(data: bytes, weights: bytes | None, job: _Job) -> tuple[ParityRecord, LayerLedger | None]:
    """Compare an exported model with PyTorch; where they differ, say in which layer.

    Raises:
        ParityError: they differ.
    """
    session = reference_session(data, model_name=NAME, weights=None if weights is None else {WEIGHTS: weights})
    compared = with_extremes(job.pixels)

    by_torch = _by_torch(job.deployed, job.preprocessing)

    def by_layer(images: tuple[int, ...]) -> LayerLedger | None:
        if weights is not None:  # every tensor of a network of this size twice over is more than a machine holds
            return None
        batch = feed(compared[list(images)], session.input)
        return compare_layers(
            torch_activations(job.deployed, torch.from_numpy(batch)),
            onnx_activations(data, {session.input.name: batch}, NAME),
            TOLERANCE,
        )

    try:
        parity = check_parity(
            "export",
            Form(name="PyTorch", run=lambda images: by_torch(images).numpy()),
            Form(name=NAME, run=lambda images: session.run(feed(images, session.input))),
            compared,
            batch_sizes=BATCH_SIZES if job.batch is None else (job.batch,),
        )
    except ParityError as error:
        if not error.images:
            raise
        raise ParityError(f"{error.message} {_told(by_layer(error.images))}", next_step=error.next_step) from error
    return parity, by_layer(telling_images(len(compared), job.batch)) if job.bisect else None


def _told(layers: LayerLedger | None) -> str:
    if layers is None:
        return "It is too large to be compared layer by layer."
    if layers.first is not None:
        return f"By layer: {layers}."
    return f"Unfused, no layer differs, so ONNX Runtime's graph optimizations change the answers: {layers}."
