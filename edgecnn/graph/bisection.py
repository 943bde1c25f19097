"""Where two forms of a network part: the first layer whose output differs, though its inputs do not.

No names are trusted, for exporters and simplifiers invent their own. A tensor is known by its values: it agrees if
the other form computes the same somewhere on the way. One that does not agree is not yet at fault, for a fused
convolution has no output before its batch norm; it is if nothing computed from it vouches for it. The first such tensor
in the order of computing is where the forms part.

To vouch for what it was computed from, a tensor must agree in what changes from image to image. The gate of a
squeeze-and-excitation block is a half and very little more, whatever goes into it: it agrees, and tells nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgecnn.graph.activations import Activation

N_SAMPLES = 32
#: A tensor vouches if it differs from its twin by less than this fraction of what changes from image to image.
VOUCHING = 1e-3


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The first layer that differs.

    Attributes:
        layer: in the candidate's words.
        op: the candidate's operator.
        reference_layer: what the reference makes of the same inputs there, or None if that is not to be told.
        reference_op: its operator.
        relative: the largest difference from the nearest tensor of the reference, as a fraction of that one's largest
            value; None if the reference has none of this size.
    """

    layer: str
    op: str
    reference_layer: str | None
    reference_op: str | None
    relative: float | None

    def __str__(self) -> str:
        where = f"the first layer that differs is {self.op} {self.layer!r}"
        if self.reference_op is not None:
            where += f", where the reference has {self.reference_op} {self.reference_layer!r}"
        by = "" if self.relative is None else f", off by {self.relative:.1e} of the largest value"
        return f"{where}: its inputs agree, its output does not{by}"


@dataclass(frozen=True, kw_only=True)
class LayerLedger:
    """What a comparison layer by layer came to.

    Attributes:
        n: tensors of the candidate that were looked at.
        n_equal: those that the reference computes as well; fused or rewritten ones have no twin and are not among them.
        worst_layer: of those, the one that differs most from its twin.
        worst_relative: by how much, as a fraction of the twin's largest value.
        first: the first layer that differs, or None.
    """

    n: int
    n_equal: int
    worst_layer: str
    worst_relative: float
    first: Difference | None

    def __str__(self) -> str:
        if self.first is not None:
            return str(self.first)
        twins = f"all {self.n} tensors have a twin"
        if self.n_equal < self.n:
            twins = f"{self.n_equal} of {self.n} tensors have a twin, the others were fused or rewritten"
        return f"{twins}; none differs by more than {self.worst_relative:.1e} ({self.worst_layer!r})"


@dataclass(frozen=True, kw_only=True)
class _Twin:
    """A tensor of the reference with the same values."""

    names: frozenset[str]
    relative: float
    vouches: bool


def compare_layers(reference: Sequence[Activation], candidate: Sequence[Activation], tolerance: float) -> LayerLedger:
    """Compare two forms of a network, run on the same batch.

    Args:
        reference: every tensor of the one, in the order of computing, its input first.
        candidate: every tensor of the other, its input first.
        tolerance: the largest difference of twins, as a fraction of the reference's largest value.
    """
    telling = [one for one in candidate if _is_telling(one.values)]
    others = [_Prepared(one) for one in reference if _is_telling(one.values)]
    twins = {one.name: _find_twin(one.values, others, tolerance) for one in telling}
    agreed = {name for name, twin in twins.items() if twin.names}
    vouching = {name for name in agreed if twins[name].vouches}
    innocent = agreed | _with_ancestors(candidate, vouching)
    ends = _ends(candidate)
    differs = any(one.name in ends and one.name not in agreed for one in telling)
    guilty = next((one for one in telling if differs and one.name not in innocent), None)
    compared = [one for one in telling if one.name in agreed]
    worst = max(compared, key=lambda one: twins[one.name].relative, default=None)
    return LayerLedger(
        n=len(telling),
        n_equal=len(compared),
        worst_layer=worst.layer if worst else "",
        worst_relative=twins[worst.name].relative if worst else 0.0,
        first=None if guilty is None else _describe(guilty, candidate, twins, [one.activation for one in others]),
    )


