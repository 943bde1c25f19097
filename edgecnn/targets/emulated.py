"""Models run by the real onnxruntime on a CPU that QEMU emulates: right to the last bit, and without a clock."""

import os
from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from edgecnn.bundle.manifest import MachineRecord
from edgecnn.errors import StageError, TargetError
from edgecnn.targets.emulated_worker import Header
from edgecnn.targets.emulator import TELLING_FEATURES, EmulatedCpu
from edgecnn.targets.native import CPU_PROVIDER, NativeSession
from edgecnn.targets.session import Clock, Feed
from edgecnn.targets.worker_process import WorkerProcess

#: Importing onnxruntime takes one or two seconds under emulation; a loaded machine is slower.
START_LIMIT_S = 120.0
#: Opening a model optimizes its graph; a batch of 64 images of 224x224 takes a minute or two on one core.
CALL_LIMIT_S = 900.0


class EmulatedSession:
    """A session in a process of its own; see :class:`edgecnn.targets.session.Session`.

    The model is opened here first: one that is at fault is refused before the emulator starts, and its input and
    output are known. Close it, or use it in a ``with``: the process ends then, and at the latest with this one.
    """

    clock: Clock = "emulated"

    def __init__(
        self, model: bytes, *, model_name: str, target: str, cpu: EmulatedCpu, threads: int = 1,
        command: Sequence[str] | None = None, call_limit_s: float = CALL_LIMIT_S,
    ) -> None:  # fmt: skip
        here = NativeSession(model, model_name=model_name, provider=CPU_PROVIDER, clock="measured", threads=1)
        self.input, self.output = here.input, here.output
        self._name = f"{model_name} on {target}"
        self._call_limit_s = call_limit_s
        self._worker = WorkerProcess(command or cpu.command(), environment=cpu.environment(), name=self._name)
        try:
            self.machine = greet(self._worker, cpu, target)
            answer, _ = self._ask({"do": "open", "threads": threads}, model)
            self.nodes_by_provider: dict[str, int] = answer["nodes"]
        except BaseException:
            self.close()
            raise

    def run(self, batch: Feed) -> NDArray[np.float32]:
        """Map a batch to logits float32 ``[N, classes]``.

        Raises:
            StageError: the emulated process crashed, took too long, or onnxruntime failed in it.
        """
        header = {"do": "run", "input": self.input.name, "dtype": batch.dtype.str, "shape": batch.shape}
        answer, body = self._ask(header, np.ascontiguousarray(batch).tobytes())
        logits: NDArray[np.float32] = np.frombuffer(body, np.float32).reshape(answer["shape"])
        return logits

    def close(self) -> None:
        """End the emulated process."""
        self._worker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, header: Header, body: bytes) -> tuple[Header, bytes]:
        answer, data = self._worker.ask(header, body, limit_s=self._call_limit_s)
        if "error" in answer:
            raise StageError(
                f"{self._name}: ONNX Runtime failed there ({answer['error']}).",
                next_step="export the model again, and report it if that does not help",
            )
        return answer, data


def greet(worker: WorkerProcess, cpu: EmulatedCpu, target: str) -> MachineRecord:
    """Wait for the worker and return what machine it sees.

    Raises:
        TargetError: it does not start, or what is emulated is not that CPU.
    """
    try:
        seen = worker.greeting(limit_s=START_LIMIT_S)
    except StageError as error:
        raise TargetError(error.message, next_step=f"edgecnn targets install {target} --force") from error
    if reason := cpu.differs(frozenset(seen["features"]), seen["machine"]):
        raise TargetError(f"{target}: {reason}.", next_step="install a newer QEMU (7.2 knows AVX2)")
    return MachineRecord(
        system=seen["system"],
        architecture=seen["machine"],
        cpu=f"{cpu.title}, emulated by QEMU",
        cores=seen["cores"],
        cpu_features=tuple(name for name in TELLING_FEATURES if name in seen["features"]),
        versions=seen["versions"],
        load_average=round(os.getloadavg()[0], 2),
    )
