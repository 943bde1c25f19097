"""PyTorch to ONNX with ``torch.onnx.export(dynamo=True)``: plain pixels in, logits out."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgecnn.bundle.manifest import ParityRecord
from edgecnn.errors import StageError
from edgecnn.graph import onnx_file
from edgecnn.graph.fold_normalization import fold_normalization
from edgecnn.graph.parity import BATCH_SIZES, Form, check_parity
from edgecnn.targets import reference_session
from edgecnn.targets.session import feed

if TYPE_CHECKING:
    from onnx import ModelProto

InputType = Literal["float32", "uint8"]
InputLayout = Literal["nchw", "nhwc"]

#: The oldest that torch.export's ONNX exporter writes without converting.
OPSET = 18
#: The IR version that came with opset 18: every runtime that knows the one knows the other.
IR_VERSION = 8


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A float model and how it compares with PyTorch's.

    Attributes:
        data: the ONNX file.
        parity: logits against PyTorch's.
        folded: whether the normalization went into the first convolution.
    """

    data: bytes
    parity: ParityRecord
    folded: bool


class Deployed(nn.Module):
    """A network with everything before it that a device should not have to do."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        input_type: InputType,
        input_layout: InputLayout,
    ) -> None:
        super().__init__()
        self.network = network
        self.input_type, self.input_layout = input_type, input_layout
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map pixels as fed to logits ``[N, classes]``."""
        if self.input_layout == "nhwc":
            x = x.permute(0, 3, 1, 2)
        if self.input_type == "uint8":
            x = x.to(torch.float32) / 255
        logits: Tensor = self.network((x - self.mean) / self.std)
        return logits


def export_network(
    network: nn.Module,
    pixels: NDArray[np.uint8],
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    batch: int | None = None,
    input_type: InputType = "float32",
    input_layout: InputLayout = "nchw",
) -> Exported:
    """Export a classifier and compare its logits with PyTorch's on real images.

    Args:
        network: maps normalized float32 ``[N, 3, H, W]`` to logits; put into evaluation mode.
        pixels: real images for the comparison, uint8 ``[N, H, W, 3]``.
        mean: of each channel in [0, 1].
        std: of each channel in [0, 1].
        batch: a fixed batch size, or None for one that may vary.
        input_type: float32 pixels in [0, 1], or uint8.
        input_layout: ``nchw`` or ``nhwc``.

    Raises:
        StageError: PyTorch could not export the network.
        ParityError: the exported graph gives other answers.
    """
    deployed = Deployed(network.eval(), mean=mean, std=std, input_type=input_type, input_layout=input_layout).eval()
    _, height, width, channels = pixels.shape
    shape = (channels, height, width) if input_layout == "nchw" else (height, width, channels)
    example = torch.zeros((batch or 2, *shape), dtype=torch.float32 if input_type == "float32" else torch.uint8)
    model = _to_onnx(deployed, example, fixed=batch is not None)
    model.ir_version = IR_VERSION
    folded = fold_normalization(model)
    data = onnx_file.serialize(model)
    onnx_file.parse(data, "the exported model")
    session = reference_session(data, model_name="the exported model")

    def run_torch(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = deployed(torch.from_numpy(feed(images, session.input))).numpy()
            return logits

    parity = check_parity(
        "export",
        Form(name="PyTorch", run=run_torch),
        Form(name="the exported model", run=lambda images: session.run(feed(images, session.input))),
        pixels,
        batch_sizes=BATCH_SIZES if batch is None else (batch,),
    )
    return Exported(data=data, parity=parity, folded=folded)


def _to_onnx(module: nn.Module, example: Tensor, *, fixed: bool) -> "ModelProto":
    shapes = None if fixed else ({0: torch.export.Dim("batch", min=1)},)
    try:
        with _quiet():
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["input"],
                output_names=["logits"],
                dynamic_shapes=shapes,
                external_data=False,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        cause = error.__cause__ or error  # the exporter's own words are advice to its developers
        first_line = next((line for line in str(cause).splitlines() if line.strip()), "no reason given")
        reason = f"{type(cause).__name__}: {first_line}"
        raise StageError(
            f"export: PyTorch could not export the network ({reason}).",
            next_step="take out what torch.export cannot trace, such as control flow that depends on the data",
        ) from error
    assert program is not None
    return program.model_proto


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's prints, warnings and log lines away from stdout and stderr."""
    logger = logging.getLogger("torch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
