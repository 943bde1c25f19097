"""What a terminal shows."""

import io

from rich.console import Console, RenderableType


def shown(item: RenderableType) -> str:
    """Return what a wide terminal without colours shows, each line without what pads it."""
    console = Console(file=io.StringIO(), width=140, markup=False, emoji=False, highlight=False)
    console.print(item)
    assert isinstance(console.file, io.StringIO)
    return "\n".join(" ".join(line.split()) for line in console.file.getvalue().splitlines() if line.strip())
