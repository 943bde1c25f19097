"""Stock onnxruntime: quantize_static as it comes, onnxsim's quantizer, and any ONNX file that is given."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.peers.serve import Pixels, Variant, calibration, scaled, serve

PACKAGES = ("onnxruntime", "onnx", "onnxsim")


def prepare(inputs: Path, output: Path) -> list[Variant]:
    """Quantize with onnxruntime's defaults, with U8S8 per channel, and with onnxsim."""
    import onnx
    import onnxsim

    source, images = inputs / "float.onnx", calibration(inputs)
    defaults, per_channel, by_onnxsim = (output / f"{name}.onnx" for name in ("defaults", "u8s8", "onnxsim"))
    _quantize_static(source, defaults, images)
    _quantize_static(source, per_channel, images, u8s8_per_channel=True)
    model = onnx.load(source)
    feeds = list(_feeds(model.graph.input[0].name, images))
    onnx.save(onnxsim.quantize_static(model, feeds), by_onnxsim)
    return [
        Variant(name="defaults", form="int8", file=defaults, made_by="quantize_static, its defaults (QDQ)"),
        Variant(name="U8S8", form="int8", file=per_channel, made_by="quantize_static, QDQ, U8S8 per channel"),
        Variant(name="onnxsim", form="int8", file=by_onnxsim, made_by="onnxsim.quantize_static, its defaults"),
    ]


def _feeds(name: str, images: NDArray[np.float32]) -> Iterator[dict[str, NDArray[np.float32]]]:
    for image in images:
        yield {name: image[None]}


def _quantize_static(
    source: Path, destination: Path, images: NDArray[np.float32], *, u8s8_per_channel: bool = False
) -> None:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime tells no types
        def __init__(self) -> None:
            self._feeds = _feeds(onnx.load(source).graph.input[0].name, images)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            return next(self._feeds, None)

    options: dict[str, Any] = {}
    if u8s8_per_channel:
        options = {"per_channel": True, "activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
    quantize_static(source, destination, Reader(), **options)


class OnnxRuntime:
    """A session on the CPU with one thread."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        told = path.with_suffix(".json")
        if told.is_file():  # ours come with how they are to be opened
            _apply(json.loads(told.read_text()), options)
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        (self._spec,) = self._session.get_inputs()
        self._dtype = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}[self._spec.type]
        self._shape: Sequence[int] = [1, *self._spec.shape[1:]]

    @property
    def input(self) -> str:
        """Type and shape."""
        return f"{self._dtype} {'x'.join(str(each) for each in self._shape)}"

    def feed(self, pixels: Pixels) -> dict[str, NDArray[np.generic]]:
        """In [0, 1] or as bytes, channels first or last, as the input's type and shape say."""
        planes: NDArray[np.generic] = scaled(pixels) if self._dtype == "float32" else pixels.transpose(0, 3, 1, 2)
        last = self._shape[-1] == pixels.shape[-1]
        return {self._spec.name: np.ascontiguousarray(planes.transpose(0, 2, 3, 1) if last else planes)}

    def call(self, batch: Any) -> NDArray[np.generic]:
        """Run; the input is not copied, the output is new."""
        logits: NDArray[np.generic] = self._session.run(None, batch)[0]
        return logits


def _apply(told: dict[str, Any], options: Any) -> None:
    """Set the words of a row of edgecnn's table of session options."""
    import onnxruntime

    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, told["level"])
    for key, value in told["entries"].items():
        options.add_session_config_entry(key, value)
    for name, setting in told["attributes"].items():
        setattr(options, name, setting)


if __name__ == "__main__":
    serve(prepare, OnnxRuntime, PACKAGES)
