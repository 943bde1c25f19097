"""The torch program that peers are given."""

from pathlib import Path

import numpy as np
import pytest

from edgecnn.bundle import Bundle
from edgecnn.errors import ParityError
from scripts.peer_bench.inputs import write_inputs
from tests.support import make_images


def test_a_checkpoint_of_other_weights_is_found_out(bundle_copy: Path, tmp_path: Path) -> None:
    import torch

    from edgecnn.models import checkpoint

    info, module = checkpoint.load(bundle_copy / "model.pt")
    with torch.no_grad():
        next(module.parameters()).mul_(-1)
    (bundle_copy / "model.pt").write_bytes(checkpoint.pack(info, module))
    with pytest.raises(ParityError, match=r"model.pt and float.onnx: expected logits within 0.001"):
        write_inputs(Bundle.open(bundle_copy), make_images(8), make_images(4, split="test"), tmp_path / "in", ["pt2"])


def test_a_padded_first_convolution_is_fed_what_was_normalized_before() -> None:
    import torch
    from torch import nn

    from scripts.peer_bench.program import takes_unit_range

    network = nn.Sequential(nn.Conv2d(3, 2, 3, padding=1, bias=False), nn.ReLU()).eval()
    bare = nn.Sequential(nn.Conv2d(3, 2, 3, bias=False), nn.ReLU()).eval()
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)
    images = torch.rand(2, 3, 8, 8)
    normalized = (images - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    with torch.no_grad():
        for each in (network, bare):
            np.testing.assert_allclose(takes_unit_range(each, mean, std)(images), each(normalized), atol=1e-5)
