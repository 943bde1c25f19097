import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edgecnn.models.simplecnn import SimpleCNN

#: pytorch.org/tutorials/beginner/blitz/cifar10_tutorial.html, "Define a Convolutional Neural Network"
TUTORIAL = {
    "conv1.weight": (6, 3, 5, 5),
    "conv1.bias": (6,),
    "conv2.weight": (16, 6, 5, 5),
    "conv2.bias": (16,),
    "fc1.weight": (120, 400),
    "fc1.bias": (120,),
    "fc2.weight": (84, 120),
    "fc2.bias": (84,),
    "fc3.weight": (10, 84),
    "fc3.bias": (10,),
}
Array = NDArray[np.float64]


def convolve(x: Array, weight: Array, bias: Array) -> Array:
    """Cross-correlation of ``[N, C, H, W]`` without padding."""
    windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], axis=(2, 3))
    result: Array = np.einsum("nchwij,ocij->nohw", windows, weight) + bias[:, None, None]
    return result


def pool(x: Array) -> Array:
    n, channels, height, width = x.shape
    largest: Array = x.reshape(n, channels, height // 2, 2, width // 2, 2).max(axis=(3, 5))
    return largest


def forward(x: Array, weights: dict[str, Array]) -> Array:
    for name in ("conv1", "conv2"):
        x = pool(np.maximum(convolve(x, weights[f"{name}.weight"], weights[f"{name}.bias"]), 0))
    x = x.reshape(len(x), -1)
    for name in ("fc1", "fc2", "fc3"):
        x = x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
        if name != "fc3":
            x = np.maximum(x, 0)
    return x


def test_the_weights_are_those_of_the_tutorial_by_name_order_and_shape() -> None:
    state = SimpleCNN().state_dict()
    assert [(name, tuple(tensor.shape)) for name, tensor in state.items()] == list(TUTORIAL.items())


def test_it_has_62006_parameters() -> None:
    assert sum(weight.numel() for weight in SimpleCNN(10).parameters()) == 62_006


@pytest.mark.parametrize("num_classes", [1, 3, 100])
def test_only_the_last_layer_depends_on_the_number_of_classes(num_classes: int) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in SimpleCNN(num_classes).state_dict().items()}
    assert shapes == TUTORIAL | {"fc3.weight": (num_classes, 84), "fc3.bias": (num_classes,)}


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_it_computes_what_numpy_computes_in_double_precision(mode: str) -> None:
    torch.manual_seed(0)
    module = SimpleCNN().train(mode == "train")
    x = torch.randn(5, 3, 32, 32)
    weights = {name: tensor.double().numpy() for name, tensor in module.state_dict().items()}
    expected = forward(x.double().numpy(), weights)
    assert expected.shape == (5, 10)
    assert np.ptp(expected, axis=0).min() > 1e-3
    np.testing.assert_allclose(module(x).detach().numpy(), expected, rtol=1e-4, atol=1e-6)


def test_another_image_size_does_not_fit() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        SimpleCNN()(torch.zeros(1, 3, 28, 28))
