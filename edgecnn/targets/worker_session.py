"""Models opened by a worker: a process of its own, on an emulated CPU, in another environment, in another language."""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgecnn.bundle.manifest import MachineRecord
from edgecnn.errors import EdgecnnError, StageError, TargetError
from edgecnn.targets.emulator import TELLING_FEATURES
from edgecnn.targets.native import CPU_PROVIDER, NativeSession
from edgecnn.targets.placement import require_provider
from edgecnn.targets.plugin import Plugin
from edgecnn.targets.runtime import ExplainingRuntime, Runtime
from edgecnn.targets.session import Clock, Feed
from edgecnn.targets.worker import Header
from edgecnn.targets.worker_answers import (
    OddAnswerError,
    logits_bytes,
    read_greeting,
    read_logits,
    read_placement,
    read_times,
)
from edgecnn.targets.worker_process import WorkerProcess

#: Importing onnxruntime takes one or two seconds under emulation; a loaded machine is slower.
START_LIMIT_S = 120.0
#: How an older onnxruntime says that it does not read a file.
TOO_NEW = re.compile(r"IR version|opset|is not a registered function/op", re.IGNORECASE)
#: How onnxruntime-web says that its own WebAssembly cannot be loaded.
_NO_BACKEND = "no available backend found"

T = TypeVar("T")


class WorkerSession:
    """A session in a process of its own; see :class:`edgecnn.targets.session.Session`.

    The model is opened here first: one that is at fault is refused before the worker starts, and its input and output
    are known. Close it, or use it in a ``with``: the process ends then, and at the latest with this one.
    """

    def __init__(
        self, model: bytes, *, model_name: str, target: str, runtime: Runtime, clock: Clock, threads: int = 1,
        provider: str = CPU_PROVIDER, provider_options: Mapping[str, str] | None = None, allow_cpu_nodes: int = 0,
        plugin: Plugin | None = None, command: Sequence[str] | None = None, call_limit_s: float | None = None,
    ) -> None:  # fmt: skip
        here = NativeSession(model, model_name=model_name, provider=CPU_PROVIDER, clock="measured", threads=1)
        self.input, self.output = here.input, here.output
        self.clock: Clock = clock
        self._name = f"{model_name} on {target}"
        self._target, self._runtime = target, runtime
        self._call_limit_s = call_limit_s or runtime.call_limit_s
        self._worker = WorkerProcess(command or runtime.command(), environment=runtime.environment(), name=self._name)
        self._provider, self._allow_cpu_nodes = provider, allow_cpu_nodes
        self._opening: Header = {
            "threads": threads,
            "provider": provider,
            "provider_options": dict(provider_options or {}),
            "strict": not allow_cpu_nodes,
            **({"plugin": plugin.words()} if plugin else {}),
        }
        self.nodes_by_provider: dict[str, int] = {}
        #: How long the runtime there took to open the model, if it tells: without starting its process.
        self.load_us: float | None = None
        try:
            self.machine = greet(self._worker, runtime, target)
            self._adapted = runtime.adapt(model)
            self._open("open")
        except BaseException:
            self.close()
            raise

    def _open(self, how: str) -> bytes:
        answer, body = self._ask({"do": how, **self._opening}, self._adapted)
        self.nodes_by_provider = self._checked(lambda: read_placement(answer))
        self.load_us = answer.get("open_us")
        require_provider(
            self.nodes_by_provider,
            self._provider,
            self._allow_cpu_nodes,
            name=self._name,
            operators=answer.get("operators"),
        )
        return body

    def reopen_from_context(self) -> bytes:
        """Have the provider write what it compiled, run that from now on, and return it: an ONNX file for this target.

        Raises:
            StageError: the provider cannot write it, or not open it again.
        """
        return self._open("context")

    def run(self, batch: Feed) -> NDArray[np.float32]:
        """Map a batch to logits float32 ``[N, classes]``.

        Raises:
            StageError: the worker crashed, took too long, or the runtime failed in it.
        """
        limit = logits_bytes(len(batch), self.output)
        header = {"do": "run", **self._described(batch)}
        answer, body = self._ask(header, np.ascontiguousarray(batch).tobytes(), max_body_bytes=limit)
        return self._checked(lambda: read_logits(answer, body, len(batch), self.output))

    def timed(self, batch: Feed) -> "RemoteCall":
        """Return a call with ``batch`` that the worker itself times, where no pipe is in the way."""
        return RemoteCall(self, batch)

    def time_calls(self, batch: Feed, calls: int) -> NDArray[np.float64]:
        """Return the microseconds of each of some calls, by the worker's clock; raises as :meth:`run`."""
        header = {"do": "time", "calls": calls, **self._described(batch)}
        _, body = self._ask(header, np.ascontiguousarray(batch).tobytes())
        return self._checked(lambda: read_times(body, calls))

    def close(self) -> None:
        """End the worker."""
        self._worker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _described(self, batch: Feed) -> dict[str, Any]:
        return {"input": self.input.name, "dtype": batch.dtype.str, "shape": batch.shape}

    def _checked(self, read: Callable[[], T]) -> T:
        """Return what was read of an answer; a worker that answers oddly is asked nothing more."""
        try:
            return read()
        except OddAnswerError as error:
            self.close()
            odd = StageError(
                f"{self._name}: its process answered oddly: {error}.",
                next_step="edgecnn targets; if it says ready, report this with the model",
            )
            raise _explained(odd, self._runtime) from error

    def _ask(self, header: Header, body: bytes, *, max_body_bytes: int | None = None) -> tuple[Header, bytes]:
        try:
            answer, data = self._worker.ask(header, body, limit_s=self._call_limit_s, max_body_bytes=max_body_bytes)
        except StageError as error:
            raise _explained(error, self._runtime) from error
        if "error" in answer:
            raise self._runtime_failed(header, str(answer["error"]))
        return answer, data

    def _runtime_failed(self, asked: Header, said: str) -> EdgecnnError:
        if asked["do"] == "open" and TOO_NEW.search(said):
            error: EdgecnnError = TargetError(
                f"{self._name}: the model is too new for the runtime there ({said}).",
                next_step="edgecnn export with a lower --opset, then edgecnn quantize",
            )
        elif _NO_BACKEND in said:
            error = TargetError(
                f"{self._name}: the runtime there is broken ({said}).",
                next_step=f"edgecnn targets install {self._target} --force",
            )
        else:
            error = StageError(
                f"{self._name}: the runtime failed there ({said}).",
                next_step="export the model again, and report it if that does not help",
            )
        return _explained(error, self._runtime)


