"""Which layer loses what: each one alone in integers, and each one alone in float."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgecnn.data.images import Images
from edgecnn.errors import ModelError
from edgecnn.progress import SILENT, Progress
from edgecnn.quantization.judge import Judge, Judgement, decibels, sqnr_db
from edgecnn.quantization.keep_float import quantize_and_keep_float
from edgecnn.quantization.layer_pairs import ConstantReader, LayerPair, QuantizedTensor, match_layers
from edgecnn.quantization.prepare import WITH_WEIGHTS, Prepared
from edgecnn.quantization.recipes import Recipe
from edgecnn.quantization.tensor_stream import stream

if TYPE_CHECKING:
    from onnx import ModelProto

#: Images on which the noise of activations is measured; it hardly depends on how many there are.
N_ACTIVATION_IMAGES = 64


@dataclass(frozen=True, kw_only=True)
class LayerSensitivity:
    """What quantizing one layer costs.

    Attributes:
        layer: its name.
        op: its operator.
        weight_sqnr_db: of its weights as integers, against float; infinite if they are exact.
        activation_sqnr_db: of what comes in, rounded and clipped to its range, against float.
        alone: only this layer in integers.
        all_but: every layer but this one in integers.
    """

    layer: str
    op: str
    weight_sqnr_db: float
    activation_sqnr_db: float
    alone: Judgement
    all_but: Judgement


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """Every layer, the one that costs most first, and the whole network for comparison."""

    layers: tuple[LayerSensitivity, ...]
    whole: Judgement
    recipe: Recipe


def measure_sensitivity(
    prepared: Prepared,
    calibration: Images,
    judge: Judge,
    recipe: Recipe,
    *,
    threads: int,
    progress: Progress,
) -> Sensitivity:
    """Quantize layer by layer and judge each.

    Args:
        prepared: the float model, its activations looked at.
        calibration: the images that set the ranges.
        judge: on images held apart from these.
        recipe: how. Weights are rounded to the nearest and biases are not corrected, for these would hide what a
            layer itself costs; pairs of quantize and dequantize say where each layer's integers are.
        threads: for ONNX Runtime.
        progress: told the layers done.

    Raises:
        ModelError: no layer has constant weights.
    """
    plain = dataclasses.replace(recipe, adaptive_rounding=False, correct_bias=False, qoperator=False, float_layers=())
    names = layers_with_weights(prepared.model)
    if not names:
        raise ModelError(
            "sensitivity: no layer of the model has constant weights.",
            next_step="give a convolutional network: edgecnn inspect shows the layers",
        )
    others = [node.name for node in prepared.model.graph.node]

    def judged(float_layers: list[str]) -> Judgement:
        chosen = dataclasses.replace(plain, float_layers=tuple(float_layers))
        return judge(quantize_and_keep_float(prepared, calibration, chosen, threads=threads, progress=SILENT).data)

    whole = judged([])
    noise = _noise(prepared, calibration, plain, threads)
    found = []
    for done, (name, op) in enumerate(names.items()):
        progress.update("sensitivity", done, len(names), name)
        found.append(
            LayerSensitivity(
                layer=name,
                op=op,
                weight_sqnr_db=noise.weights.get(name, float("inf")),
                activation_sqnr_db=noise.activations.get(name, float("inf")),
                alone=judged([other for other in others if other != name]),
                all_but=judged([name]),
            )
        )
    progress.update("sensitivity", len(names), len(names))
    return Sensitivity(layers=tuple(sorted(found, key=_cost)), whole=whole, recipe=plain)


def _cost(layer: LayerSensitivity) -> tuple[float, float]:
    """Sort by how good the logits are without this layer's noise, best first: drops of single images are coarse."""
    return (-layer.all_but.sqnr_db, layer.alone.sqnr_db)


def layers_with_weights(model: "ModelProto") -> dict[str, str]:
    """Return the operators of the layers with constant weights, by name, in order."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return {
        node.name: node.op_type
        for node in model.graph.node
        if node.op_type in WITH_WEIGHTS and node.name and node.input[1] in constants
    }


@dataclass(frozen=True, kw_only=True)
class _Noise:
    """Of the layers that are in integers, by name."""

    weights: Mapping[str, float]
    activations: Mapping[str, float]


def _noise(prepared: Prepared, calibration: Images, recipe: Recipe, threads: int) -> _Noise:
    import onnx

    quantized = onnx.load_model_from_string(
        quantize_and_keep_float(prepared, calibration, recipe, threads=threads, progress=SILENT).data
    )
    pairs = match_layers(prepared.model, quantized)
    constants = ConstantReader(prepared.model)
    weights = {}
    for pair in pairs:
        exact = constants.array(pair.float_node.input[1])
        assert exact is not None
        weights[pair.name] = sqnr_db(exact, _real(pair.weight))
    return _Noise(weights=weights, activations=_activation_noise(prepared, quantized, pairs, calibration, threads))


def _real(tensor: QuantizedTensor) -> NDArray[np.float64]:
    zero, scale = tensor.along_axis(tensor.zero_point), tensor.along_axis(tensor.scale)
    found: NDArray[np.float64] = (tensor.integers.astype(np.float64) - zero.astype(np.float64)) * scale
    return found


def _activation_noise(
    prepared: Prepared, quantized: "ModelProto", pairs: Sequence[LayerPair], calibration: Images, threads: int
) -> dict[str, float]:
    grids = {pair.name: grid for pair in pairs if (grid := _grid(ConstantReader(quantized), pair.node.input[0]))}
    read = {pair.name: pair.float_node.input[0] for pair in pairs if pair.name in grids}
    few = calibration.take(np.arange(min(N_ACTIVATION_IMAGES, len(calibration))))
    power, noise = dict.fromkeys(read, 0.0), dict.fromkeys(read, 0.0)
    for values in stream(prepared.model, list(dict.fromkeys(read.values())), few, spec=prepared.spec, threads=threads):
        for layer, tensor in read.items():
            signal = values[tensor].astype(np.float64)
            power[layer] += float(np.square(signal).sum())
            noise[layer] += float(np.square(round_trip(signal, grids[layer]) - signal).sum())
    return {layer: decibels(power[layer], noise[layer]) for layer in read}


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The integers of an activation, and what they stand for: ``scale * (integer - zero_point)``."""

    scale: float
    zero_point: int
    lowest: int
    highest: int


def _grid(reader: ConstantReader, tensor: str) -> Grid | None:
    """Return the integers that a tensor is dequantized from; None if it is not."""
    node, scale = reader.dequantize(tensor), reader.scale(tensor)
    zero_point = None if node is None or len(node.input) < 3 else reader.array(node.input[2])
    if scale is None or zero_point is None:
        return None
    limits = np.iinfo(zero_point.dtype)
    return Grid(scale=float(scale), zero_point=int(zero_point), lowest=int(limits.min), highest=int(limits.max))


def round_trip(values: NDArray[np.float64], grid: Grid) -> NDArray[np.float64]:
    """Return values rounded to integers and back, clipped at the ends."""
    integers = np.clip(np.rint(values / grid.scale) + grid.zero_point, grid.lowest, grid.highest)
    rounded: NDArray[np.float64] = (integers - grid.zero_point) * grid.scale
    return rounded
