"""MobileNetV1 at width 0.25 (Howard et al. 2017, table 1), as MLPerf Tiny uses it at 3x96x96.

A strided 3x3 stem, thirteen pairs of a depthwise 3x3 and a pointwise 1x1 convolution, each with batch norm
and ReLU, global average pooling and one fully connected layer. Runs at any size from 32x32 up.
"""

from torch import Tensor, nn

#: Channels before the width multiplier, and stride, of each depthwise-pointwise pair.
_PAIRS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
)
WIDTH = 0.25


def depthwise_pair(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    """Return a depthwise 3x3 and a pointwise 1x1 convolution, each with batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_in, 3, stride=stride, padding=1, groups=channels_in, bias=False),
        nn.BatchNorm2d(channels_in),
        nn.ReLU(),
        nn.Conv2d(channels_in, channels_out, 1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
    )


class MobileNetV1(nn.Module):
    """MobileNetV1 with a width multiplier."""

    def __init__(self, num_classes: int = 10, *, width: float = WIDTH) -> None:
        super().__init__()
        channels = round(32 * width)
        layers: list[nn.Module] = [
            nn.Conv2d(3, channels, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        ]
        for full, stride in _PAIRS:
            layers.append(depthwise_pair(channels, round(full * width), stride))
            channels = round(full * width)
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalized images float32 ``[N, 3, H, W]`` to logits ``[N, classes]``."""
        logits: Tensor = self.fc(self.pool(self.features(x)).flatten(1))
        return logits
