"""Where a bundle can run: one literal row a target.

A target is written ``provider`` or ``provider@machine``. A new one is a row in :data:`TARGETS`, and a session class
if the existing ones do not serve.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from edgecnn.errors import TargetError, UsageError
from edgecnn.targets.emulator import CORTEX_A53, CORTEX_A76, HASWELL, EmulatedCpu
from edgecnn.targets.native import NativeSession, missing_provider
from edgecnn.targets.runtime import Runtime
from edgecnn.targets.session import Clock, Session
from edgecnn.targets.session_options import DEFAULT_SESSION
from edgecnn.targets.ssh import SshBoard, board, is_board
from edgecnn.targets.ssh_address import EXAMPLE
from edgecnn.targets.worker_session import WorkerSession

__all__ = [
    "TARGETS",
    "Clock",
    "Session",
    "Target",
    "open_session",
    "reference_session",
    "require",
    "require_clock",
    "running",
    "target",
]


@dataclass(frozen=True, kw_only=True)
class Target:
    """A place a model runs.

    Attributes:
        provider: ONNX Runtime's name of the execution provider.
        clock: whether its wall time means anything.
        summary: what it is, for the table of targets.
        remedy: what makes it available where it is not.
        runtime: where it runs if not in this process.
        provider_options: what the provider is told.
    """

    provider: str
    clock: Clock
    summary: str
    remedy: str
    runtime: Runtime | None = None
    provider_options: Mapping[str, str] = field(default_factory=dict)

    @property
    def emulated(self) -> EmulatedCpu | None:
        """The CPU that is emulated, or None where it is a real one."""
        return self.runtime if isinstance(self.runtime, EmulatedCpu) else None

    @property
    def remote(self) -> bool:
        """Whether it is another machine: what this one has to spare, and its memory, say nothing of it."""
        return isinstance(self.runtime, SshBoard)

    def why_not(self) -> str | None:
        """Return the reason it cannot run here, or None."""
        return missing_provider(self.provider) if self.runtime is None else self.runtime.why_not()


TARGETS: dict[str, Target] = {
    "cpu": Target(
        provider="CPUExecutionProvider",
        clock="measured",
        summary="this machine's CPU, ONNX Runtime's own kernels (MLAS)",
        remedy="pip install onnxruntime",
    ),
    "cpu@haswell": Target(
        provider="CPUExecutionProvider",
        clock="emulated",
        summary="Intel Haswell: x86-64 with AVX2 and without VNNI, where int8 may saturate; emulated",
        remedy="edgecnn targets install cpu@haswell, or as root: apt-get install qemu-user-static",
        runtime=HASWELL,
    ),
    "cpu@cortex-a53": Target(
        provider="CPUExecutionProvider",
        clock="emulated",
        summary="Arm Cortex-A53: arm64 without dot product instructions; emulated",
        remedy="edgecnn targets install cpu@cortex-a53",
        runtime=CORTEX_A53,
    ),
    "cpu@cortex-a76": Target(
        provider="CPUExecutionProvider",
        clock="emulated",
        summary="Arm Cortex-A76: arm64 with dot product instructions; emulated",
        remedy="edgecnn targets install cpu@cortex-a76",
        runtime=CORTEX_A76,
    ),
    "xnnpack": Target(
        provider="XnnpackExecutionProvider",
        clock="measured",
        summary="XNNPACK kernels on this machine's CPU",
        remedy="install an onnxruntime built with --use_xnnpack",
    ),
    "coreml": Target(
        provider="CoreMLExecutionProvider",
        clock="measured",
        summary="Apple's CoreML",
        remedy="run on macOS, whose onnxruntime wheel has it",
    ),
    "nnapi": Target(
        provider="NnapiExecutionProvider",
        clock="measured",
        summary="Android's NNAPI",
        remedy="run on Android, with an onnxruntime built with --use_nnapi",
    ),
    "qnn": Target(
        provider="QNNExecutionProvider",
        clock="measured",
        summary="Qualcomm's HTP on Snapdragon",
        remedy="run on Windows or Linux on Snapdragon, with an onnxruntime built with --use_qnn",
    ),
    "openvino": Target(
        provider="OpenVINOExecutionProvider",
        clock="measured",
        summary="Intel's OpenVINO",
        remedy="pip install onnxruntime-openvino in an environment without onnxruntime",
    ),
}


def target(name: str) -> Target:
    """Return a row of the table, or one made for a board that the name tells how to reach.

    Raises:
        UsageError: there is no such target; the known ones are listed.
    """
    if is_board(name):
        return Target(
            provider="CPUExecutionProvider",
            clock="measured",
            summary="the CPU of a board, over SSH",
            remedy="see docs/devices.md",
            runtime=board(name),
        )
    if name not in TARGETS:
        known = ", ".join([*TARGETS, EXAMPLE])
        raise UsageError(f"unknown provider {name!r}; known: {known}.", next_step="edgecnn targets")
    return TARGETS[name]


def require(name: str) -> Target:
    """Return a row whose target can run here.

    Raises:
        UsageError: there is no such target.
        TargetError: it cannot run here, and why.
    """
    row = target(name)
    if isinstance(row.runtime, SshBoard):
        row.runtime.look()  # says more than a row can, whatever is missing there
    elif reason := row.why_not():
        raise TargetError(f"{name}: not available here: {reason}.", next_step=row.remedy)
    return row


def require_clock(name: str) -> None:
    """Refuse a target on which wall time means nothing.

    Raises:
        UsageError: there is no such target, or it is emulated or simulated.
    """
    row = target(name)
    if row.clock != "measured":
        raise UsageError(
            f"{name}: is {row.clock}; how long it takes says nothing of how long the CPU itself would take, "
            "so no latency is measured.",
            next_step=f"edgecnn validate --provider {name}; edgecnn tune --target {name} compares by instructions"
            if row.emulated
            else f"edgecnn validate --provider {name}, and bench on the machine itself",
        )


def open_session(
    name: str, model: bytes, *, model_name: str, threads: int = 1, options_name: str = DEFAULT_SESSION
) -> Session:
    """Open a model on a target, wholly on it: no node may fall back to another provider.

    Args:
        name: row of the target table.
        model: the ONNX file.
        model_name: what to call it in a message.
        threads: for its operators.
        options_name: row of the table of session options; one that is not in this process takes the default alone.

    Raises:
        UsageError: there is no such target, or no such row.
        TargetError: the target is not available here, or does not take every node.
        ModelError: ONNX Runtime cannot load the model.
    """
    row = require(name)
    if row.runtime is not None:
        if options_name != DEFAULT_SESSION:
            raise UsageError(
                f"{name}: takes the default session options alone, found {options_name!r}.", next_step="edgecnn targets"
            )
        return WorkerSession(
            model,
            model_name=model_name,
            target=name,
            runtime=row.runtime,
            clock=row.clock,
            threads=threads,
            provider=row.provider,
            provider_options=row.provider_options,
        )
    return NativeSession(
        model,
        model_name=model_name,
        provider=row.provider,
        clock=row.clock,
        threads=threads,
        options_name=options_name,
    )


@contextlib.contextmanager
def running(name: str, model: bytes, *, model_name: str, threads: int = 1) -> Iterator[Session]:
    """Open a model on a target, and leave nothing of it running afterwards; raises as :func:`open_session`."""
    session = open_session(name, model, model_name=model_name, threads=threads)
    try:
        yield session
    finally:
        if isinstance(session, WorkerSession):
            session.close()


def reference_session(
    model: bytes, *, model_name: str, threads: int = 1, weights: Mapping[str, bytes] | None = None
) -> Session:
    """Open a model on the CPU, against which the stages compare themselves.

    Args:
        model: the ONNX file.
        model_name: what to call it in a message.
        threads: for its operators.
        weights: the files that it keeps weights in, by name.
    """
    row = require("cpu")
    return NativeSession(
        model, model_name=model_name, provider=row.provider, clock=row.clock, threads=threads, weights=weights
    )
