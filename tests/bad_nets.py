"""Networks that cannot be deployed, each for one reason; named on the command line as ``tests.bad_nets:Name``."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

SIZE = 8


class Net(nn.Module):
    """A good network for images of 8x8 pixels, with whatever a subclass spoils."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, 4, 3)
            self.norm = nn.BatchNorm2d(4)
            self.drop = nn.Dropout(0.5)
            self.fc = nn.Linear(4 * 6 * 6, 3)

    def forward(self, x: Tensor) -> Any:
        return self.logits(x)

    def logits(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(torch.flatten(self.drop(torch.relu(self.norm(self.conv(x)))), 1))
        return logits


class AnySize(Net):
    """A good network for images of any size."""

    def logits(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(torch.flatten(functional.adaptive_avg_pool2d(self.conv(x), 6), 1))
        return logits


class ControlFlow(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x) * 2 if x.max() > -1e9 else self.logits(x)


class BatchBranch(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x) * 2 if len(x) > 1 and x.mean() < 0.5 else self.logits(x)


@torch.library.custom_op("edgecnn_tests::twice", mutates_args=())
def twice(x: Tensor) -> Tensor:
    return x * 2


@twice.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class CustomOp(Net):
    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = twice(self.logits(x))
        return logits


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.from_numpy(x.numpy() ** 3)  # what no exporter can follow

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        raise NotImplementedError


class CustomFunction(Net):
    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = Cube.apply(self.logits(x))
        return logits


class TwoInputs(Net):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:  # type: ignore[override]
        return self.logits(x + y)


class Half(Net):
    def __init__(self) -> None:
        super().__init__()
        self.half()


class ToGpu(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x.cuda())


class Pair(Net):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.logits(x), x


class Named(Net):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": self.logits(x), "aux": x}


class Heatmap(Net):
    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.conv(x)
        return features


class OneRow(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x).mean(0, keepdim=True)


class Classes(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x).argmax(1)


class Integers(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.logits(x).round().to(torch.int64)


class Gradient(Net):
    """Sharpens its input along the gradient, as adversarial defences do."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(self.logits(x).sum(), x)
        return self.logits(x + gradient)


class AlwaysDropping(Net):
    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(self.logits(x), 0.5, training=True)


class BatchStatistics(Net):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(4, track_running_stats=False)


class Printing(Net):
    def forward(self, x: Tensor) -> Tensor:
        print("forward was here")
        raise OSError("my weights are on another disk\nand so am I")


class Stubborn(Net):
    """Stays in training mode, whatever it is told."""

    def eval(self) -> "Stubborn":
        return self


def empty() -> nn.Module:
    return nn.Module()


def nothing() -> nn.Module:
    return nn.Sequential()
