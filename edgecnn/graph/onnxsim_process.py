"""onnxsim in a process of its own, with limits: a crash of it is a message, not the end."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgecnn.errors import StageError

WORKER = Path(__file__).with_name("onnxsim_worker.py")
_REMEDY = "go on with the model as it is"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What onnxsim may use.

    Attributes:
        seconds: of wall time.
        memory_bytes: of address space; not enforced on macOS and Windows, which know no such limit.
    """

    seconds: float = 300
    memory_bytes: int = 16 * 2**30


def run_onnxsim(data: bytes, skipped: Sequence[str], limits: Limits) -> bytes:
    """Simplify a model.

    Args:
        data: the ONNX file.
        skipped: names of passes to leave out; see :func:`passes`.
        limits: of the process.

    Raises:
        StageError: onnxsim failed, crashed, or wanted more than it may use.
    """
    return _run(["simplify", str(limits.memory_bytes), *skipped], data, limits)


def passes(limits: Limits) -> list[str]:
    """Return the names of onnxsim's passes, in its order.

    Raises:
        StageError: onnxsim cannot be started.
    """
    return _run(["list"], b"", limits).decode().split()


def _run(arguments: list[str], data: bytes, limits: Limits) -> bytes:
    command = [sys.executable, "-P", str(WORKER), *arguments]  # -P: no onnx.py that lies beside it is imported
    try:
        finished = subprocess.run(command, input=data, capture_output=True, timeout=limits.seconds, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise StageError(
            f"simplify: onnxsim did not finish within {limits.seconds:g} s.", next_step=f"{_REMEDY}, or --time-limit"
        ) from error
    if finished.returncode != 0 or not finished.stdout:
        lines = finished.stderr.decode(errors="replace").strip().splitlines()
        how = f"signal {-finished.returncode}" if finished.returncode < 0 else f"code {finished.returncode}"
        last = lines[-1] if lines else "it said nothing"
        if "MemoryError" in last or "bad_alloc" in last:
            last += f"; it may use {limits.memory_bytes / 2**30:.3g} GiB"
        raise StageError(f"simplify: onnxsim ended with {how} ({last}).", next_step=_REMEDY)
    return finished.stdout
