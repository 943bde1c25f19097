"""How many instructions a call takes on an emulated CPU: what to compare by where time means nothing.

The count is of what the emulated process executes between two marks around ``session.run``: the model, and about
50,000 instructions of Python and ONNX Runtime's call, which all models have in common. It says nothing of caches or of
instructions that take longer than others; it repeats exactly.
"""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from edgecnn.bundle.manifest import TensorSpec
from edgecnn.errors import ModelError, StageError, TargetError, UsageError
from edgecnn.targets import require
from edgecnn.targets.emulator import EmulatedCpu
from edgecnn.targets.native import CPU_PROVIDER, NativeSession
from edgecnn.targets.qemu_user import compile_plugin, find_qemu
from edgecnn.targets.session import Feed, feed
from edgecnn.targets.session_options import DEFAULT_SESSION, session_options
from edgecnn.targets.worker_process import WorkerProcess
from edgecnn.targets.worker_session import greet

#: getpgid, by which the emulated process marks what is to be counted.
GETPGID = {"aarch64": 155, "x86_64": 121}
#: Calls before those that are counted: ONNX Runtime plans its memory in the first ones.
WARMUP_CALLS, COUNTED_CALLS = 20, 5


def require_counting(name: str) -> list[str]:
    """Return what starts the QEMU that counts for a target.

    Raises:
        UsageError: there is no such target, or it is not emulated.
        TargetError: the target is not set up here, or there is no QEMU with plugins or no C compiler.
    """
    cpu = _emulated(name)
    qemu = find_qemu(cpu.architecture)
    if qemu is None:
        raise TargetError(
            f"{name}: instructions cannot be counted here: no qemu-{cpu.architecture} that takes plugins.",
            next_step=f"edgecnn targets install {name} --count",
        )
    if not any(shutil.which(compiler) for compiler in ("cc", "gcc", "clang")):
        raise TargetError(
            f"{name}: instructions cannot be counted here: no C compiler is on PATH for QEMU's plugin.",
            next_step="as root: apt-get install gcc libc6-dev",
        )
    return qemu


def _emulated(name: str) -> EmulatedCpu:
    cpu = require(name).emulated
    if cpu is None:
        raise UsageError(
            f"{name}: is not emulated; instructions are counted on emulated targets alone.",
            next_step=f"edgecnn bench --provider {name} measures time",
        )
    return cpu


class InstructionCounter:
    """An emulated process whose instructions are counted; close it, or use it in a ``with``.

    Attributes:
        machine: what it sees of itself.
    """

    def __init__(self, target: str) -> None:
        """Start it.

        Raises:
            UsageError: there is no such target, or it is not emulated.
            TargetError: it is not available here; see :func:`require_counting`.
        """
        qemu, cpu = require_counting(target), _emulated(target)
        self._target = target
        self._scratch = tempfile.TemporaryDirectory(prefix="edgecnn-count-")
        plugin, self._marks = (Path(self._scratch.name) / name for name in ("plugin.so", "marks"))
        try:
            compile_plugin(qemu, plugin)
            told = f"{plugin},syscall={GETPGID[cpu.architecture]},out={self._marks}"
            command = [*qemu, "-plugin", told, *cpu.command()[1:]]
            self._worker = WorkerProcess(command, environment=cpu.environment(), name=f"counting on {target}")
        except BaseException:
            self._scratch.cleanup()
            raise
        try:
            self.machine = greet(self._worker, cpu, target)
        except BaseException:
            self.close()
            raise

    def count(
        self, model: bytes, pixels: "np.ndarray[Any, np.dtype[np.uint8]]", *, model_name: str,
        options_name: str = DEFAULT_SESSION,
    ) -> int:  # fmt: skip
        """Return the instructions of one call with all of ``pixels``, uint8 ``[N, H, W, 3]``: a median of five.

        Raises:
            ModelError: ONNX Runtime cannot load or run the model, or it takes other images or another batch.
            StageError: the emulated process failed, and is of no more use.
        """
        here = NativeSession(model, model_name=model_name, provider=CPU_PROVIDER, clock="measured", threads=1)
        batch = self._batch(here.input, pixels, model_name)
        self._ask({"do": "open", "threads": 1, "options": session_options(options_name).words()}, model, model_name)
        before = self._read_marks()
        self._ask(
            {
                "do": "count",
                "input": here.input.name,
                "dtype": batch.dtype.str,
                "shape": batch.shape,
                "warmup": WARMUP_CALLS,
                "calls": COUNTED_CALLS,
            },
            batch.tobytes(),
            model_name,
        )
        return counted(self._read_marks()[len(before) :])

    def close(self) -> None:
        """End the emulated process, and remove what it wrote."""
        self._worker.close()
        self._scratch.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _batch(self, spec: TensorSpec, pixels: "np.ndarray[Any, np.dtype[np.uint8]]", model_name: str) -> Feed:
        fixed = spec.shape[0]
        if isinstance(fixed, int) and fixed != len(pixels):
            raise ModelError(
                f"{model_name}: takes batches of {fixed}, not of {len(pixels)}.", next_step=f"--batch {fixed}"
            )
        return feed(pixels, spec)

    def _ask(self, header: Mapping[str, Any], body: bytes, model_name: str) -> None:
        answer, _ = self._worker.ask(dict(header), body, limit_s=_emulated(self._target).call_limit_s)
        if "error" in answer:
            raise ModelError(
                f"{model_name} on {self._target}: ONNX Runtime failed there ({answer['error']}).",
                next_step="export the model again, and report it if that does not help",
            )

    def _read_marks(self) -> list[tuple[int, int]]:
        lines = self._marks.read_text().splitlines()
        return [(int(kind), int(total)) for kind, total in (line.split() for line in lines)]


def counted(marks: list[tuple[int, int]]) -> int:
    """Return the instructions of a call: the median between marks 2 and 3, less that between 0 and 1 with nothing.

    Args:
        marks: kind and total, as the plugin wrote them.

    Raises:
        StageError: they do not come in pairs.
    """
    kinds = [kind for kind, _ in marks]
    if not marks or kinds != [0, 1] * COUNTED_CALLS + [2, 3] * COUNTED_CALLS:
        raise StageError(
            f"counting instructions: expected {COUNTED_CALLS} pairs of marks of each kind, found {kinds}.",
            next_step="report this with the version of QEMU: qemu-aarch64 --version",
        )
    spans = [after - before for (_, before), (_, after) in zip(marks[::2], marks[1::2], strict=True)]
    nothing, calls = spans[:COUNTED_CALLS], spans[COUNTED_CALLS:]
    return int(np.median(calls) - np.median(nothing))


def count_instructions(
    target: str, model: bytes, pixels: "np.ndarray[Any, np.dtype[np.uint8]]", *, model_name: str = "the model"
) -> int:
    """Return how many instructions one call of a model takes on an emulated target.

    Args:
        target: row of the target table.
        model: the ONNX file.
        pixels: uint8 ``[N, H, W, 3]``, all fed in one call.
        model_name: what to call it in a message.

    Raises:
        UsageError: there is no such target, or it is not emulated.
        TargetError: nothing can be counted here; see :func:`require_counting`.
        ModelError: ONNX Runtime cannot load the model, or it takes other images or another batch.
        StageError: the emulated process failed.
    """
    with InstructionCounter(target) as counter:
        return counter.count(model, pixels, model_name=model_name)
