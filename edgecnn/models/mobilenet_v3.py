"""A small MobileNetV3 (Howard et al. 2019, "Searching for MobileNetV3", section 5) for pictures of 32x32.

Inverted residuals with depthwise convolutions, squeeze-and-excitation and hard-swish: the three things that int8 finds
hardest. The rows of table 2, halved in width and with fewer strides, for there are fewer pixels.
"""

from torch import Tensor, nn

#: Kernel, channels inside, channels out, squeeze-and-excitation, hard-swish, stride of each block.
_BLOCKS = (
    (3, 16, 16, True, False, 1),
    (3, 48, 24, False, False, 2),
    (3, 64, 24, False, False, 1),
    (5, 72, 32, True, True, 2),
    (5, 128, 32, True, True, 1),
    (5, 128, 48, True, True, 2),
)
_STEM_CHANNELS, _LAST_CHANNELS = 16, 192
_REDUCTION = 4


class SqueezeExcitation(nn.Module):
    """Scale each channel by a gate computed from all of them (Hu et al. 2018), with a hard sigmoid."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, channels // _REDUCTION, 1),
            nn.ReLU(),
            nn.Conv2d(channels // _REDUCTION, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` to the same shape."""
        gated: Tensor = x * self.gate(x)
        return gated


class InvertedResidual(nn.Module):
    """Expand, filter each channel, excite, and project; added to what came in where the shapes allow it."""

    def __init__(
        self, channels_in: int, kernel: int, inside: int, channels_out: int, *, excite: bool, hard: bool, stride: int
    ) -> None:
        super().__init__()
        activation = nn.Hardswish if hard else nn.ReLU
        layers: list[nn.Module] = [
            nn.Conv2d(channels_in, inside, 1, bias=False),
            nn.BatchNorm2d(inside),
            activation(),
            nn.Conv2d(inside, inside, kernel, stride=stride, padding=kernel // 2, groups=inside, bias=False),
            nn.BatchNorm2d(inside),
            activation(),
        ]
        if excite:
            layers.append(SqueezeExcitation(inside))
        layers += [nn.Conv2d(inside, channels_out, 1, bias=False), nn.BatchNorm2d(channels_out)]
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, C, H, W]`` to ``[N, C', H / stride, W / stride]``."""
        projected: Tensor = self.layers(x)
        return x + projected if self.residual else projected


class MobileNetV3(nn.Module):
    """A stem, six inverted residuals, a pointwise convolution, global average pooling and one linear layer."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        channels = _STEM_CHANNELS
        layers: list[nn.Module] = [
            nn.Conv2d(3, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.Hardswish(),
        ]
        for kernel, inside, channels_out, excite, hard, stride in _BLOCKS:
            layers.append(
                InvertedResidual(channels, kernel, inside, channels_out, excite=excite, hard=hard, stride=stride)
            )
            channels = channels_out
        layers += [nn.Conv2d(channels, _LAST_CHANNELS, 1, bias=False), nn.BatchNorm2d(_LAST_CHANNELS), nn.Hardswish()]
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(_LAST_CHANNELS, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalized images float32 ``[N, 3, H, W]`` to logits ``[N, classes]``."""
        logits: Tensor = self.fc(self.pool(self.features(x)).flatten(1))
        return logits
