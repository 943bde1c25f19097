"""Inputs made up for a model of which nothing is known but its input types and shapes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.data.photos import photo_crops
from edgecnn.errors import ModelError, UsageError

Array = NDArray[Any]
Feeds = Mapping[str, Array]

#: For a first dimension that may vary.
BATCH_SIZES = (1, 2, 8)
KINDS = ("zeros", "ones", "noise", "photos")
MAX_INPUT_ELEMENTS = 2**28
_DTYPES: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(uint16)": np.uint16,
    "tensor(int16)": np.int16,
    "tensor(uint32)": np.uint32,
    "tensor(int32)": np.int32,
    "tensor(uint64)": np.uint64,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}
_IMAGE_CHANNELS = (1, 3)


def batch_varies(session: Any) -> bool:
    """Tell whether an input's first dimension may vary."""
    return any(one.shape and not isinstance(one.shape[0], int) for one in session.get_inputs())


def make_up_inputs(session: Any, shapes: Mapping[str, tuple[int, ...]], name: str) -> Sequence[Feeds]:
    """Return sets of inputs: each batch size with each kind of content, the same ones every time.

    Args:
        session: an ``onnxruntime.InferenceSession``.
        shapes: of inputs with a dimension, other than the first, that may vary.
        name: what to call the model in a message.

    Raises:
        ModelError: an input is no tensor of numbers, or too large.
        UsageError: an input's shape is not known, or there is no such input.
    """
    inputs = session.get_inputs()
    if strangers := set(shapes) - {one.name for one in inputs}:
        raise UsageError(
            f"{name}: has no input {', '.join(sorted(strangers))}; it has {', '.join(one.name for one in inputs)}.",
            next_step="--input-shape NAME:1x3x224x224",
        )
    for one in inputs:
        if one.type not in _DTYPES:
            raise ModelError(
                f"{name}: input {one.name!r} is {one.type}; expected numbers or truth values.",
                next_step="simplify a model that takes tensors of numbers",
            )
    batches = BATCH_SIZES if batch_varies(session) else (1,)
    random = np.random.default_rng(0)
    return [
        {one.name: _content(kind, _shape(one, batch, shapes, name), _DTYPES[one.type], random) for one in inputs}
        for batch in batches
        for kind in KINDS
    ]


def _shape(one: Any, batch: int, shapes: Mapping[str, tuple[int, ...]], name: str) -> tuple[int, ...]:
    said = shapes.get(one.name)
    if said is not None and len(said) != len(one.shape):
        raise UsageError(
            f"{name}: input {one.name!r} has {len(one.shape)} dimensions, --input-shape says {len(said)}.",
            next_step=f"give one number for each of {list(one.shape)}",
        )
    shape = []
    for axis, found in enumerate(one.shape):
        if isinstance(found, int):
            if said is not None and said[axis] != found:
                raise UsageError(
                    f"{name}: input {one.name!r} is {list(one.shape)}, --input-shape says {list(said)}.",
                    next_step="say only what may vary",
                )
            shape.append(found)
        elif axis == 0:
            shape.append(batch if said is None else said[0])
        elif said is not None:
            shape.append(said[axis])
        else:
            wanted = "x".join(str(size) if isinstance(size, int) else "SIZE" for size in one.shape[1:])
            raise UsageError(
                f"{name}: input {one.name!r} is {list(one.shape)}: it does not say how large it is.",
                next_step=f"--input-shape {one.name}:1x{wanted}",
            )
    if int(np.prod(shape, dtype=np.int64)) > MAX_INPUT_ELEMENTS:
        raise ModelError(
            f"{name}: input {one.name!r} of {shape} is larger than {MAX_INPUT_ELEMENTS} values.",
            next_step="give a model with a smaller input",
        )
    return tuple(shape)


def _content(kind: str, shape: tuple[int, ...], dtype: type[np.generic], random: np.random.Generator) -> Array:
    """Make up an input. Whole numbers stay 0 or 1, for they may be indices."""
    if kind == "zeros":
        return np.zeros(shape, dtype)
    if kind == "ones":
        return np.ones(shape, dtype)
    if np.issubdtype(dtype, np.floating):
        photos = _photos(shape) if kind == "photos" else None
        return (random.standard_normal(shape) if photos is None else photos / 255).astype(dtype)
    if dtype is np.uint8:
        photos = _photos(shape) if kind == "photos" else None
        return random.integers(0, 256, shape, np.uint8) if photos is None else photos.astype(np.uint8)
    return random.integers(0, 2, shape).astype(dtype)


def _photos(shape: tuple[int, ...]) -> Array | None:
    """Return photographs laid out as the shape says, or None if it is not that of images."""
    if len(shape) != 4 or 0 in shape:
        return None
    if shape[1] in _IMAGE_CHANNELS:
        return photo_crops(shape[0], shape[2], shape[3])[..., : shape[1]].transpose(0, 3, 1, 2)
    if shape[3] in _IMAGE_CHANNELS:
        return photo_crops(shape[0], shape[1], shape[2])[..., : shape[3]]
    return None
