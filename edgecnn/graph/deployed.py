"""A network with everything before it that a device should not have to do."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

InputType = Literal["float32", "uint8"]
InputLayout = Literal["nchw", "nhwc"]
Channels = Literal["rgb", "bgr"]
BYTE_MAX = 255


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What lies between a device's pixels and what the network was trained on.

    The network sees ``(pixel * scale - mean) / std``, where ``pixel`` is 0 to 255.

    Attributes:
        mean: of each channel, in the network's channel order, after scaling.
        std: of each channel, in the network's channel order, after scaling.
        scale: of a pixel; 1/255 brings it to [0, 1].
        channels: the network's order; pictures are always fed as RGB.
        resize: height and width that the network wants, if pictures are fed at another size.
        input_type: ``float32`` in [0, 1], or ``uint8``.
        input_layout: ``nchw`` or ``nhwc``.
    """

    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    scale: float = 1 / BYTE_MAX
    channels: Channels = "rgb"
    resize: tuple[int, int] | None = None
    input_type: InputType = "float32"
    input_layout: InputLayout = "nchw"


class Deployed(nn.Module):
    """The graph that is exported: preprocessing, then the network."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.network = network
        self.nhwc = preprocessing.input_layout == "nhwc"
        self.bgr = preprocessing.channels == "bgr"
        self.resize = preprocessing.resize is not None
        self.size: tuple[int, int] = preprocessing.resize or (0, 0)
        # What brings the input to the network's scale; exactly one where nothing need be done.
        per_byte = preprocessing.scale
        self.factor = per_byte if preprocessing.input_type == "uint8" else per_byte * BYTE_MAX
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(preprocessing.std).view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map pixels as fed to logits ``[N, classes]``."""
        if self.nhwc:
            # contiguous: else the exporter writes out the strides of a later tensor, as Shape, Range and Gather.
            x = x.permute(0, 3, 1, 2).contiguous()
        if self.bgr:
            x = x[:, [2, 1, 0]]
        x = x.to(torch.float32)
        if self.resize:
            x = functional.interpolate(x, size=self.size, mode="bilinear", align_corners=False)
        if self.factor != 1:
            x = x * self.factor
        logits: Tensor = self.network((x - self.mean) / self.std)
        return logits
