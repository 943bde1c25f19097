"""``edgecnn compare``."""

from pathlib import Path
from typing import Annotated

import typer

from edgecnn.cli.output import terminal
from edgecnn.console import show_json
from edgecnn.options import Json

First = Annotated[Path, typer.Argument(help="A bundle, or a file that bench --save wrote.")]
Second = Annotated[Path, typer.Argument(help="Another; ratios are its figures by those of the first.")]
FailIfSlower = Annotated[
    str | None, typer.Option("--fail-if-slower", help="Fail if either model takes longer by more, e.g. 5%.")
]
AnyMachine = Annotated[bool, typer.Option("--any-machine", help="Compare other CPUs, batches or threads, and say so.")]


def compare(
    a: First, b: Second, fail_if_slower: FailIfSlower = None, any_machine: AnyMachine = False, json: Json = False
) -> None:
    """Show two measurements side by side, with ratios and their intervals."""
    from edgecnn.pipeline.compare import compare as compare_measurements
    from edgecnn.pipeline.percent import parse_percent
    from edgecnn.report.comparison import comparison_items
    from edgecnn.report.text import checks_table
    from edgecnn.report.views import comparison_view

    limit = None if fail_if_slower is None else parse_percent("--fail-if-slower", fail_if_slower)
    found = compare_measurements(a, b, any_machine=any_machine, fail_if_slower=limit)
    checks = found.verdict.checks
    if json:
        show_json(comparison_view(found.record, checks, found.verdict.word))
    else:
        terminal.show(*comparison_items(found.record), *([checks_table(checks)] if checks else []))
    raise typer.Exit(found.verdict.exit_code)
