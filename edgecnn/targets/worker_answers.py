"""What a worker answered, held against what it was asked: it is another program, and may be broken or a stranger's."""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from edgecnn.bundle.manifest import TensorSpec
from edgecnn.targets.worker import Header

_FLOAT32_BYTES, _FLOAT64_BYTES = 4, 8
_TEXTS, _TABLES = ("system", "machine", "cpu"), ("versions",)


class OddAnswerError(ValueError):
    """An answer of another form than was asked for: what was expected, and what was found."""


def read_greeting(header: object) -> Header:
    """Return a greeting that tells everything that a machine's record needs.

    Raises:
        OddAnswerError: it does not.
    """
    if not isinstance(header, dict):
        raise OddAnswerError(f"expected a greeting, found {_shown(header)}")
    kinds: dict[str, type | tuple[type, ...]] = {
        **dict.fromkeys(_TEXTS, str),
        **dict.fromkeys(_TABLES, dict),
        "cores": int,
        "features": list,
    }
    for name, kind in kinds.items():
        if not isinstance(header.get(name), kind):
            raise OddAnswerError(f"expected a greeting that tells {name}, found {_shown(header.get(name))}")
    if not all(isinstance(word, str) for word in (*header["versions"].values(), *header["features"])):
        raise OddAnswerError("expected a greeting with versions and features in words")
    if header["cores"] < 1 or not isinstance(header.get("load_average", 0.0), (int, float)):
        raise OddAnswerError(f"expected a greeting of a machine, found {_shown(header)}")
    return header


def read_placement(header: Mapping[str, object]) -> dict[str, int]:
    """Return how many nodes each provider runs.

    Raises:
        OddAnswerError: it is not told, or is no number of nodes.
    """
    nodes = header.get("nodes")
    if not isinstance(nodes, dict) or not all(type(count) is int and count >= 0 for count in nodes.values()):
        raise OddAnswerError(f"expected how many nodes each provider runs, found {_shown(nodes)}")
    return nodes


def logits_bytes(n_images: int, output: TensorSpec) -> int | None:
    """Return how long the body of an answer to some images is, or None where the graph does not tell."""
    sizes = output.shape[1:]
    if not all(isinstance(size, int) for size in sizes):
        return None
    return n_images * math.prod(int(size) for size in sizes) * _FLOAT32_BYTES


def read_logits(header: Mapping[str, object], body: bytes, n_images: int, output: TensorSpec) -> NDArray[np.float32]:
    """Return logits float32, one row an image, of the shape that the graph's output has.

    Raises:
        OddAnswerError: they have another, or the body is of another length.
    """
    shape = header.get("shape")
    expected = (n_images, *output.shape[1:])
    if not isinstance(shape, list) or not _fits(shape, expected):
        raise OddAnswerError(f"expected logits {_written(expected)}, found {_shown(shape)}")
    if len(body) != math.prod(shape) * _FLOAT32_BYTES:
        raise OddAnswerError(f"expected logits of {math.prod(shape) * _FLOAT32_BYTES:,} bytes, found {len(body):,}")
    return np.frombuffer(body, np.float32).reshape(shape)


def read_times(body: bytes, calls: int) -> NDArray[np.float64]:
    """Return the microseconds of each of some calls, float64.

    Raises:
        OddAnswerError: they are not that many, or one is no time.
    """
    if len(body) != calls * _FLOAT64_BYTES:
        raise OddAnswerError(f"expected the times of {calls} calls, found {len(body):,} bytes")
    times_us = np.frombuffer(body, np.float64)
    if not (np.isfinite(times_us) & (times_us >= 0)).all():
        raise OddAnswerError("expected times in microseconds, found one that is negative or no number")
    return times_us


def _fits(shape: list[object], expected: tuple[int | str, ...]) -> bool:
    """Tell whether sizes are those that are expected; a name stands for any."""
    if len(shape) != len(expected):
        return False
    return all(
        type(found) is int and found >= 0 and (isinstance(wanted, str) or found == wanted)
        for found, wanted in zip(shape, expected, strict=True)
    )


def _written(shape: tuple[int | str, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _shown(found: object) -> str:
    return repr(found)[:80]
