"""Int8 for ncnn, written from its documented scheme: neither wheel holds ncnn2table or ncnn2int8.

Weights: one scale an output channel from the largest value, and 6 bits for 3x3 convolutions of stride 1, whose int8
kernels are Winograd's. Inputs of layers: one scale, its threshold by Kullback-Leibler divergence over 2,048 bins
(Migacz, "8-bit Inference with TensorRT", GTC 2017), as ncnn's tool does by default.

A ``.bin`` is the weights of each layer in the order of the ``.param``: a tag (0: float32 follows, 0x000D4B38: int8,
padded to four bytes), the values, the bias, and for int8 the scales of weights, input and, fused, output.
"""

import math
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
INT8_TAG = 0x000D4B38
BINS, LEVELS = 2048, 128
#: Per type: the parameters that hold the number of weights and whether there is a bias.
WEIGHTED = {"Convolution": (6, 5), "ConvolutionDepthWise": (6, 5), "InnerProduct": (2, 1)}
QUANTIZED = ("Convolution", "InnerProduct")


@dataclass
class Layer:
    """A line of a ``.param``, and what a ``.bin`` holds for it."""

    kind: str
    head: list[str]
    inputs: list[str]
    outputs: list[str]
    parameters: dict[int, str]
    weight: Float32 | None = None
    bias: Float32 = field(default_factory=lambda: np.zeros(0, np.float32))

    def number(self, key: int, default: int = 0) -> int:
        """Return a parameter."""
        return int(self.parameters.get(key, default))


def quantize(source: Path, destination: Path, images: Float32) -> None:
    """Write an int8 ``.param`` and ``.bin`` for a float pair.

    Args:
        source: ``.param`` of the float net; its ``.bin`` is beside it.
        destination: ``.param`` to write.
        images: float32 ``[N, C, H, W]``, as the net is fed.

    Raises:
        ValueError: a layer has weights of a kind that is not known here.
    """
    magic, counts, *lines = source.read_text().splitlines()
    layers = [_parse(line) for line in lines]
    _load_weights(layers, source.with_suffix(".bin").read_bytes())
    chosen = [layer for layer in layers if layer.kind in QUANTIZED]
    scales = _input_scales(source, sorted({layer.inputs[0] for layer in chosen}), images)
    fused = {layer.inputs[0] for layer in chosen if layer.kind == "Convolution"}
    binary = b""
    for layer in layers:
        if layer.kind in QUANTIZED:
            after = layer.outputs[0] if layer.kind == "Convolution" and layer.outputs[0] in fused else None
            layer.parameters[8] = "2" if after is None else "102"
            binary += _int8(layer, scales[layer.inputs[0]], None if after is None else scales[after])
        elif layer.weight is not None:
            binary += (struct.pack("<I", 0) if layer.kind in WEIGHTED else b"") + layer.weight.tobytes()
            binary += layer.bias.tobytes()
    destination.write_text("\n".join([magic, counts, *map(_text, layers)]) + "\n")
    destination.with_suffix(".bin").write_bytes(binary)


def _parse(line: str) -> Layer:
    kind, name, n_inputs, n_outputs, *rest = line.split()
    ends = int(n_inputs), int(n_inputs) + int(n_outputs)
    parameters = dict(each.split("=", 1) for each in rest[ends[1] :])
    return Layer(
        kind=kind,
        head=[kind, name, n_inputs, n_outputs],
        inputs=rest[: ends[0]],
        outputs=rest[ends[0] : ends[1]],
        parameters={int(key): value for key, value in parameters.items()},
    )


def _text(layer: Layer) -> str:
    parameters = [f"{key}={value}" for key, value in layer.parameters.items()]
    return " ".join([*layer.head, *layer.inputs, *layer.outputs, *parameters])


