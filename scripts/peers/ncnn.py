"""ncnn: converted by pnnx, quantized as ncnn2table and ncnn2int8 do it, which no wheel brings."""

import importlib.util
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.peers.ncnn_int8 import quantize
from scripts.peers.serve import Pixels, Variant, calibration, scaled, serve

PACKAGES = ("ncnn", "pnnx")


def prepare(inputs: Path, output: Path) -> list[Variant]:
    """Convert the ONNX file with pnnx and quantize what comes of it."""
    source = output / "float.onnx"  # pnnx writes beside what it reads
    source.write_bytes((inputs / "float.onnx").read_bytes())
    images = calibration(inputs)
    shape = ",".join(str(each) for each in (1, *images.shape[1:]))
    subprocess.run([_pnnx(), source.name, f"inputshape=[{shape}]", "fp16=0"], cwd=output, check=True)
    plain, quantized = output / "float.ncnn.param", output / "int8.ncnn.param"
    quantize(plain, quantized, images)
    return [
        Variant(name="", form="float", file=plain, made_by="pnnx, float32 weights"),
        Variant(name="", form="int8", file=quantized, made_by="as ncnn2table (KL) and ncnn2int8, rewritten"),
    ]


def _pnnx() -> Path:
    """Return the converter's program; importing its package would ask for torch, which the program does not."""
    found = importlib.util.find_spec("pnnx")
    assert found is not None
    assert found.submodule_search_locations is not None
    return Path(found.submodule_search_locations[0], "pnnx")


class Ncnn:
    """A net; every call has an extractor of its own."""

    def __init__(self, path: Path) -> None:
        import ncnn

        self._ncnn = ncnn
        self._net = ncnn.Net()
        self._net.opt.num_threads = 1
        if self._net.load_param(str(path)) or self._net.load_model(str(path.with_suffix(".bin"))):
            raise RuntimeError(f"ncnn does not load {path.name}")
        (self._from,), (self._to,) = self._net.input_names(), self._net.output_names()

    @property
    def input(self) -> str:
        """Type and layout; the file holds no shape."""
        return "float32 CxHxW"

    def feed(self, pixels: Pixels) -> NDArray[np.float32]:
        """Channels first, without the batch."""
        image: NDArray[np.float32] = scaled(pixels)[0]
        return image

    def call(self, batch: Any) -> NDArray[np.generic]:
        """Wrap the array without copying, run, and read the output."""
        extractor = self._net.create_extractor()
        extractor.input(self._from, self._ncnn.Mat(batch))
        failed, logits = extractor.extract(self._to)
        assert not failed
        return np.asarray(logits)


if __name__ == "__main__":
    serve(prepare, Ncnn, PACKAGES)
