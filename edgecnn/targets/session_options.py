"""How ONNX Runtime is told to run a model: one literal row a choice.

Only what leaves the answers as they are, and what a file cannot say of itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgecnn.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class SessionOptions:
    """A way to open a session.

    Attributes:
        summary: one line for people.
        level: the name of ONNX Runtime's graph optimization level.
        entries: session config entries, by key.
        attributes: of ``onnxruntime.SessionOptions``, by name.
        needs_threads: threads below which it changes nothing.
    """

    summary: str
    level: str = "ORT_ENABLE_ALL"
    entries: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, bool] = field(default_factory=dict)
    needs_threads: int = 1

    def apply(self, options: Any) -> None:
        """Set it on an ``onnxruntime.SessionOptions``."""
        import onnxruntime

        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, self.level)
        for key, value in self.entries.items():
            options.add_session_config_entry(key, value)
        for name, setting in self.attributes.items():
            setattr(options, name, setting)

    def words(self) -> dict[str, Any]:
        """Return it as JSON, for a process that has no edgecnn."""
        return {"level": self.level, "entries": dict(self.entries), "attributes": dict(self.attributes)}


DEFAULT_SESSION = "default"

SESSION_OPTIONS: dict[str, SessionOptions] = {
    "default": SessionOptions(summary="as ONNX Runtime opens a model if it is told nothing"),
    "extended": SessionOptions(
        summary="without the layout optimizations of the highest level", level="ORT_ENABLE_EXTENDED"
    ),
    "no-prepacking": SessionOptions(
        summary="weights are not packed when the model is opened", entries={"session.disable_prepacking": "1"}
    ),
    "no-arena": SessionOptions(
        summary="memory from the system, call by call", attributes={"enable_cpu_mem_arena": False}
    ),
    "no-memory-pattern": SessionOptions(
        summary="no block of memory for all tensors of a call", attributes={"enable_mem_pattern": False}
    ),
    "denormal-as-zero": SessionOptions(
        summary="numbers too small to be normal count as zero", entries={"session.set_denormal_as_zero": "1"}
    ),
    "no-spinning": SessionOptions(
        summary="waiting threads sleep", entries={"session.intra_op.allow_spinning": "0"}, needs_threads=2
    ),
}


def session_options(name: str) -> SessionOptions:
    """Return a row of the table.

    Raises:
        UsageError: there is no such row; the known ones are listed.
    """
    if name not in SESSION_OPTIONS:
        raise UsageError(
            f"unknown session options {name!r}; known: {', '.join(SESSION_OPTIONS)}.", next_step="see docs/tuning.md"
        )
    return SESSION_OPTIONS[name]
