"""Where a bundle can run: one literal row a target.

A new target is a row in :data:`TARGETS`, and a session class if the existing one does not serve.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edgecnn.errors import TargetError, UsageError
from edgecnn.targets.native import NativeSession, missing_provider
from edgecnn.targets.session import Clock, Session

__all__ = ["TARGETS", "Clock", "Session", "Target", "open_session", "reference_session", "target"]


@dataclass(frozen=True, kw_only=True)
class Target:
    """A place a model runs.

    Attributes:
        provider: ONNX Runtime's name of the execution provider.
        clock: whether its wall time means anything.
        summary: what it is, for the table of targets.
        remedy: what makes it available where it is not.
        why_not: the reason it cannot run here, or None.
    """

    provider: str
    clock: Clock
    summary: str
    remedy: str
    why_not: Callable[[str], str | None] = missing_provider


TARGETS: dict[str, Target] = {
    "cpu": Target(
        provider="CPUExecutionProvider",
        clock="measured",
        summary="this machine's CPU, ONNX Runtime's own kernels (MLAS)",
        remedy="pip install onnxruntime",
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
    """Return a row of the table.

    Raises:
        UsageError: there is no such target; the known ones are listed.
    """
    if name not in TARGETS:
        raise UsageError(f"unknown provider {name!r}; known: {', '.join(TARGETS)}.", next_step="edgecnn targets")
    return TARGETS[name]


def require(name: str) -> Target:
    """Return a row whose target can run here.

    Raises:
        UsageError: there is no such target.
        TargetError: it cannot run here, and why.
    """
    row = target(name)
    if reason := row.why_not(row.provider):
        raise TargetError(f"{name}: not available here: {reason}.", next_step=row.remedy)
    return row


def open_session(name: str, model: bytes, *, model_name: str, threads: int = 1) -> Session:
    """Open a model on a target, wholly on it: no node may fall back to another provider.

    Raises:
        UsageError: there is no such target.
        TargetError: the target is not available here, or does not take every node.
        ModelError: ONNX Runtime cannot load the model.
    """
    row = require(name)
    return NativeSession(model, model_name=model_name, provider=row.provider, clock=row.clock, threads=threads)


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
