"""What every peer is given."""

from pathlib import Path

import numpy as np

from edgecnn.bundle import Bundle
from scripts.peer_bench.inputs import write_inputs
from tests.support import make_images


def test_the_program_for_peers_is_the_function_of_the_onnx_file(bundle_copy: Path, tmp_path: Path) -> None:
    import torch

    from edgecnn.targets import reference_session

    bundle = Bundle.open(bundle_copy)
    write_inputs(bundle, make_images(8), make_images(4, split="test"), tmp_path / "in", ["pt2", "onnx"])
    images = np.random.default_rng(0).random((1, 3, 32, 32), np.float32)
    program = torch.export.load(tmp_path / "in" / "float.pt2").module()
    with torch.no_grad():
        logits = program(torch.from_numpy(images)).numpy()
    one = reference_session((tmp_path / "in" / "float.onnx").read_bytes(), model_name="one")
    assert one.input.shape == (1, 3, 32, 32)
    np.testing.assert_allclose(logits, one.run(images), atol=1e-4)
    assert len(list(program.buffers())) == 0  # the normalization is in the first convolution
