"""Which channels must share a scale: sets of lanes, joined where the graph adds or compares them.

A lane is one channel that could be multiplied by a factor of its own. What a tensor's elements belong to is an
array of lane numbers of the tensor's rank; an axis of length 1 stands for "the same along this axis", so a
feature map [N, C, H, W] has lanes [1, C, 1, 1], and what Reshape makes of it for a fully connected layer has
[1, C*H*W], each number H*W times.
"""

import numpy as np
from numpy.typing import NDArray

Lanes = NDArray[np.int64]


class LaneTable:
    """Lanes and the sets they have been joined to; a set may be fixed, which leaves its scale at 1."""

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._reasons: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._parents)

    def new(self, shape: tuple[int, ...]) -> Lanes:
        """Return that many lanes of their own, in that shape."""
        first = len(self._parents)
        count = int(np.prod(shape))
        self._parents.extend(range(first, first + count))
        return np.arange(first, first + count, dtype=np.int64).reshape(shape)

    def new_fixed(self, rank: int, reason: str) -> Lanes:
        """Return one fixed lane for a whole tensor."""
        lanes = self.new((1,) * rank)
        self.fix(lanes, reason)
        return lanes

    def root(self, lane: int) -> int:
        """Return the number that stands for a lane's set."""
        while self._parents[lane] != lane:
            self._parents[lane] = self._parents[self._parents[lane]]  # halve the path for the next call
            lane = self._parents[lane]
        return lane

    def roots(self, lanes: Lanes) -> Lanes:
        """Return what stands for each lane's set."""
        return np.array([self.root(int(lane)) for lane in lanes.ravel()], np.int64).reshape(lanes.shape)

    def join(self, first: Lanes, second: Lanes) -> None:
        """Let lanes that meet share one scale; the arrays are broadcast as ONNX broadcasts the tensors."""
        meetings = np.stack([lanes.ravel() for lanes in np.broadcast_arrays(first, second)], axis=1)
        for one, other in np.unique(meetings, axis=0).tolist():
            self._join(one, other)

    def _join(self, one: int, other: int) -> None:
        low, high = sorted((self.root(one), self.root(other)))
        if low == high:
            return
        self._parents[high] = low
        reason = self._reasons.pop(high, None)
        if reason is not None:
            self._reasons.setdefault(low, reason)

    def fix(self, lanes: Lanes, reason: str) -> None:
        """Leave the scale of these lanes at 1; the first reason given is kept."""
        for lane in np.unique(lanes).tolist():
            self._reasons.setdefault(self.root(lane), reason)

    def reason(self, lane: int) -> str | None:
        """Return why a lane is fixed, or None if it is free."""
        return self._reasons.get(self.root(lane))

    def is_fixed(self, lanes: Lanes) -> bool:
        """Tell whether every lane is fixed."""
        return all(self.reason(lane) is not None for lane in np.unique(lanes).tolist())


def align(lanes: Lanes, rank: int) -> Lanes:
    """Return the lanes with axes of length 1 put in front, as broadcasting does."""
    return lanes.reshape((1,) * (rank - lanes.ndim) + lanes.shape)


def only_on_axis(lanes: Lanes, axis: int) -> bool:
    """Tell whether the lanes differ along one axis at most."""
    return all(size == 1 for index, size in enumerate(lanes.shape) if index != axis % lanes.ndim)


def reshape(lanes: Lanes, before: tuple[int, ...], after: tuple[int, ...]) -> Lanes:
    """Return the lanes of a tensor whose elements were put in another shape, in the same order."""
    return compress(np.broadcast_to(lanes, before).reshape(after))


def compress(lanes: Lanes) -> Lanes:
    """Return the lanes with every axis along which they are the same cut to length 1."""
    for axis in range(lanes.ndim):
        first = lanes.take([0], axis)
        if (lanes == first).all():
            lanes = first
    return lanes
