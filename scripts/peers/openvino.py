"""OpenVINO on the CPU, quantized by NNCF."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.peers.serve import Pixels, Variant, calibration, scaled, serve

PACKAGES = ("openvino", "nncf")
ONE_THREAD = {
    "INFERENCE_NUM_THREADS": 1,
    "NUM_STREAMS": 1,
    "PERFORMANCE_HINT": "LATENCY",
    "INFERENCE_PRECISION_HINT": "f32",  # else bfloat16 where the CPU has it
    "ENABLE_CPU_PINNING": False,  # the process is pinned already
}


def prepare(inputs: Path, output: Path) -> list[Variant]:
    """Read the ONNX file and quantize it with NNCF's defaults on all calibration images."""
    import nncf
    import openvino

    model = openvino.Core().read_model(inputs / "float.onnx")
    plain, quantized = output / "float.xml", output / "int8.xml"
    openvino.save_model(model, plain, compress_to_fp16=False)
    images = calibration(inputs)
    dataset = nncf.Dataset([image[None] for image in images])
    openvino.save_model(nncf.quantize(model, dataset, subset_size=len(images)), quantized, compress_to_fp16=False)
    return [
        Variant(name="", form="float", file=plain, made_by="OpenVINO's ONNX reader"),
        Variant(name="", form="int8", file=quantized, made_by="nncf.quantize, its defaults"),
    ]


class OpenVino:
    """A request whose input and output lie in arrays of numpy."""

    def __init__(self, path: Path) -> None:
        import openvino

        model = openvino.Core().compile_model(str(path), "CPU", ONE_THREAD)
        self._in = np.zeros(tuple(model.input(0).shape), np.float32)
        self._out = np.zeros(tuple(model.output(0).shape), np.float32)
        self._request = model.create_infer_request()
        self._request.set_input_tensor(openvino.Tensor(self._in, shared_memory=True))
        self._request.set_output_tensor(openvino.Tensor(self._out, shared_memory=True))

    @property
    def input(self) -> str:
        """Type and shape."""
        return f"float32 {'x'.join(str(each) for each in self._in.shape)}"

    def feed(self, pixels: Pixels) -> NDArray[np.float32]:
        """Channels first."""
        return scaled(pixels)

    def call(self, batch: Any) -> NDArray[np.generic]:
        """Copy in and infer; the output is already where it can be read."""
        np.copyto(self._in, batch)
        self._request.infer()
        return self._out


if __name__ == "__main__":
    serve(prepare, OpenVino, PACKAGES)
