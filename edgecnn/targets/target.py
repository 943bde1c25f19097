"""What a row of the target table says."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edgecnn.targets.emulator import EmulatedCpu
from edgecnn.targets.native import missing_provider
from edgecnn.targets.plugin import Plugin
from edgecnn.targets.runtime import Runtime
from edgecnn.targets.session import Clock
from edgecnn.targets.ssh import SshBoard


@dataclass(frozen=True, kw_only=True)
class Target:
    """A place a model runs.

    Attributes:
        provider: ONNX Runtime's name of the execution provider.
        clock: whether its wall time means anything, where it runs as ``runtime`` says.
        summary: what it is, for the table of targets.
        remedy: what makes it available where it is not.
        runtime: where it runs if not in this process.
        native_first: whether an onnxruntime installed here that has the provider itself goes before the runtime.
        provider_options: what the provider is told.
        threads_option: the provider option that is told the number of threads, where ONNX Runtime's does nothing.
        plugin: the package that brings the provider, where the runtime's onnxruntime has it not of its own.
        max_threads: the most that the runtime can be given, or None.
        writes_context: whether the provider writes what it compiled, which a device loads in place of the model.
        in_all: whether ``--provider all`` means it, too; not where it is another of its kind.
        instead: another of its kind, which ``--provider all`` means where this one's chip does not take a model.
        float_bits: what it computes float in, whatever the file says.
        takes_parts: whether the provider never takes a whole network, by its own design.
    """

    provider: str
    clock: Clock
    summary: str
    remedy: str
    runtime: Runtime | None = None
    native_first: bool = False
    provider_options: Mapping[str, str] = field(default_factory=dict)
    threads_option: str | None = None
    plugin: Plugin | None = None
    max_threads: int | None = None
    writes_context: bool = False
    in_all: bool = True
    instead: str | None = None
    float_bits: Literal[16, 32] = 32
    takes_parts: bool = False

    @property
    def emulated(self) -> EmulatedCpu | None:
        """The CPU that is emulated, or None where it is a real one."""
        return self.runtime if isinstance(self.runtime, EmulatedCpu) else None

    @property
    def remote(self) -> bool:
        """Whether it is another machine: what this one has to spare, and its memory, say nothing of it."""
        return isinstance(self.runtime, SshBoard)

    @property
    def runtime_here(self) -> Runtime | None:
        """Where it runs on this machine, or None for this process."""
        if self.native_first and missing_provider(self.provider) is None:
            return None
        return self.runtime

    @property
    def clock_here(self) -> Clock:
        """Whether its wall time means anything on this machine: the provider of the installed onnxruntime is real."""
        return self.clock if self.runtime is None or self.runtime_here is not None else "measured"

    def why_not(self) -> str | None:
        """Return the reason it cannot run here, or None."""
        runtime = self.runtime_here
        return missing_provider(self.provider) if runtime is None else runtime.why_not()

    def options_for(self, threads: int) -> dict[str, str]:
        """Return what the provider is told for so many threads."""
        told = {self.threads_option: str(threads)} if self.threads_option else {}
        return {**self.provider_options, **told}
