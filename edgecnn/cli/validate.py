"""``edgecnn validate``."""

from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from edgecnn.cli.output import terminal
from edgecnn.cli.settings import stage_options
from edgecnn.console import show_json
from edgecnn.options import AllowCpuNodes, Bundle, Cache, Data, Int8Model, Json, MaxDrop, Providers, TestImages

if TYPE_CHECKING:
    from edgecnn.pipeline.validate import Validated
    from edgecnn.pipeline.verdict import Verdict

MaxChange = Annotated[
    float,
    typer.Option(
        "--max-change", help="Fail if int8's top-1 on a target surely differs by more from that on this CPU, in points."
    ),
]
MaxFloatFlips = Annotated[
    int | None,
    typer.Option(
        "--max-float-flips",
        help="Images that float may put into another class there than on this CPU. Default: none; where float has 16 "
        "bits, as --max-change.",
    ),
]


def validate(
    bundle: Bundle = None,
    data: Data = None,
    provider: Providers = None,
    model: Int8Model = None,
    images: TestImages = None,
    allow_cpu_nodes: AllowCpuNodes = None,
    max_drop: MaxDrop = 1.0,
    max_change: MaxChange = 0.3,
    max_float_flips: MaxFloatFlips = None,
    cache: Cache = None,
    json: Json = False,
) -> None:
    """Measure the accuracy of float and int8 on the same test images, on one target or many."""
    from edgecnn.pipeline.validate import validate as validate_bundle
    from edgecnn.pipeline.verdict import Gates

    outcome, verdict = validate_bundle(
        targets=provider or ["cpu"],
        model=model,
        n_images=images,
        allow_cpu_nodes=allow_cpu_nodes,
        gates=Gates(max_drop_pp=max_drop, max_target_change_pp=max_change, max_float_flips=max_float_flips),
        options=stage_options(bundle, data, cache),
    )
    _show(outcome, verdict, json)


def _show(outcome: "Validated", verdict: "Verdict", json: bool) -> NoReturn:
    from edgecnn.report.validation import ValidationFigures, validation_figures_items, validation_figures_view

    figures = ValidationFigures(
        bundle=str(outcome.bundle),
        results=outcome.results,
        checks=verdict.checks,
        failures=verdict.failures,
        predictions=outcome.predictions,
        saturation=outcome.saturation,
        fusion=outcome.fusion,
        passed=verdict.passed,
    )
    if json:
        show_json(validation_figures_view(figures))
    else:
        terminal.show(*validation_figures_items(figures))
    raise typer.Exit(verdict.exit_code)
