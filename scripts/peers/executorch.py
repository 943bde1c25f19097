"""ExecuTorch with XNNPACK, quantized by its XNNPACKQuantizer through torchao's pt2e."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.peers.serve import Pixels, Variant, calibration, scaled, serve

PACKAGES = ("executorch", "torch", "torchao")


def prepare(inputs: Path, output: Path) -> list[Variant]:
    """Lower the exported program, and its quantized form, to XNNPACK."""
    import torch

    torch.set_num_threads(1)
    program = torch.export.load(inputs / "float.pt2")
    plain, quantized = output / "float.pte", output / "int8.pte"
    plain.write_bytes(_lower(program))
    quantized.write_bytes(_lower(_quantize(program, calibration(inputs))))
    return [
        Variant(name="", form="float", file=plain, made_by="XnnpackPartitioner"),
        Variant(name="", form="int8", file=quantized, made_by="XNNPACKQuantizer, symmetric, per channel"),
    ]


def _quantize(program: Any, images: NDArray[np.float32]) -> Any:
    import torch
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    observed = prepare_pt2e(program.module(), quantizer)
    with torch.no_grad():
        for image in images:
            observed(torch.from_numpy(image[None]))
    return torch.export.export(convert_pt2e(observed), program.example_inputs[0])


def _lower(program: Any) -> bytes:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    data: bytes = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch().buffer
    return data


class ExecuTorch:
    """A method of a loaded program."""

    def __init__(self, path: Path) -> None:
        import torch
        from executorch.runtime import Runtime

        torch.set_num_threads(1)  # XNNPACK's own pool has one thread on one CPU, to which the process is pinned
        self._torch = torch
        self._program = Runtime.get().load_program(path)
        self._method = self._program.load_method("forward")
        self._sizes = self._method.metadata.input_tensor_meta(0).sizes()

    @property
    def input(self) -> str:
        """Type and shape."""
        return f"float32 {'x'.join(str(each) for each in self._sizes)}"

    def feed(self, pixels: Pixels) -> Any:
        """A list of one tensor."""
        return [self._torch.from_numpy(scaled(pixels))]

    def call(self, batch: Any) -> NDArray[np.generic]:
        """Execute; input and output are shared with torch."""
        logits: NDArray[np.generic] = self._method.execute(batch)[0].numpy()
        return logits


if __name__ == "__main__":
    serve(prepare, ExecuTorch, PACKAGES)
