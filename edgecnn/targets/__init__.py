"""Where a bundle can run: one literal row a target.

A target is written ``provider`` or ``provider@machine``. A new one is a row in :data:`TARGETS`, and a session class
if the existing ones do not serve.
"""

import contextlib
from collections.abc import Iterator, Mapping

from edgecnn.errors import TargetError, UsageError
from edgecnn.targets.browser import WASM_ISOLATED, WASM_PLAIN, WEBGPU_PAGE
from edgecnn.targets.emulator import CORTEX_A53, CORTEX_A76, HASWELL
from edgecnn.targets.environments import (
    OPENVINO,
    QNN,
    QNN_ON,
    QNN_PLUGIN,
    SOCS,
    WEBGPU,
    WEBGPU_PLUGIN,
    qnn_clock,
)
from edgecnn.targets.native import NativeSession
from edgecnn.targets.node import NODE_WASM, NODE_XNNPACK
from edgecnn.targets.session import Clock, Session
from edgecnn.targets.session_options import DEFAULT_SESSION
from edgecnn.targets.ssh import SshBoard, board, is_board
from edgecnn.targets.ssh_address import EXAMPLE
from edgecnn.targets.target import Target
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
        summary="XNNPACK kernels on this machine's CPU: native where onnxruntime has them, else WebAssembly in Node",
        remedy="edgecnn targets install xnnpack, or an onnxruntime built with --use_xnnpack",
        runtime=NODE_XNNPACK,
        native_first=True,
        max_threads=1,
        takes_parts=True,
    ),
    "wasm": Target(
        provider="CPUExecutionProvider",
        clock="measured",
        summary="onnxruntime-web's CPU kernels in WebAssembly, in Node",
        remedy="edgecnn targets install wasm",
        runtime=NODE_WASM,
        max_threads=1,
    ),
    "wasm@chromium": Target(
        provider="CPUExecutionProvider",
        clock="measured",
        summary="onnxruntime-web in Chromium, on a page that is cross-origin isolated",
        remedy="edgecnn targets install wasm@chromium, or as root: apt-get install chromium",
        runtime=WASM_ISOLATED,
        max_threads=1,
    ),
    "wasm@chromium-plain": Target(
        provider="CPUExecutionProvider",
        clock="measured",
        summary="onnxruntime-web in Chromium, on a page as most servers send it: not cross-origin isolated",
        remedy="edgecnn targets install wasm@chromium-plain, or as root: apt-get install chromium",
        runtime=WASM_PLAIN,
        max_threads=1,
    ),
    "coreml": Target(
        provider="CoreMLExecutionProvider",
        clock="measured",
        summary="Apple's CoreML",
        remedy="edgecnn targets predict tells how it would cut a model; or run on macOS, whose onnxruntime has it",
    ),
    "nnapi": Target(
        provider="NnapiExecutionProvider",
        clock="measured",
        summary="Android's NNAPI",
        remedy="edgecnn targets predict tells how it would cut a model; or run on Android, with an onnxruntime built "
        "with --use_nnapi",
    ),
    "qnn": Target(
        provider="QNNExecutionProvider",
        clock=qnn_clock(),
        summary="Qualcomm's HTP: on a Snapdragon itself, on x86-64 its simulator, of SM8350 (v68)",
        remedy="edgecnn targets install qnn",
        runtime=QNN,
        native_first=True,
        plugin=QNN_PLUGIN,
        writes_context=True,
        instead="qnn@sm8650",
    ),
    "qnn@sm8550": Target(
        provider="QNNExecutionProvider",
        clock="simulated",
        summary="Qualcomm's HTP v73 of Snapdragon 8 Gen 2, simulated",
        remedy="edgecnn targets install qnn",
        runtime=QNN_ON["SM8550"],
        provider_options=SOCS["SM8550"],
        float_bits=16,
        plugin=QNN_PLUGIN,
        writes_context=True,
        in_all=False,
    ),
    "qnn@sm8650": Target(
        provider="QNNExecutionProvider",
        clock="simulated",
        summary="Qualcomm's HTP v75 of Snapdragon 8 Gen 3, simulated",
        remedy="edgecnn targets install qnn",
        runtime=QNN_ON["SM8650"],
        provider_options=SOCS["SM8650"],
        float_bits=16,
        plugin=QNN_PLUGIN,
        writes_context=True,
        in_all=False,
    ),
    "qnn@sm8750": Target(
        provider="QNNExecutionProvider",
        clock="simulated",
        summary="Qualcomm's HTP v79 of Snapdragon 8 Elite, simulated",
        remedy="edgecnn targets install qnn",
        runtime=QNN_ON["SM8750"],
        provider_options=SOCS["SM8750"],
        float_bits=16,
        plugin=QNN_PLUGIN,
        writes_context=True,
        in_all=False,
    ),
    "openvino": Target(
        provider="OpenVINOExecutionProvider",
        clock="measured",
        summary="Intel's OpenVINO on this machine's CPU",
        remedy="edgecnn targets install openvino",
        runtime=OPENVINO,
        native_first=True,
        provider_options={"device_type": "CPU", "precision": "FP32"},
        threads_option="num_of_threads",
    ),
    "webgpu": Target(
        provider="WebGpuExecutionProvider",
        clock="simulated",
        summary="WebGPU: ONNX Runtime's shaders on SwiftShader, a GPU in software",
        remedy="edgecnn targets install webgpu; as root: apt-get install chromium, which has SwiftShader",
        runtime=WEBGPU,
        # Without it onnxruntime-ep-webgpu 0.4.0 gives wrong answers, to int8 models above all.
        provider_options={"preferredLayout": "NCHW"},
        plugin=WEBGPU_PLUGIN,
    ),
    "webgpu@chromium": Target(
        provider="WebGpuExecutionProvider",
        clock="simulated",
        summary="onnxruntime-web's WebGPU on a page in Chromium, on its SwiftShader, a GPU in software",
        remedy="edgecnn targets install webgpu@chromium, or as root: apt-get install chromium",
        runtime=WEBGPU_PAGE,
        # Without it onnxruntime-web 1.30.0 gives wrong answers: half of CIFAR-10's images change class.
        provider_options={"preferredLayout": "NCHW"},
        max_threads=1,
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
    if row.clock_here != "measured":
        raise UsageError(
            f"{name}: is {row.clock_here}; how long it takes says nothing of how long the CPU itself would take, "
            "so no latency is measured.",
            next_step=f"edgecnn validate --provider {name}; edgecnn tune --target {name} compares by instructions"
            if row.emulated
            else f"edgecnn validate --provider {name}, and bench on the machine itself",
        )


def open_session(
    name: str,
    model: bytes,
    *,
    model_name: str,
    threads: int = 1,
    options_name: str = DEFAULT_SESSION,
    allow_cpu_nodes: int = 0,
) -> Session:
    """Open a model on a target, wholly on it unless some nodes are allowed to fall back to the CPU.

    Args:
        name: row of the target table.
        model: the ONNX file.
        model_name: what to call it in a message.
        threads: for its operators.
        options_name: row of the table of session options; one that is not in this process takes the default alone.
        allow_cpu_nodes: how many nodes that the provider does not take the CPU may run in its place.

    Raises:
        UsageError: there is no such target, no such row, or it cannot be given so many threads.
        TargetError: the target is not available here, or does not take every node.
        ModelError: ONNX Runtime cannot load the model.
    """
    row = require(name)
    runtime = row.runtime_here
    if runtime is not None:
        if row.max_threads is not None and threads > row.max_threads:
            raise UsageError(
                f"{name}: takes {row.max_threads} thread at most, found {threads}.",
                next_step=f"--threads {row.max_threads}",
            )
        if options_name != DEFAULT_SESSION:
            raise UsageError(
                f"{name}: takes the default session options alone, found {options_name!r}.", next_step="edgecnn targets"
            )
        return WorkerSession(
            model,
            model_name=model_name,
            target=name,
            runtime=runtime,
            clock=row.clock,
            threads=threads,
            provider=row.provider,
            provider_options=row.options_for(threads),
            allow_cpu_nodes=allow_cpu_nodes,
            plugin=row.plugin,
        )
    return NativeSession(
        model,
        model_name=model_name,
        provider=row.provider,
        clock=row.clock_here,
        threads=threads,
        options_name=options_name,
        allow_cpu_nodes=allow_cpu_nodes,
    )


@contextlib.contextmanager
def running(
    name: str, model: bytes, *, model_name: str, threads: int = 1, allow_cpu_nodes: int = 0
) -> Iterator[Session]:
    """Open a model on a target, and leave nothing of it running afterwards; raises as :func:`open_session`."""
    session = open_session(name, model, model_name=model_name, threads=threads, allow_cpu_nodes=allow_cpu_nodes)
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
