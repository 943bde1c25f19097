"""The networks that come with edgecnn: one literal table of constructors.

A new model is a module with its class, and a row in :data:`MODELS`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgecnn.errors import UsageError

if TYPE_CHECKING:  # torch takes a second to import; only building a model needs it
    from torch import nn

__all__ = ["MODELS", "ModelSpec", "model_spec"]


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """How to build a network, and what it wants to see.

    Attributes:
        build: number of classes to a module in training mode with random weights.
        input_shape: channels, height and width of its input.
        summary: one line for the help.
    """

    build: "Callable[[int], nn.Module]"
    input_shape: tuple[int, int, int]
    summary: str


def _simplecnn(num_classes: int) -> "nn.Module":
    from edgecnn.models.simplecnn import SimpleCNN

    return SimpleCNN(num_classes)


def _resnet8(num_classes: int) -> "nn.Module":
    from edgecnn.models.resnet8 import ResNet8

    return ResNet8(num_classes)


def _mobilenet_v1(num_classes: int) -> "nn.Module":
    from edgecnn.models.mobilenet_v1 import MobileNetV1

    return MobileNetV1(num_classes)


def _mobilenet_v3(num_classes: int) -> "nn.Module":
    from edgecnn.models.mobilenet_v3 import MobileNetV3

    return MobileNetV3(num_classes)


def _ds_cnn(num_classes: int) -> "nn.Module":
    from edgecnn.models.ds_cnn import DSCNN

    return DSCNN(num_classes)


MODELS: dict[str, ModelSpec] = {
    "simplecnn": ModelSpec(
        build=_simplecnn,
        input_shape=(3, 32, 32),
        summary="the PyTorch CIFAR-10 tutorial's network, 62,006 parameters",
    ),
    "resnet8": ModelSpec(
        build=_resnet8, input_shape=(3, 32, 32), summary="MLPerf Tiny's image classifier, three residual stacks"
    ),
    "mobilenet_v1": ModelSpec(
        build=_mobilenet_v1, input_shape=(3, 96, 96), summary="MobileNetV1 at width 0.25, depthwise convolutions"
    ),
    "mobilenet_v3": ModelSpec(
        build=_mobilenet_v3,
        input_shape=(3, 32, 32),
        summary="a small MobileNetV3: squeeze-and-excitation and hard-swish",
    ),
    "ds_cnn": ModelSpec(
        build=_ds_cnn, input_shape=(3, 32, 32), summary="a small depthwise-separable network after Hello Edge"
    ),
}


def model_spec(name: str) -> ModelSpec:
    """Return a row of the table.

    Raises:
        UsageError: there is no such model; the known ones are listed.
    """
    if name not in MODELS:
        raise UsageError(
            f"unknown model {name!r}; known: {', '.join(MODELS)}.", next_step=f"--model {next(iter(MODELS))}"
        )
    return MODELS[name]