def _load_weights(layers: list[Layer], data: bytes) -> None:
    at = 0
    for layer in layers:
        if layer.kind in WEIGHTED:
            size, has_bias = (layer.number(key) for key in WEIGHTED[layer.kind])
            if struct.unpack_from("<I", data, at)[0]:
                raise ValueError(f"{layer.head[1]}: expected float32 weights")
            layer.weight = np.frombuffer(data, np.float32, size, at + 4)
            layer.bias = np.frombuffer(data, np.float32, layer.number(0) * has_bias, at + 4 + 4 * size)
            at += 4 + 4 * size + layer.bias.nbytes
        elif layer.kind == "MemoryData":
            size = math.prod(layer.number(key) or 1 for key in (0, 1, 11, 2))
            layer.weight = np.frombuffer(data, np.float32, size, at)
            at += 4 * size
    if at != len(data):
        raise ValueError(f"expected {at} bytes of weights, found {len(data)}: a layer has weights of an unknown kind")


def _int8(layer: Layer, scale: float, output_scale: float | None) -> bytes:
    assert layer.weight is not None
    rows = layer.weight.reshape(layer.number(0), -1)
    largest = np.abs(rows).max(1)
    per_row = (_weight_levels(layer) / np.where(largest > 0, largest, 1)).astype(np.float32)
    # ncnn rounds halves away from zero.
    scaled = rows * per_row[:, None]
    integers = np.clip(np.trunc(scaled + np.copysign(np.float32(0.5), scaled)), -127, 127).astype(np.int8)
    raw = integers.tobytes()
    scales = [scale] if output_scale is None else [scale, output_scale]
    padded: bytes = struct.pack("<I", INT8_TAG) + raw + bytes(-len(raw) % 4)
    return padded + layer.bias.tobytes() + per_row.tobytes() + np.array(scales, np.float32).tobytes()


def _weight_levels(layer: Layer) -> int:
    width = layer.number(1)
    small = layer.kind == "Convolution" and width == 3 and layer.number(11, width) == 3
    unit = all(layer.number(key, 1) == 1 for key in (2, 12, 3, 13))
    return 31 if small and unit else 127


def _input_scales(param: Path, blobs: list[str], images: Float32) -> dict[str, float]:
    """Return 127 / threshold for each blob."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = 1
    net.load_param(str(param))
    net.load_model(str(param.with_suffix(".bin")))
    largest = dict.fromkeys(blobs, 0.0)
    for blob, values in _activations(ncnn, net, blobs, images):
        largest[blob] = max(largest[blob], float(np.abs(values).max()))
    histograms = {blob: np.zeros(BINS) for blob in blobs}
    for blob, values in _activations(ncnn, net, blobs, images):
        magnitudes = np.abs(values[values != 0])
        histograms[blob] += np.histogram(magnitudes, BINS, (0.0, largest[blob]))[0]
    return {blob: 127 / (best_bin(histograms[blob]) + 0.5) * BINS / largest[blob] for blob in blobs}


def _activations(ncnn: Any, net: Any, blobs: list[str], images: Float32) -> Any:
    for image in images:
        extractor = net.create_extractor()
        extractor.set_light_mode(False)
        extractor.input(net.input_names()[0], ncnn.Mat(image))
        for blob in blobs:
            yield blob, np.array(extractor.extract(blob)[1])


def best_bin(histogram: NDArray[np.float64]) -> int:
    """Return at which bin to clip so that 128 levels tell least from the histogram.

    Args:
        histogram: float64 ``[2048]`` of magnitudes, zeros left out.
    """
    share = histogram / histogram.sum()
    cumulative = np.concatenate([[0.0], np.cumsum(share)])
    fine = np.arange(BINS + 1)
    divergences = []
    for end in range(LEVELS, BINS):
        clipped = share[:end] + 1e-4
        clipped[-1] += share[end:].sum()
        edges = np.linspace(0, end, LEVELS + 1)
        # Each level spreads its mass evenly over its width, which may cut a bin in two.
        spread = np.diff(np.interp(fine[: end + 1], edges, np.interp(edges, fine, cumulative))) + 1e-4
        divergences.append(float((clipped * np.log(clipped / spread)).sum()))
    return LEVELS + int(np.argmin(divergences))
