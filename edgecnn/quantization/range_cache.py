"""Ranges kept in the bundle: found once for the same model, images and settings."""

import hashlib
import importlib.metadata
import json
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgecnn.quantization.range_methods import Range
from edgecnn.quantization.recipes import Recipe

RANGES = "ranges.json"
#: What a range is stored as in the graph: more would be infinite there.
_LARGEST = 3.4e38
_End = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST, allow_inf_nan=False)]


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    key: str
    ranges: dict[str, tuple[_End, _End]]


def range_key(model_sha256: str, image_sha256: tuple[str, ...], recipe: Recipe) -> str:
    """Return what the ranges depend on, as a SHA-256: the float model, the images, how, and by what."""
    how = [recipe.ranges, recipe.layer_ranges, recipe.steps, recipe.symmetric, recipe.equalize]
    tools = [importlib.metadata.version(name) for name in ("onnxruntime", "numpy", "edgecnn")]
    text = json.dumps([model_sha256, image_sha256, how, tools], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def write_ranges(key: str, ranges: dict[str, Range]) -> bytes:
    """Return a file's content."""
    content = {"key": key, "ranges": {name: [range_.low, range_.high] for name, range_ in sorted(ranges.items())}}
    return (json.dumps(content, indent=1) + "\n").encode()


def read_ranges(data: bytes, key: str) -> dict[str, Range] | None:
    """Return the ranges in a file, or None if they are of another model, other images or settings."""
    try:
        file = _File.model_validate_json(data)
    except ValidationError:
        return None  # of an older edgecnn, or not ours: they are found again
    if file.key != key or not all(low <= 0 <= high for low, high in file.ranges.values()):
        return None
    return {name: Range(low=low, high=high) for name, (low, high) in file.ranges.items()}
