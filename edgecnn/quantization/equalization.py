"""Cross-layer equalization: channels of equal size on both sides of what lies between two layers::

    Conv(W1, b1) ──► Relu ──► MaxPool ──► Conv(W2, b2)
    Conv(S W1, S b1) ──► Relu ──► MaxPool ──► Conv(W2 / S, b2)        the same function, for S > 0

A channel much smaller than its neighbours keeps few of the 8 bits that they share. Scaling it up where it is made and
down where it is read changes nothing in float and everything in int8 (Nagel et al. 2019, "Data-Free Quantization
Through Weight Equalization and Bias Correction", section 4.1). Here the scales are powers of two, so that float32
gives the same bits, and what must share a scale is found on the whole graph, not pair by pair.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import ModelError
from edgecnn.graph import onnx_file
from edgecnn.graph.remove_unused import remove_unused
from edgecnn.quantization.scale_lanes import Lanes
from edgecnn.quantization.scale_rules import follow
from edgecnn.quantization.scale_solver import Block, Solution, solve
from edgecnn.quantization.scale_walk import ChannelRange, Layer, Walk

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = ["ChannelRange", "Equalization", "ScaleGroup", "Unscaled", "equalize"]

Float64 = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ScaleGroup:
    """Channels that the same layers make and read.

    Attributes:
        producers: names of the layers that make them; several where a residual addition joins them.
        consumers: names of the layers that read them.
        n_channels: how many scales there are.
        scale_low: the smallest.
        scale_high: the largest.
    """

    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    n_channels: int
    scale_low: float
    scale_high: float


@dataclass(frozen=True, kw_only=True)
class Unscaled:
    """Output channels of a layer that keep their scale, and why."""

    layer: str
    n_channels: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Equalization:
    """An equalized model and what was done to it.

    Attributes:
        model: the same function in float.
        groups: what was scaled, in the order of the layers.
        unscaled: what was not.
        iterations: of the solver.
        converged: whether the last one changed no scale by more than 0.1%.
    """

    model: "ModelProto"
    groups: tuple[ScaleGroup, ...]
    unscaled: tuple[Unscaled, ...]
    iterations: int
    converged: bool


def equalize(
    model: "ModelProto",
    *,
    ranges: Mapping[str, ChannelRange] | None = None,
    power_of_two: bool = True,
    name: str = "the model",
) -> Equalization:
    """Equalize a copy of a float model.

    Args:
        model: simplified, batch normalization folded; one input, of a fixed size but for the batch.
        ranges: what was seen of the inputs of Clip (ReLU6), by tensor. Without, a Clip with an upper bound is left as
            it is. With, its channels are scaled so that no value that was seen meets the bound; the function is then
            the same on inputs that stay in these ranges.
        power_of_two: whether scales are rounded to powers of two; else the function is the same up to rounding only.
        name: what to call the model in a message.

    Raises:
        ModelError: the model is quantized already, or a size in it is not known.
    """
    if onnx_file.is_quantized(model):
        raise ModelError(
            f"{name}: is quantized already; expected a float model.", next_step="equalize float.onnx, then quantize it"
        )
    twin = _copy(model)
    walk = Walk(twin, name, ranges or {})
    for node in twin.graph.node:
        follow(walk, node)
    for output in twin.graph.output:
        walk.fix(output.name, "is the network's output")
    sets = _Sets(walk)
    solution = solve(
        [_block(walk, sets, layer) for layer in walk.layers],
        sets.free,
        sets.components,
        sets.ceiling,
        power_of_two=power_of_two,
    )
    _Rewriter(twin, walk, np.exp2(solution.log2_scale)[sets.number]).rewrite()
    return Equalization(
        model=twin,
        groups=_groups(walk, sets, solution),
        unscaled=_unscaled(walk, sets, solution),
        iterations=solution.iterations,
        converged=solution.converged,
    )


def _copy(model: "ModelProto") -> "ModelProto":
    from onnx import ModelProto

    twin = ModelProto()
    twin.CopyFrom(model)
    return twin


class _Sets:
    """The sets that lanes were joined to, numbered from 0.

    Attributes:
        number: int64 [lanes], the set of each lane.
        free: bool [sets], whether it may be scaled.
        components: int64 [sets], the same for sets that occur in one tensor.
        ceiling: float64 [sets], the largest log2 scale allowed.
    """

    def __init__(self, walk: Walk) -> None:
        roots, self.number = np.unique(walk.table.roots(np.arange(len(walk.table))), return_inverse=True)
        self.free = np.array([walk.table.reason(int(root)) is None for root in roots], bool)
        self.components = _components([self.number[lanes] for lanes in walk.lanes.values()], self.free)
        self.ceiling = np.full(len(roots), np.inf)
        for ceiling in walk.ceilings:
            np.minimum.at(self.ceiling, self.number[ceiling.lanes], np.log2(ceiling.scale))


def _components(tensors: Sequence[Lanes], free: NDArray[np.bool_]) -> Lanes:
    """Return a number for each set, the same for free sets that occur in one tensor, first to last."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    chains = [members[free[members]] for members in map(np.unique, tensors)]
    ends = np.concatenate([np.stack([chain[:-1], chain[1:]]) for chain in chains if len(chain)] or [np.empty((2, 0))], 1)
    ends = ends.astype(np.int64)
    links = coo_array((np.ones(ends.shape[1]), (ends[0], ends[1])), shape=(len(free), len(free)))
    _, numbers = connected_components(links, directed=False)
    return np.asarray(numbers, np.int64)


