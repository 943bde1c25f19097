"""MNN on the CPU, converted and quantized by its own tools.

The tools are called through MNN's module ``_tools``. Its console scripts are never run: on import they have pip
install a package for sending usage logs, and then send them.
"""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.peers.serve import Pixels, Variant, scaled, serve

PACKAGES = ("mnn",)
#: Of MNN 3.6.1's three methods, KL and EMA gave chance level here, on pictures and on numbers.
METHOD = "ADMM"


def prepare(inputs: Path, output: Path) -> list[Variant]:
    """Convert the ONNX file and quantize it on the calibration images, which MNN reads as PNG files."""
    import _tools

    plain, quantized = output / "float.mnn", output / "int8.mnn"
    onnx = ["-f", "ONNX", "--modelFile", str(inputs / "float.onnx")]
    _tools.mnnconvert(["mnnconvert", *onnx, "--MNNModel", str(plain), "--bizCode", "none", "--keepInputFormat", "0"])
    images = np.load(inputs / "calibration.npy", allow_pickle=False)
    config = output / "quantize.json"
    config.write_text(json.dumps(_settings(images, output / "images")))
    _tools.mnnquant(["mnnquant", str(plain), str(quantized), str(config)])
    return [
        Variant(name="", form="float", file=plain, made_by="MNNConvert"),
        Variant(name="", form="int8", file=quantized, made_by=f"mnnquant, {METHOD}"),
    ]


def _settings(images: NDArray[np.uint8], folder: Path) -> dict[str, Any]:
    """Write the images into a folder and return what mnnquant is to be told."""
    folder.mkdir()
    for index, image in enumerate(images):
        (folder / f"{index:04d}.png").write_bytes(_png(image))
    count, height, width, _ = images.shape
    return {
        "format": "RGB",
        "mean": [0.0, 0.0, 0.0],
        "normal": [1 / 255] * 3,
        "width": width,
        "height": height,
        "path": f"{folder}/",
        "used_image_num": count,
        "feature_quantize_method": METHOD,
        "weight_quantize_method": "MAX_ABS",
        "input_type": "image",
    }


def _png(image: NDArray[np.uint8]) -> bytes:
    """Return uint8 ``[H, W, 3]`` as a PNG file (ISO/IEC 15948), every line unfiltered."""
    height, width, _ = image.shape
    lines = b"".join(b"\0" + line.tobytes() for line in image)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


class Mnn:
    """An interpreter's session."""

    def __init__(self, path: Path) -> None:
        import MNN

        self._mnn = MNN
        self._interpreter = MNN.Interpreter(str(path))
        self._session = self._interpreter.createSession({"numThread": 1, "backend": "CPU", "precision": "high"})
        self._in = self._interpreter.getSessionInput(self._session)
        self._out = self._interpreter.getSessionOutput(self._session)

    @property
    def input(self) -> str:
        """Type and shape."""
        return f"float32 {'x'.join(str(each) for each in self._in.getShape())}"

    def feed(self, pixels: Pixels) -> Any:
        """A host tensor, channels first."""
        values = scaled(pixels)
        tensor = self._mnn.Tensor
        return tensor(values.shape, self._mnn.Halide_Type_Float, values, self._mnn.Tensor_DimensionType_Caffe)

    def call(self, batch: Any) -> NDArray[np.generic]:
        """Copy in, run, and read the output."""
        self._in.copyFrom(batch)
        self._interpreter.runSession(self._session)
        logits: NDArray[np.generic] = self._out.getNumpyData()
        return logits


if __name__ == "__main__":
    serve(prepare, Mnn, PACKAGES)
