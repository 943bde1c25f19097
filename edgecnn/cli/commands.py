"""Every command, in the order of the help, and the options before the command."""

from collections.abc import Callable
from typing import Annotated

import typer

from edgecnn.cli.bench import bench
from edgecnn.cli.compare import compare
from edgecnn.cli.deliver import demo_page, package, report
from edgecnn.cli.export import export
from edgecnn.cli.inspect import inspect, profile
from edgecnn.cli.quantize import quantize, sensitivity
from edgecnn.cli.run import run
from edgecnn.cli.simplify import simplify
from edgecnn.cli.targets import install, predict, targets
from edgecnn.cli.train import train
from edgecnn.cli.tune import tune
from edgecnn.cli.validate import validate
from edgecnn.version import __version__

COMMANDS: dict[str, Callable[..., None]] = {
    "run": run,
    "train": train,
    "export": export,
    "simplify": simplify,
    "quantize": quantize,
    "tune": tune,
    "sensitivity": sensitivity,
    "validate": validate,
    "bench": bench,
    "compare": compare,
    "report": report,
    "demo-page": demo_page,
    "package": package,
    "inspect": inspect,
    "profile": profile,
}
#: Below ``edgecnn targets``.
TARGETS_COMMANDS: dict[str, Callable[..., None]] = {
    "install": install,
    "predict": predict,
}

app = typer.Typer(
    name="edgecnn",
    help="Put convolutional networks on edge devices: train, export, quantize to int8, and prove it against float.",
    add_completion=False,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
    rich_markup_mode=None,
)
targets_app = typer.Typer(invoke_without_command=True)


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Options before the command."""
    if version:
        print(f"edgecnn {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


for name, command in COMMANDS.items():
    app.command(name)(command)
targets_app.callback()(targets)
for name, command in TARGETS_COMMANDS.items():
    targets_app.command(name)(command)
app.add_typer(targets_app, name="targets")
