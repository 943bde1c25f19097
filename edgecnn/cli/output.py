"""Where a command speaks: the terminal, and what every stage that makes files shows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edgecnn.console import Terminal, show_json

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edgecnn.pipeline.context import Outcome

#: Of this process; bars that are open when an error comes are closed by :func:`edgecnn.cli.main`.
terminal = Terminal()


def show_made(
    outcome: "Outcome", json: bool, *, items: "Sequence[RenderableType]" = (), more: dict[str, Any] | None = None
) -> None:
    """Show the files of a stage, after what else it has to show; ``more`` are further fields of its JSON."""
    from edgecnn.report import text, views

    if json:
        made = views.artifacts_view(str(outcome.bundle), outcome.artifacts, "passed", unchanged=outcome.unchanged)
        show_json({**made, **(more or {})})
        return
    if outcome.unchanged:
        say_unchanged(outcome.stage)
    terminal.show(*items, text.artifacts_table(outcome.artifacts), f"bundle: {outcome.bundle}")


def say_unchanged(stage: str) -> None:
    """Say that a stage had nothing to do."""
    how = "" if stage == "report" else " (--force does it again)"  # the report has no --force
    terminal.say(f"{stage}: nothing changed, not done again{how}")
