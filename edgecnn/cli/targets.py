"""``edgecnn targets`` and the commands below it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from edgecnn.cli.output import terminal
from edgecnn.cli.settings import stage_options
from edgecnn.console import show_json
from edgecnn.errors import EdgecnnError, ExitCode, UsageError
from edgecnn.options import Bundle, Json

if TYPE_CHECKING:
    from edgecnn.targets.install import Installed

InstallTarget = Annotated[str, typer.Argument(help="A target, such as qnn or cpu@haswell; all: each that can be.")]
Anew = Annotated[bool, typer.Option("--force", help="Set it up anew.")]
Count = Annotated[bool, typer.Option("--count", help="Also what counts its instructions, for tune.")]
Predicted = Annotated[Path | None, typer.Argument(help="An .onnx file. Default: every model of the bundle.")]
PredictedProviders = Annotated[
    list[str] | None, typer.Option("--provider", help="coreml or nnapi; may be given again. Default: both.")
]


def targets(context: typer.Context, json: Json = False) -> None:
    """List what can run here, and why the rest cannot."""
    from edgecnn.report import views
    from edgecnn.report.targets import states_table
    from edgecnn.targets.states import target_states

    context.obj = json  # for the command below: edgecnn targets --json install
    if context.invoked_subcommand is not None:
        return
    states = target_states()
    rows = [(each.target, each.summary, each.state, each.why_not, each.remedy) for each in states]
    if json:
        show_json(views.targets_view(rows))
    else:
        missing = sum(each.state == "installable" for each in states)
        footer = [f"edgecnn targets install all sets up the {missing} that are installable."] if missing else []
        terminal.show(states_table(rows), *footer)


def install(
    context: typer.Context, target: InstallTarget, force: Anew = False, count: Count = False, json: Json = False
) -> None:
    """Set up a target in the cache folder."""
    from edgecnn.targets.choice import ALL
    from edgecnn.targets.install import install_target

    as_json = json or bool(context.obj)
    if target == ALL:
        _install_all(force=force, count=count, json=as_json)
    found = install_target(target, force=force, count=count, progress=terminal)
    if as_json:
        show_json(_installed_view(found))
    else:
        folder = [f"folder: {found.folder}"] if found.folder else []
        terminal.show(_installed_line(found), *folder)


def _install_all(*, force: bool, count: bool, json: bool) -> NoReturn:
    from edgecnn.report.views import all_installed_view
    from edgecnn.targets.states import install_all

    if count:
        raise UsageError("--count is for one emulated target.", next_step="edgecnn targets install cpu@haswell")
    ready, failed = install_all(force=force, progress=terminal)
    if json:
        errors = [_failure_view(name, error) for name, error in failed.items()]
        show_json(all_installed_view([_installed_view(each) for each in ready], errors))
    else:
        terminal.show(*map(_installed_line, ready))
        terminal.show(*[f"{name}: {error.message}  Next: {error.next_step}" for name, error in failed.items()])
    raise typer.Exit(ExitCode.TARGET_UNAVAILABLE if failed else ExitCode.PASSED)


def _installed_line(found: "Installed") -> str:
    return f"{found.target}: {'was ready before; --force sets it up anew' if found.unchanged else 'ready'}"


def _installed_view(found: "Installed") -> dict[str, Any]:
    from edgecnn.report.views import installed_view

    folder = None if found.folder is None else str(found.folder)
    return installed_view(found.target, folder, found.program, unchanged=found.unchanged)


def _failure_view(target: str, error: EdgecnnError) -> dict[str, Any]:
    from edgecnn.report.views import error_view

    return {"target": target, **error_view(type(error).__name__, error.message, error.next_step, error.exit_code)}


def predict(
    context: typer.Context,
    model: Predicted = None,
    bundle: Bundle = None,
    provider: PredictedProviders = None,
    json: Json = False,
) -> None:
    """Predict how CoreML and NNAPI would cut a model."""
    from edgecnn.pipeline.predict import predict as predict_model
    from edgecnn.report.prediction import prediction_items, prediction_view

    if model is not None and bundle is not None:
        raise UsageError("targets predict: takes a file or a bundle, found both.", next_step="leave one of them out")
    found = predict_model(model, targets=provider, options=stage_options(bundle))
    if json or context.obj:
        show_json(prediction_view(str(found.path), found.predictions))
    else:
        terminal.show(*prediction_items(found.predictions))
