"""Which layer loses what: each one alone in integers, and each one alone in float."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.data.images import Images
from edgecnn.progress import SILENT, Progress
from edgecnn.quantization.judge import Judge, Judgement, sqnr_db
from edgecnn.quantization.layer_pairs import match_layers
from edgecnn.quantization.prepare import WITH_WEIGHTS, Prepared
from edgecnn.quantization.range_methods import Range
from edgecnn.quantization.recipes import Recipe
from edgecnn.quantization.static import quantize_prepared
from edgecnn.quantization.tensor_stream import stream

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

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
            layer itself costs.
        threads: for ONNX Runtime.
        progress: told the layers done.
    """
    plain = dataclasses.replace(recipe, adaptive_rounding=False, correct_bias=False, float_layers=())
    names = layers_with_weights(prepared.model)
    others = [node.name for node in prepared.model.graph.node]

    def judged(float_layers: list[str]) -> Judgement:
        chosen = dataclasses.replace(plain, float_layers=tuple(float_layers))
        return judge(quantize_prepared(prepared, calibration, chosen, threads=threads, progress=SILENT).data)

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
                activation_sqnr_db=noise.activations[name],
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
    weights: Mapping[str, float]
    activations: Mapping[str, float]


def _noise(prepared: Prepared, calibration: Images, recipe: Recipe, threads: int) -> _Noise:
    import onnx

    quantized = onnx.load_model_from_string(
        quantize_prepared(prepared, calibration, recipe, threads=threads, progress=SILENT).data
    )
    constants = _constants(prepared.model)
    weights = {}
    for pair in [] if recipe.qoperator else match_layers(prepared.model, quantized):
        zero, scale = pair.weight.along_axis(pair.weight.zero_point), pair.weight.along_axis(pair.weight.scale)
        rounded = (pair.weight.integers.astype(np.float64) - zero.astype(np.float64)) * scale
        weights[pair.name] = sqnr_db(constants[pair.float_node.input[1]], rounded)
    return _Noise(weights=weights, activations=_activation_noise(prepared, calibration, recipe, threads))


def _constants(model: "ModelProto") -> dict[str, NDArray[Any]]:
    from onnx import numpy_helper

    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def _activation_noise(prepared: Prepared, calibration: Images, recipe: Recipe, threads: int) -> dict[str, float]:
    layers = layers_with_weights(prepared.model)
    nodes: dict[str, NodeProto] = {node.name: node for node in prepared.model.graph.node if node.name in layers}
    ranges = prepared.ranges(recipe)
    read = {name: node.input[0] for name, node in nodes.items() if node.input[0] in ranges}
    few = calibration.take(np.arange(min(N_ACTIVATION_IMAGES, len(calibration))))
    power: dict[str, float] = dict.fromkeys(read.values(), 0.0)
    noise: dict[str, float] = dict.fromkeys(read.values(), 0.0)
    for values in stream(prepared.model, list(power), few, spec=prepared.spec, threads=threads):
        for name, array in values.items():
            signal = array.astype(np.float64)
            power[name] += float(np.square(signal).sum())
            noise[name] += float(np.square(round_trip(signal, ranges[name], recipe.steps) - signal).sum())
    return {name: _decibels(power, noise, read.get(name)) for name in nodes}


def round_trip(values: NDArray[np.float64], range_: Range, steps: int) -> NDArray[np.float64]:
    """Return values rounded to the integers of a range and back, clipped at its ends."""
    if range_.high == range_.low:
        return np.zeros_like(values)
    scale = (range_.high - range_.low) / steps
    zero_point = np.rint(-range_.low / scale)
    rounded: NDArray[np.float64] = (np.clip(np.rint(values / scale) + zero_point, 0, steps) - zero_point) * scale
    return rounded


def _decibels(power: Mapping[str, float], noise: Mapping[str, float], tensor: str | None) -> float:
    if tensor is None or noise[tensor] == 0:
        return float("inf")
    return 10 * float(np.log10(power[tensor] / noise[tensor])) if power[tensor] else 0.0
