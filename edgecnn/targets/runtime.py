"""What it takes to run models somewhere else than in this process."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, runtime_checkable

from edgecnn.errors import EdgecnnError
from edgecnn.targets.worker import Header


class Runtime(Protocol):
    """A place where a worker opens models: an emulated CPU, an environment of its own, a browser, another machine.

    The worker speaks the frames of :mod:`edgecnn.targets.worker`, in whatever language it is written.
    """

    @property
    def title(self) -> str:
        """What people call it."""

    @property
    def call_limit_s(self) -> float:
        """How long one answer may take."""

    @property
    def folder(self) -> Path | None:
        """What is set up for it in the cache, or None where nothing is."""

    @property
    def program(self) -> str:
        """What starts the worker."""

    def why_not(self) -> str | None:
        """Return why it cannot run here, or None if it can."""

    def command(self) -> list[str]:
        """Return what starts the worker; call it only where :meth:`why_not` is None."""

    def environment(self) -> Mapping[str, str]:
        """Return the worker's environment."""

    def differs(self, seen: Header) -> str | None:
        """Return how what the worker says of itself is not what was asked for, or None."""

    def cpu(self, seen: Header) -> str:
        """Return the CPU's name for the record, from what the worker says of itself."""

    def adapt(self, model: bytes) -> bytes:
        """Return the model as this runtime reads it: the same graph, in an older file format if need be."""


@runtime_checkable
class ExplainingRuntime(Protocol):
    """A runtime that knows better than its worker's last words what a failure means there."""

    def explain(self, error: EdgecnnError) -> EdgecnnError:
        """Return what to raise in place of ``error``."""
