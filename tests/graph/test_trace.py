"""A network as ONNX in memory: the same function, nothing folded, nothing shared that was not."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgecnn.errors import StageError
from edgecnn.graph import onnx_file
from edgecnn.graph.trace import to_onnx
from tests.graphs import evaluate


class Normalized(nn.Module):
    """Two convolutions with batch norm; all weights of the norms are the same."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map an image to one number a channel."""
        found: Tensor = self.body(x).mean((2, 3))
        return found


class Branching(nn.Module):
    """Raises as soon as it is run."""

    def forward(self, x: Tensor) -> Tensor:
        """Refuse."""
        raise ValueError(f"no shape fits {tuple(x.shape)}")


def test_the_graph_is_the_same_function() -> None:
    module = Normalized().eval()
    model = to_onnx(module, (3, 8, 9), "net.pt")
    onnx_file.parse(model.SerializeToString(), "traced")
    image = torch.rand(1, 3, 8, 9)
    with torch.inference_mode():
        expected = module(image).numpy()
    (found,) = evaluate(model, {"input": image.numpy()})
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_nothing_is_folded_and_every_weight_has_a_tensor_of_its_own() -> None:
    model = to_onnx(Normalized().eval(), (3, 8, 8), "net.pt")
    ops = [node.op_type for node in model.graph.node]
    assert ops.count("BatchNormalization") == 2
    assert "Identity" not in ops
    assert {tensor.name for tensor in model.graph.initializer} >= {
        f"body.{index}.{name}" for index in (1, 4) for name in ("weight", "bias", "running_mean", "running_var")
    }


def test_the_network_is_left_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    module = Normalized().eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    to_onnx(module, (3, 8, 8), "net.pt")
    assert not module.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert capfd.readouterr() == ("", "")


def test_a_network_that_cannot_be_traced_is_a_message() -> None:
    with pytest.raises(StageError, match=r"net\.pt: PyTorch cannot trace the network \(no shape fits") as caught:
        to_onnx(Branching().eval(), (3, 8, 8), "net.pt")
    assert "edgecnn export" in caught.value.next_step
