"""What every target's state is here: ready, to be had by a command, or not possible."""

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from edgecnn.errors import EdgecnnError
from edgecnn.progress import SILENT, Progress
from edgecnn.targets import TARGETS
from edgecnn.targets.install import INSTALLERS, Installed, install_target

State = Literal["ready", "installable", "impossible"]


@runtime_checkable
class Obstructed(Protocol):
    """A runtime that knows why it can never be set up on a machine."""

    def obstacle(self) -> str | None:
        """Return why, or None."""


@dataclass(frozen=True, kw_only=True)
class TargetState:
    """A row of the table of targets, as it is here.

    Attributes:
        target: its name.
        summary: what it is.
        state: whether it runs here, or could.
        why_not: why it does not run yet; None if it does.
        remedy: what to do about that: of an installable one the command.
    """

    target: str
    summary: str
    state: State
    why_not: str | None
    remedy: str


def target_states() -> list[TargetState]:
    """Return every target's state, in the order of the table."""
    return [_state(name) for name in TARGETS]


def _state(name: str) -> TargetState:
    row = TARGETS[name]
    reason = row.why_not()
    state: State = "ready" if reason is None else ("installable" if is_installable(name) else "impossible")
    remedy = f"edgecnn targets install {name}" if state == "installable" else row.remedy
    return TargetState(target=name, summary=row.summary, state=state, why_not=reason, remedy=remedy)


def is_installable(name: str) -> bool:
    """Tell whether ``edgecnn targets install`` could set a target up on this machine."""
    runtime: object = TARGETS[name].runtime_here
    if not any(isinstance(runtime, kind) for kind, _ in INSTALLERS):
        return False
    return not (isinstance(runtime, Obstructed) and runtime.obstacle())


def install_all(*, force: bool = False, progress: Progress = SILENT) -> tuple[list[Installed], dict[str, EdgecnnError]]:
    """Set up every target that can be on this machine; one that fails does not keep the others.

    Returns:
        Those that are ready, and the errors of those that are not, by name.
    """
    found: list[Installed] = []
    failed: dict[str, EdgecnnError] = {}
    for name, row in TARGETS.items():
        if row.in_all and is_installable(name):
            try:
                found.append(install_target(name, force=force, progress=progress))
            except EdgecnnError as error:
                failed[name] = error
    return found, failed
