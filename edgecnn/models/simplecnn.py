"""SimpleCNN: the network of the PyTorch CIFAR-10 tutorial ("Training a Classifier").

62,006 parameters for ten classes, for images of 3x32x32.
"""

from torch import Tensor, flatten, nn
from torch.nn import functional


class SimpleCNN(nn.Module):
    """Two 5x5 convolutions with ReLU and 2x2 max-pooling, then 400-120-84-classes fully connected."""

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, 120)
        self.fc2 = nn.Linear(120, 84)
        self.fc3 = nn.Linear(84, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalized images float32 ``[N, 3, 32, 32]`` to logits ``[N, classes]``."""
        x = self.pool(functional.relu(self.conv1(x)))
        x = self.pool(functional.relu(self.conv2(x)))
        x = flatten(x, 1)
        x = functional.relu(self.fc1(x))
        x = functional.relu(self.fc2(x))
        logits: Tensor = self.fc3(x)
        return logits