class RemoteCall:
    """One call of a session in a worker, timed there."""

    def __init__(self, session: WorkerSession, batch: Feed) -> None:
        self._session, self._batch = session, batch

    def __call__(self) -> None:
        """Call once, without looking at the clock."""
        self.time(1)

    def time(self, calls: int) -> NDArray[np.float64]:
        """Return the microseconds of each of some calls."""
        return self._session.time_calls(self._batch, calls)


def greet(worker: WorkerProcess, runtime: Runtime, target: str) -> MachineRecord:
    """Wait for the worker and return what machine it sees.

    Raises:
        TargetError: it does not start, or is not what was asked for.
    """
    try:
        seen = read_greeting(worker.greeting(limit_s=START_LIMIT_S))
    except OddAnswerError as error:
        remedy = f"edgecnn targets install {target} --force"
        raise TargetError(f"{target}: its process answered oddly: {error}.", next_step=remedy) from error
    except StageError as error:
        explained = _explained(error, runtime)
        remedy = f"edgecnn targets install {target} --force" if explained is error else explained.next_step
        raise TargetError(explained.message, next_step=remedy) from error
    if reason := runtime.differs(seen):
        raise TargetError(f"{target}: {reason}.", next_step=f"edgecnn targets install {target} --force")
    return MachineRecord(
        system=seen["system"],
        architecture=seen["machine"],
        cpu=runtime.cpu(seen),
        cores=seen["cores"],
        cpu_features=tuple(name for name in TELLING_FEATURES if name in seen["features"]),
        versions=seen["versions"],
        load_average=round(seen.get("load_average", os.getloadavg()[0]), 2),
    )


def _explained(error: EdgecnnError, runtime: Runtime) -> EdgecnnError:
    return runtime.explain(error) if isinstance(runtime, ExplainingRuntime) else error
