"""``edgecnn validate``."""

from typing import TYPE_CHECKING, NoReturn

import typer

from edgecnn.cli.output import show_own, terminal
from edgecnn.cli.settings import stage_options
from edgecnn.console import show_json
from edgecnn.options import AllowCpuNodes, Bundle, Cache, Data, Int8Model, Json, MaxDrop, Providers, TestImages

if TYPE_CHECKING:
    from edgecnn.pipeline.validation import Validated


def validate(
    bundle: Bundle = None,
    data: Data = None,
    provider: Providers = None,
    model: Int8Model = None,
    images: TestImages = None,
    allow_cpu_nodes: AllowCpuNodes = 0,
    max_drop: MaxDrop = 1.0,
    cache: Cache = None,
    json: Json = False,
) -> None:
    """Measure the accuracy of float and int8 on the same test images, on one target or many."""
    from edgecnn.pipeline.fit_commit import is_own_model
    from edgecnn.pipeline.fit_measure import validate_fitted
    from edgecnn.pipeline.validation import take_validation
    from edgecnn.pipeline.verdict import Gates

    targets, gates, options = provider or ["cpu"], Gates(max_drop_pp=max_drop), stage_options(bundle, data, cache)
    if is_own_model(model):
        measured = validate_fitted(
            model, targets=targets, n_images=images, allow_cpu_nodes=allow_cpu_nodes, gates=gates, options=options
        )
        show_own(measured, json)
    found = take_validation(
        targets=targets, n_images=images, allow_cpu_nodes=allow_cpu_nodes, gates=gates, options=options
    )
    _show(found, json)


def _show(found: "Validated", json: bool) -> NoReturn:
    from edgecnn.report.validation import ValidationFigures, validation_figures_items, validation_figures_view

    figures = ValidationFigures(
        bundle=str(found.outcome.bundle),
        results=found.results,
        checks=found.verdict.checks,
        failures=found.verdict.failures,
        predictions=found.predictions,
        saturation=found.outcome.manifest.saturation,
        fusion=found.outcome.manifest.fusion,
        passed=found.verdict.passed,
    )
    if json:
        show_json(validation_figures_view(figures))
    else:
        terminal.show(*validation_figures_items(figures))
    raise typer.Exit(found.verdict.exit_code)
