"""ResNet8: the image-classification network of MLPerf Tiny (Banbury et al. 2021), for CIFAR-10.

Three residual stacks of 16, 32 and 64 channels (He et al. 2016, "Deep Residual Learning", section 4.2, with
n = 1), 1x1 convolutions as shortcuts where the size changes. 78,666 parameters for ten classes at 3x32x32,
counted as Keras counts them: with batch norm's moving statistics, which are not trained; 78,186 without.
"""

from torch import Tensor, nn


def _convolution(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    """Return a 3x3 convolution with TensorFlow's ``same`` padding, which at stride 2 is one-sided, and batch norm."""
    convolution = nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1 if stride == 1 else 0)
    layers: list[nn.Module] = [convolution, nn.BatchNorm2d(channels_out)]
    return nn.Sequential(*([nn.ZeroPad2d((0, 1, 0, 1))] if stride == 2 else []), *layers)


class ResidualStack(nn.Module):
    """Two 3x3 convolutions with batch norm, and what came in added to what goes out."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.first = _convolution(channels_in, channels_out, stride)
        self.second = _convolution(channels_out, channels_out, 1)
        same = channels_in == channels_out and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels_in, channels_out, 1, stride=stride)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map float32 ``[N, C, H, W]`` to ``[N, C', H / stride, W / stride]``."""
        y = self.second(self.relu(self.first(x)))
        out: Tensor = self.relu(self.shortcut(x) + y)
        return out


class ResNet8(nn.Module):
    """A 3x3 stem, three residual stacks, global average pooling and one fully connected layer."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(_convolution(3, 16, 1), nn.ReLU())
        self.stacks = nn.Sequential(ResidualStack(16, 16, 1), ResidualStack(16, 32, 2), ResidualStack(32, 64, 2))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalized images float32 ``[N, 3, 32, 32]`` to logits ``[N, classes]``."""
        logits: Tensor = self.fc(self.pool(self.stacks(self.stem(x))).flatten(1))
        return logits
