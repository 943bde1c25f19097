"""What a person at a terminal sees: bars and notes on stderr, results on stdout, errors in one place."""

import json
import sys
import time
from typing import TYPE_CHECKING, Any

from edgecnn.errors import EdgecnnError
from edgecnn.report.views import error_view

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

_LINE_EVERY_S = 10.0


class Terminal:
    """Progress bars on a terminal; in a log file, a line now and then."""

    def __init__(self) -> None:
        self._bars: RichProgress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._last_line = time.monotonic()

    def say(self, text: str) -> None:
        """Print a note on stderr, above the bars if there are any."""
        self._last_line = time.monotonic()
        if self._bars is not None:
            self._bars.console.print(text, markup=False, highlight=False, emoji=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def update(self, task: str, done: int, total: int, detail: str = "") -> None:
        """Move a bar, or print a line if ten seconds have passed."""
        if not sys.stderr.isatty():
            if time.monotonic() - self._last_line >= _LINE_EVERY_S:
                self.say(f"{task}: {done}/{total} {detail}".rstrip())
            return
        bars = self._open()
        if task not in self._tasks:
            self._tasks[task] = bars.add_task(task, total=total, detail=detail)
        bars.update(self._tasks[task], completed=done, total=total, detail=detail)

    def show(self, *items: "RenderableType") -> None:
        """Print tables and sentences on stdout, below the finished bars."""
        from rich.console import Console

        self.close()
        console = Console(highlight=False, markup=False, emoji=False)  # a folder may be called models[v2]
        for item in items:
            console.print(item)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
            self._tasks.clear()

    def _open(self) -> "RichProgress":
        if self._bars is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

            self._bars = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[detail]}"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._bars.start()
        return self._bars


def show_json(view: dict[str, Any]) -> None:
    """Print one JSON object on stdout; NaN and infinity are not JSON and raise."""
    print(json.dumps(view, allow_nan=False))


def show_error(error: EdgecnnError, *, as_json: bool) -> None:
    """Print an error on stderr, and as an object on stdout under ``--json``."""
    print(f"edgecnn: {error}", file=sys.stderr)
    if as_json:
        show_json(error_view(type(error).__name__, error.message, error.next_step, int(error.exit_code)))
