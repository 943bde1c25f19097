"""``edgecnn simplify``: of a bundle, or of any ONNX file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgecnn.cli.output import show_made, terminal
from edgecnn.cli.settings import stage_options
from edgecnn.console import show_json
from edgecnn.errors import UsageError
from edgecnn.options import Bisect, Bundle, Cache, Data, Force, Json

if TYPE_CHECKING:
    from edgecnn.graph.onnxsim_process import Limits
    from edgecnn.pipeline.context import Outcome
    from edgecnn.pipeline.simplify_file import SimplifiedFile

Simplified = Annotated[Path | None, typer.Argument(help="Any ONNX file. Default: the bundle's float.onnx.")]
Output = Annotated[
    Path | None, typer.Option("--output", help="Of a file: where to write. Default: NAME-simplified.onnx.")
]
InputShape = Annotated[
    list[str] | None, typer.Option("--input-shape", help="Of a file: NAME:1x3x224x224, where a size may vary.")
]
TimeLimit = Annotated[float, typer.Option("--time-limit", min=1, help="Seconds that onnxsim may take.")]
MemoryLimit = Annotated[str, typer.Option("--memory-limit", help="Memory that onnxsim may take.")]


def simplify(
    model: Simplified = None,
    bundle: Bundle = None,
    data: Data = None,
    output: Output = None,
    input_shape: InputShape = None,
    bisect: Bisect = False,
    time_limit: TimeLimit = 300,
    memory_limit: MemoryLimit = "16GiB",
    cache: Cache = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Simplify float.onnx or any ONNX file, and compare the answers."""
    from edgecnn.graph.onnxsim_process import Limits
    from edgecnn.pipeline.profile import parse_memory
    from edgecnn.pipeline.simplify import simplify as simplify_model

    limits = Limits(seconds=time_limit, memory_bytes=parse_memory("--memory-limit", memory_limit))
    if model is None:
        _refuse_options_of_a_file(output, input_shape)
        options = stage_options(bundle, data, cache, force)
        _show_simplified(simplify_model(options=options, limits=limits, bisect=bisect), json)
    else:
        _refuse_options_of_a_bundle(model, bundle, data)
        _show_file(_simplify_file(model, output, input_shape, limits, bisect=bisect, force=force), json)


def _refuse_options_of_a_file(output: Path | None, input_shape: list[str] | None) -> None:
    if output is not None or input_shape:
        raise UsageError(
            "simplify: --output and --input-shape belong to a file; a bundle's float.onnx is replaced.",
            next_step="edgecnn simplify FILE.onnx --output OTHER.onnx",
        )


def _refuse_options_of_a_bundle(model: Path, bundle: Path | None, data: str | None) -> None:
    if bundle is not None or data is not None:
        raise UsageError(
            "simplify: --bundle and --data belong to a bundle; a file is compared on inputs made up to fit.",
            next_step=f"edgecnn simplify {model}",
        )


def _simplify_file(
    model: Path, output: Path | None, shapes: list[str] | None, limits: "Limits", *, bisect: bool, force: bool
) -> "SimplifiedFile":
    from edgecnn.pipeline.simplify_file import parse_input_shapes, simplify_file

    return simplify_file(
        model,
        output=output,
        shapes=parse_input_shapes(shapes or []),
        limits=limits,
        bisect=bisect,
        force=force,
        progress=terminal,
    )


def _show_simplified(outcome: "Outcome", json: bool) -> None:
    from edgecnn.report import simplification as view

    record = outcome.manifest.simplification  # a bundle of an older edgecnn has none
    items = [] if record is None else view.simplification_items(record)
    show_made(outcome, json, items=items, more=view.simplification_view(record))


def _show_file(made: "SimplifiedFile", json: bool) -> None:
    from edgecnn.report import simplification as view

    names = (str(made.path), str(made.output))
    if json:
        show_json(view.file_view(*names, (made.size_before_bytes, made.size_after_bytes), made.simplified))
    else:
        terminal.show(*view.file_items(*names, made.simplified))
