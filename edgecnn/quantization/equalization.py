"""Cross-layer equalization: channels of equal size on both sides of what lies between two layers::

    Conv(W1, b1) ──► Relu ──► MaxPool ──► Conv(W2, b2)
    Conv(S W1, S b1) ──► Relu ──► MaxPool ──► Conv(W2 / S, b2)        the same function, for S > 0

A channel much smaller than its neighbours keeps few of the 8 bits that they share. Scaling it up where it is made and
down where it is read changes nothing in float and everything in int8 (Nagel et al. 2019, "Data-Free Quantization
Through Weight Equalization and Bias Correction", section 4.1). Here the scales are powers of two, so that float32
gives the same bits, and what must share a scale is found on the whole graph, not pair by pair.
"""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import ModelError
from edgecnn.graph import onnx_file
from edgecnn.quantization.scale_lanes import Lanes
from edgecnn.quantization.scale_rewriter import Rewriter
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
    Rewriter(twin, walk, np.exp2(solution.log2_scale)[sets.number]).rewrite()
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
    ends = np.array([end for chain in chains for end in itertools.pairwise(chain)], np.int64).reshape(-1, 2)
    links = coo_array((np.ones(len(ends)), ends.T), shape=(len(free), len(free)))
    _, numbers = connected_components(links, directed=False)
    return np.asarray(numbers, np.int64)


def _block(walk: Walk, sets: _Sets, layer: Layer) -> Block:
    largest = np.abs(layer.layout.to_blocks(walk.constants[layer.node.input[1]])).max(3, initial=0)
    with np.errstate(divide="ignore"):
        return Block(
            log2_range=np.log2(largest.astype(np.float64)),
            log2_bias=np.log2(_bias(walk, layer)),
            outputs=sets.number[layer.outputs],
            inputs=sets.number[layer.inputs],
        )


def _bias(walk: Walk, layer: Layer) -> Float64:
    """Return the size of each output's bias beside its weights, float64 [groups, outputs].

    A sum of n products of the size of the largest is about sqrt(n) times as large as one of them.
    """
    names = layer.node.input
    bias = walk.constants.get(names[2]) if len(names) > 2 else None
    if bias is None:
        return np.zeros(layer.outputs.shape)
    n_products = walk.constants[names[1]].size / layer.outputs.size
    sizes = np.broadcast_to(np.abs(bias.astype(np.float64)).ravel(), layer.outputs.size)
    found: Float64 = sizes.reshape(layer.outputs.shape) / np.sqrt(n_products)
    return found


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
        dead = "no weight other than 0 makes it, or none reads it"
        reasons: Counter[Any] = Counter(
            dead if solution.dead[sets.number[lane]] else walk.table.reason(lane) for lane in lanes
        )
        found.extend(
            Unscaled(layer=_name(layer.node), n_channels=count, reason=reason)
            for reason, count in reasons.items()
            if reason is not None
        )
    return tuple(found)
