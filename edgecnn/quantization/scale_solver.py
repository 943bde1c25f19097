"""The scales that equalize: each channel as large in the layers that make it as in those that read it.

For one producer and one consumer this is s = sqrt(r_out r_in) / r_out of cross-layer equalization (Nagel et al. 2019,
"Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.1). Where several layers make or
read a channel, as around a residual addition, r is the geometric mean of theirs. Everything is done in log2, on one
number for each pair of channels, so that an iteration costs little.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]
Indices = NDArray[np.int64]
MAX_ITERATIONS = 100
#: Largest change of a log2 scale in the last iteration; scales are rounded to whole powers of two afterwards.
TOLERANCE = 1e-3
#: Scales stay within 2**-12 and 2**12, beyond which a channel is as good as dead.
MAX_LOG2_SCALE = 12.0


@dataclass(frozen=True, kw_only=True)
class Block:
    """A layer's weights as the solver sees them.

    Attributes:
        log2_range: log2 of the largest weight between each input and output, float64 [groups, outputs, inputs];
            -inf where all are 0.
        log2_bias: log2 of each output's bias, as a weight on an input that is always there: float64 [groups, outputs];
            -inf where there is none. A channel that is all bias is as large as that, however small its weights are.
        outputs: the set of each output channel, int64 [groups, outputs].
        inputs: the set of each input channel, int64 [groups, inputs].
    """

    log2_range: Float64
    log2_bias: Float64
    outputs: Indices
    inputs: Indices


@dataclass(frozen=True, kw_only=True)
class Solution:
    """What came out.

    Attributes:
        log2_scale: float64 [sets]; 0 for those that are fixed or dead.
        dead: bool [sets]: free, but without a range in any producer or any consumer.
        iterations: how many it took.
        change: the largest change of the last one.
    """

    log2_scale: Float64
    dead: NDArray[np.bool_]
    iterations: int
    change: float

    @property
    def converged(self) -> bool:
        """Whether the last iteration changed next to nothing."""
        return self.change < TOLERANCE


def solve(
    blocks: Sequence[Block], free: NDArray[np.bool_], components: Indices, ceiling: Float64, *, power_of_two: bool
) -> Solution:
    """Return a scale for each set of channels.

    Args:
        blocks: the layers, in topological order.
        free: bool [sets], whether a set may be scaled.
        components: int64 [sets]: sets that occur in one tensor have the same number; a factor that they have in
            common would change nothing, so its geometric mean is kept at 1.
        ceiling: float64 [sets], the largest log2 scale allowed; inf for none.
        power_of_two: whether scales are rounded to powers of two, which float32 multiplies by exactly.
    """
    scale = np.zeros(len(free))
    producing, consuming = _log2_ranges(blocks, scale)
    alive = free & np.isfinite(producing) & np.isfinite(consuming)
    steps = [_Step(blocks, alive & (components == number)) for number in np.unique(components[alive])]
    iterations, change = 0, np.inf
    while change >= TOLERANCE and iterations < MAX_ITERATIONS:
        change = max((step.improve(scale) for step in steps), default=0.0)
        iterations += 1
    scale = np.clip(scale, -MAX_LOG2_SCALE, MAX_LOG2_SCALE)
    if power_of_two:
        scale, ceiling = np.rint(scale), np.floor(ceiling)
    return Solution(
        log2_scale=np.where(alive, np.minimum(scale, ceiling), 0.0),
        dead=free & ~alive,
        iterations=iterations,
        change=change,
    )


class _Step:
    """Improves the sets of one component, all others held."""

    def __init__(self, blocks: Sequence[Block], members: NDArray[np.bool_]) -> None:
        self._members = members
        self._blocks = [block for block in blocks if members[block.outputs].any() or members[block.inputs].any()]
        # Where a layer reads what it adds to, a full step overshoots: two channels would swap for ever.
        loops = any(members[block.outputs].any() and members[block.inputs].any() for block in self._blocks)
        self._rate = 0.25 if loops else 0.5

    def improve(self, scale: Float64) -> float:
        """Change the scales in place and return the largest change."""
        producing, consuming = _log2_ranges(self._blocks, scale)
        wanted = self._rate * (consuming - producing)[self._members]
        wanted += scale[self._members]
        wanted -= wanted.mean()
        change = float(np.abs(wanted - scale[self._members]).max())
        scale[self._members] = wanted
        return change


def _log2_ranges(blocks: Sequence[Block], scale: Float64) -> tuple[Float64, Float64]:
    """Return the mean log2 range of each set over the layers that make it, and over those that read it.

    NaN where there is no such layer; a layer in which the channel is dead does not count.
    """
    made, read = _Mean(len(scale)), _Mean(len(scale))
    for block in blocks:
        scaled = block.log2_range + scale[block.outputs][:, :, None] - scale[block.inputs][:, None, :]
        weights = scaled.max(2)
        biases = np.where(np.isfinite(weights), block.log2_bias + scale[block.outputs], -np.inf)  # else it is dead
        made.add(block.outputs, np.maximum(weights, biases))
        read.add(block.inputs, scaled.max(1))
    return made.value(), read.value()


class _Mean:
    """The mean over layers of the largest value of each set."""

    def __init__(self, n_sets: int) -> None:
        self._sum, self._count = np.zeros(n_sets), np.zeros(n_sets)

    def add(self, sets: Indices, log2_range: Float64) -> None:
        largest = np.full(len(self._sum), -np.inf)
        np.maximum.at(largest, sets.ravel(), log2_range.ravel())
        alive = np.isfinite(largest)
        self._sum[alive] += largest[alive]
        self._count[alive] += 1

    def value(self) -> Float64:
        value: Float64 = np.divide(self._sum, self._count, out=np.full(len(self._sum), np.nan), where=self._count > 0)
        return value
