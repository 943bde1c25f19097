"""How long work says how far it is, without knowing who listens."""

from typing import Protocol


class Progress(Protocol):
    """A listener for the stages; the command line draws bars, a library user may ignore it."""

    def say(self, text: str) -> None:
        """Tell one line: what starts, what was skipped and why."""

    def update(self, task: str, done: int, total: int, detail: str = "") -> None:
        """Report that ``done`` of ``total`` steps of ``task`` are finished."""


class Silent:
    """Listens and says nothing; the default of the Python API."""

    def say(self, text: str) -> None:
        """Ignore the line."""

    def update(self, task: str, done: int, total: int, detail: str = "") -> None:
        """Ignore the progress."""


SILENT = Silent()