class _Prepared:
    """A tensor of the reference, flattened, with what every comparison with it needs."""

    def __init__(self, activation: Activation) -> None:
        self.activation = activation
        self.flat = activation.values.ravel()
        self.largest = max(float(np.abs(self.flat).max()), float(np.finfo(np.float32).tiny))
        self.samples = self.flat[_sample(self.flat.size)].astype(np.float64)


def _sample(size: int) -> NDArray[np.int64]:
    return np.linspace(0, size - 1, min(size, N_SAMPLES)).astype(np.int64)


def _is_telling(values: NDArray[np.float32]) -> bool:
    """A tensor of one value throughout, such as a dead channel's zeros, may agree by chance."""
    return values.size > 0 and not bool((values == values.flat[0]).all())


def _find_twin(values: NDArray[np.float32], others: Sequence[_Prepared], tolerance: float) -> _Twin:
    flat = values.ravel()
    samples = flat[_sample(flat.size)].astype(np.float64)
    names, nearest = set(), np.inf
    changes = _change_between_images(values)
    for other in others:
        if other.flat.size != flat.size:
            continue
        if not np.abs(samples - other.samples).max() <= tolerance * other.largest:  # NaN is not within it either
            continue
        relative = float(np.abs(flat - other.flat).max()) / other.largest
        if relative <= tolerance:
            names.add(other.activation.name)
            nearest = min(nearest, relative)
    absolute = nearest * max((other.largest for other in others if other.activation.name in names), default=0.0)
    return _Twin(names=frozenset(names), relative=nearest, vouches=absolute <= VOUCHING * changes)


def _change_between_images(values: NDArray[np.float32]) -> float:
    """Return how much a value changes from image to image at most; of a single image, from place to place."""
    by_image = values if values.ndim and len(values) > 1 else values.reshape(-1, 1)
    return float((by_image.max(0) - by_image.min(0)).max())


def _with_ancestors(activations: Sequence[Activation], names: set[str]) -> set[str]:
    """Return the tensors named, and all from which one of them was computed."""
    found = set(names)
    for one in reversed(activations):
        if one.name in found:
            found.update(one.inputs)
    return found


def _ends(activations: Sequence[Activation]) -> set[str]:
    """Return the tensors from which nothing more is computed: the outputs."""
    read = {name for one in activations for name in one.inputs}
    return {one.name for one in activations} - read


def _describe(
    guilty: Activation, candidate: Sequence[Activation], twins: dict[str, _Twin], reference: Sequence[Activation]
) -> Difference:
    counterpart = _counterpart(guilty, candidate, twins, reference)
    return Difference(
        layer=guilty.layer,
        op=guilty.op,
        reference_layer=counterpart.layer if counterpart else None,
        reference_op=counterpart.op if counterpart else None,
        relative=_distance(guilty, reference),
    )


def _counterpart(
    guilty: Activation, candidate: Sequence[Activation], twins: dict[str, _Twin], reference: Sequence[Activation]
) -> Activation | None:
    """Return what the reference computes from the same inputs, and the candidate does not."""
    known = {name for twin in twins.values() for name in twin.names}
    innocent = _with_ancestors(reference, known)
    given = _nearest_twins(guilty, {one.name: one for one in candidate}, twins)
    readers = [one for one in reference if one.name not in known and given & set(one.inputs)]
    return next((one for one in readers if one.name not in innocent), readers[0] if readers else None)


def _nearest_twins(guilty: Activation, by_name: dict[str, Activation], twins: dict[str, _Twin]) -> set[str]:
    """Walk back from a tensor to the first that agree, and return their twins in the reference."""
    found: set[str] = set()
    waiting, seen = list(guilty.inputs), set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        twin = twins.get(name)
        if twin is not None and twin.names:
            found |= twin.names
        elif name in by_name:
            waiting.extend(by_name[name].inputs)
    return found


def _distance(guilty: Activation, reference: Sequence[Activation]) -> float | None:
    flat = guilty.values.ravel().astype(np.float64)
    same_size = [one.values.ravel() for one in reference if one.values.size == flat.size]
    if not same_size or not np.isfinite(flat).all():
        return None
    return min(float(np.abs(flat - other).max()) / max(float(np.abs(other).max()), 1e-30) for other in same_size)
