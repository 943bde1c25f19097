"""LiteRT with XNNPACK: converted by litert-torch, quantized by ai-edge-quantizer."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.peers.serve import Pixels, Variant, calibration, scaled, serve

PACKAGES = ("ai-edge-litert", "ai-edge-quantizer", "litert-torch", "torch")
FLOAT_INPUT = "float32 in"


def prepare(inputs: Path, output: Path) -> list[Variant]:
    """Convert to channels last, and quantize twice: with an int8 input, and with a float one."""
    plain = output / "float.tflite"
    _convert(inputs / "float.pt2", plain)
    recipe = "ai-edge-quantizer, static_wi8_ai8"
    whole, float_input = output / "int8.tflite", output / "int8_float_input.tflite"
    _quantize(plain, whole, inputs, float_input=False)
    _quantize(plain, float_input, inputs, float_input=True)
    return [
        Variant(name="", form="float", file=plain, made_by="litert-torch, channels last"),
        Variant(name="", form="int8", file=whole, made_by=recipe),
        Variant(name=FLOAT_INPUT, form="int8", file=float_input, made_by=f"{recipe}, input left float32"),
    ]


def _convert(source: Path, destination: Path) -> None:
    import litert_torch
    import torch

    program = torch.export.load(source)
    (example,) = program.example_inputs[0]
    last = litert_torch.to_channel_last_io(program.module(), args=[0])
    litert_torch.convert(last, (example.permute(0, 2, 3, 1).contiguous(),)).export(str(destination))


def _quantize(source: Path, destination: Path, inputs: Path, *, float_input: bool) -> None:
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import qtyping, quantizer, recipe
    from ai_edge_quantizer.recipe import AlgorithmName

    quantize = quantizer.Quantizer(str(source))
    quantize.load_quantization_recipe(recipe.static_wi8_ai8())
    if float_input:
        quantize.update_quantization_recipe(
            ".*", qtyping.TFLOperationName.INPUT, algorithm_key=AlgorithmName.NO_QUANTIZE
        )
    ((key, signature),) = Interpreter(str(source)).get_signature_list().items()
    (name,) = signature["inputs"]
    images = calibration(inputs).transpose(0, 2, 3, 1)
    ranges = quantize.calibrate({key: [{name: np.ascontiguousarray(image[None])} for image in images]}, num_threads=1)
    quantize.quantize(ranges).export_model(str(destination), overwrite=True)


class LiteRt:
    """An interpreter; its default delegate is XNNPACK."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(str(path), num_threads=1)
        self._interpreter.allocate_tensors()
        (self._input,) = self._interpreter.get_input_details()
        (output,) = self._interpreter.get_output_details()
        self._from, self._to = self._input["index"], output["index"]

    @property
    def input(self) -> str:
        """Type and shape."""
        return f"{np.dtype(self._input['dtype'])} {'x'.join(str(each) for each in self._input['shape'])}"

    def feed(self, pixels: Pixels) -> NDArray[np.generic]:
        """Channels last; an int8 input is quantized with its own scale."""
        values = scaled(pixels).transpose(0, 2, 3, 1)
        if self._input["dtype"] == np.int8:
            scale, zero_point = self._input["quantization"]
            return np.ascontiguousarray(np.clip(np.rint(values / scale) + zero_point, -128, 127).astype(np.int8))
        return np.ascontiguousarray(values)

    def call(self, batch: Any) -> NDArray[np.generic]:
        """Copy in, invoke, copy out."""
        self._interpreter.set_tensor(self._from, batch)
        self._interpreter.invoke()
        logits: NDArray[np.generic] = self._interpreter.get_tensor(self._to)
        return logits


if __name__ == "__main__":
    serve(prepare, LiteRt, PACKAGES)
