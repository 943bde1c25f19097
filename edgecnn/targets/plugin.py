"""Providers that ONNX Runtime loads from a library of their own."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """A Python package that brings a provider's library.

    Attributes:
        module: what to import; it has ``get_library_path()``.
        paths: functions of the module, by the provider option that is given what they return.
    """

    module: str
    paths: Mapping[str, str] = field(default_factory=dict)

    def words(self) -> dict[str, Any]:
        """Return it as JSON, for a process that has no edgecnn."""
        return asdict(self)
