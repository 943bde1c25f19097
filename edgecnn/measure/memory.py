"""Peak memory of a fresh process that loads a model and runs it, beside that of one that only imports the runtime."""

import json
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from edgecnn.errors import StageError
from edgecnn.targets.session import Feed

_WORKER = Path(__file__).with_name("memory_worker.py")
_TIME_LIMIT_S = 600


def peak_memory_bytes(model: bytes, batch: Feed, *, provider: str, threads: int) -> int | None:
    """Return the largest resident size of a process that imports ONNX Runtime, loads the model and runs it once.

    Args:
        model: the ONNX file; it refers to no other.
        batch: what is fed.
        provider: ONNX Runtime's name of the execution provider.
        threads: of ONNX Runtime.

    Returns:
        Bytes, or None on a system that does not tell (Windows).

    Raises:
        StageError: the process failed.
    """
    with tempfile.TemporaryDirectory(prefix="edgecnn-memory-") as folder:
        place, images = Path(folder) / "model.onnx", Path(folder) / "batch.npy"
        place.write_bytes(model)
        np.save(images, batch)
        return _ask({"provider": provider, "threads": threads, "model": str(place), "batch": str(images)})


@cache
def runtime_memory_bytes() -> int | None:
    """Return the largest resident size of a process that only imports NumPy and ONNX Runtime; raises as above."""
    return _ask({})


def _ask(wanted: dict[str, str | int]) -> int | None:
    if sys.platform == "win32":
        return None
    # -P: the worker's folder must not shadow modules of the standard library
    command = [sys.executable, "-P", str(_WORKER), json.dumps(wanted)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIME_LIMIT_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise StageError(
            f"bench: one inference in a fresh process took more than {_TIME_LIMIT_S} s.", next_step="a smaller --batch"
        ) from error
    if done.returncode != 0 or not done.stdout.strip().isdigit():
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise StageError(
            f"bench: the process that measures memory ended with {done.returncode} and said: {said}",
            next_step="a smaller --batch, or more memory",
        )
    return int(done.stdout)