def _block(walk: Walk, sets: _Sets, layer: Layer) -> Block:
    largest = np.abs(layer.layout.to_blocks(walk.constants[layer.node.input[1]])).max(3, initial=0)
    with np.errstate(divide="ignore"):
        return Block(
            log2_range=np.log2(largest.astype(np.float64)),
            outputs=sets.number[layer.outputs],
            inputs=sets.number[layer.inputs],
        )


class _Rewriter:
    """Writes scaled constants; a constant that is read elsewhere too stays, and a copy is scaled."""

    def __init__(self, model: "ModelProto", walk: Walk, scale: Float64) -> None:
        self._model, self._walk, self._scale = model, walk, scale
        self._readers = Counter(name for node in model.graph.node for name in node.input)
        self._initializers = {tensor.name: tensor for tensor in model.graph.initializer}

    def rewrite(self) -> None:
        for layer in self._walk.layers:
            self._layer(layer)
        for summand in self._walk.summands:
            self._replace(summand.node, summand.place, self._scale[summand.lanes])
        remove_unused(self._model)

    def _layer(self, layer: Layer) -> None:
        made, read = self._scale[layer.outputs], self._scale[layer.inputs]
        weight = self._walk.constants[layer.node.input[1]]
        factor = np.ones_like(layer.layout.to_blocks(weight), np.float64)
        factor *= (made[:, :, None] / read[:, None, :])[..., None]
        self._replace(layer.node, 1, layer.layout.from_blocks(factor, weight.shape))
        if len(layer.node.input) > 2 and layer.node.input[2]:
            self._replace(layer.node, 2, made.reshape(-1))

    def _replace(self, node: "NodeProto", place: int, factor: Float64) -> None:
        """Multiply a constant input; one that all factors leave alone keeps its shape and its bytes."""
        from onnx import numpy_helper

        if (factor == 1).all():
            return
        name = node.input[place]
        scaled = (self._walk.constants[name] * factor).astype(np.float32)
        if self._readers[name] == 1 and name in self._initializers:
            self._initializers[name].CopyFrom(numpy_helper.from_array(scaled, name))
            return
        node.input[place] = f"{name}.of.{node.output[0]}.{place}"
        self._model.graph.initializer.append(numpy_helper.from_array(scaled, node.input[place]))


def _name(node: "NodeProto") -> str:
    return node.name or node.output[0]


def _groups(walk: Walk, sets: _Sets, solution: Solution) -> tuple[ScaleGroup, ...]:
    """Gather the scaled sets by the layers that make and read them."""
    makers: dict[int, list[str]] = {}
    readers: dict[int, list[str]] = {}
    for layer in walk.layers:
        for roles, lanes in ((makers, layer.outputs), (readers, layer.inputs)):
            for number in np.unique(sets.number[lanes]).tolist():
                roles.setdefault(number, []).append(_name(layer.node))
    scales: dict[tuple[tuple[str, ...], tuple[str, ...]], list[float]] = {}
    for number in np.flatnonzero(sets.free & ~solution.dead).tolist():
        sides = (tuple(makers[number]), tuple(readers[number]))
        scales.setdefault(sides, []).append(float(np.exp2(solution.log2_scale[number])))
    return tuple(
        ScaleGroup(
            producers=producers,
            consumers=consumers,
            n_channels=len(values),
            scale_low=min(values),
            scale_high=max(values),
        )
        for (producers, consumers), values in scales.items()
    )


def _unscaled(walk: Walk, sets: _Sets, solution: Solution) -> tuple[Unscaled, ...]:
    found: list[Unscaled] = []
    for layer in walk.layers:
        lanes = layer.outputs.reshape(-1).tolist()
        dead = "no weight makes or reads it"
        reasons: Counter[Any] = Counter(
            dead if solution.dead[sets.number[lane]] else walk.table.reason(lane) for lane in lanes
        )
        found.extend(
            Unscaled(layer=_name(layer.node), n_channels=count, reason=reason)
            for reason, count in reasons.items()
            if reason is not None
        )
    return tuple(found)
