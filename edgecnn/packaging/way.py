"""How a program on the device opens the models: in words that stand in ``acceptance.json``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgecnn.targets.placement import CPU_PROVIDER


@dataclass(frozen=True, kw_only=True)
class Way:
    """What opens the models of a package.

    Attributes:
        provider: ONNX Runtime's name of the execution provider.
        runtime: version of onnxruntime that gave the expected answers.
        requires: what ``pip install`` is told, exact versions.
        provider_options: what the provider is told.
        plugin: the words of :class:`edgecnn.targets.plugin.Plugin`, where one brings the provider.
        allow_cpu_nodes: how many nodes of each model the CPU may run in the provider's place.
    """

    provider: str
    runtime: str
    requires: tuple[str, ...]
    provider_options: Mapping[str, str] = field(default_factory=dict)
    plugin: Mapping[str, Any] | None = None
    allow_cpu_nodes: int = 0

    def words(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "provider": self.provider,
            "onnxruntime": self.runtime,
            "requires": list(self.requires),
            "provider_options": dict(self.provider_options),
            "plugin": None if self.plugin is None else dict(self.plugin),
            "allow_cpu_nodes": self.allow_cpu_nodes,
        }

    def provider_of(self, name: str) -> str:
        """Return what opens a file: of an ``.ort`` file ONNX Runtime does not tell who runs what, so only the CPU."""
        return CPU_PROVIDER if name.endswith(".ort") else self.provider
