"""DS-CNN: the depthwise-separable network of "Hello Edge" (Zhang et al. 2017), for pictures instead of speech.

One 3x3 convolution of 64 channels, four depthwise-pointwise pairs at the same width, global average pooling
and one fully connected layer. The stem has stride 2, so it suits 32x32 to 96x96.
"""

from torch import Tensor, nn

from edgecnn.models.mobilenet_v1 import depthwise_pair

CHANNELS = 64
N_PAIRS = 4


class DSCNN(nn.Module):
    """A small depthwise-separable CNN with batch norm."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, CHANNELS, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(CHANNELS), nn.ReLU()
        )
        self.pairs = nn.Sequential(*(depthwise_pair(CHANNELS, CHANNELS, 1) for _ in range(N_PAIRS)))
        self.dropout = nn.Dropout(0.2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(CHANNELS, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalized images float32 ``[N, 3, H, W]`` to logits ``[N, classes]``."""
        logits: Tensor = self.fc(self.dropout(self.pool(self.pairs(self.stem(x))).flatten(1)))
        return logits
