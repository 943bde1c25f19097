"""``edgecnn quantize`` and ``edgecnn sensitivity``: integers, and what each layer loses by them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgecnn.cli.output import show_made, terminal
from edgecnn.cli.settings import stage_options
from edgecnn.console import show_json
from edgecnn.errors import ExitCode
from edgecnn.options import Bundle, Cache, Data, FitFor, Force, HeldOut, Images, Json, Recipe, Seed

if TYPE_CHECKING:
    from edgecnn.pipeline.context import Outcome
    from edgecnn.pipeline.fit import Fitted

FloatModel = Annotated[Path | None, typer.Argument(help="A float .onnx file. Default: the bundle's float.onnx.")]
Anyway = Annotated[
    bool, typer.Option("--anyway", help="With --for: write int8 also where the target should run float.")
]
SearchedDrop = Annotated[
    float | None, typer.Option("--max-drop", help="Search for the cheapest way to lose no more points than this.")
]


def quantize(
    model: FloatModel = None,
    bundle: Bundle = None,
    data: Data = None,
    recipe: Recipe = None,
    fit_for: FitFor = None,
    anyway: Anyway = False,
    max_drop: SearchedDrop = None,
    images: Images = None,
    held_out: HeldOut = None,
    seed: Seed = 0,
    cache: Cache = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Quantize to int8.onnx, calibrated on training images only."""
    from edgecnn.pipeline.fit import fit
    from edgecnn.pipeline.quantize import quantize as quantize_model
    from edgecnn.pipeline.quantize_settings import QuantizeSettings

    settings = QuantizeSettings(recipe=recipe, n_images=images, seed=seed, max_drop_pp=max_drop, n_held_out=held_out)
    options = stage_options(bundle, data, cache, force)
    if fit_for or anyway:
        _show_fitted(fit(fit_for or [], model=model, anyway=anyway, settings=settings, options=options), json)
    else:
        _show_quantized(quantize_model(model, settings=settings, options=options), json)


def _show_fitted(found: "Fitted", json: bool) -> None:
    from edgecnn.report import fit as view

    if json:
        show_json(view.fitted_view(str(found.bundle), found.records, found.manifest.artifacts, found.unchanged))
        return
    for target in found.unchanged:
        terminal.say(f"--for {target}: nothing changed, not done again (--force does it again)")
    terminal.show(*view.fitted_items(found.records, found.manifest.artifacts), f"bundle: {found.bundle}")


def _show_quantized(outcome: "Outcome", json: bool) -> None:
    from edgecnn.report import quantization as view

    search = outcome.manifest.search
    show_made(outcome, json, items=[] if search is None else view.search_items(search), more=view.search_view(search))
    if search is not None and not search.met:
        raise typer.Exit(ExitCode.GATE_FAILED)


def sensitivity(
    bundle: Bundle = None,
    data: Data = None,
    recipe: Recipe = None,
    images: Images = None,
    held_out: HeldOut = None,
    seed: Seed = 0,
    cache: Cache = None,
    json: Json = False,
) -> None:
    """Measure what each layer costs when it is quantized, ranked."""
    from edgecnn.pipeline.quantize_settings import QuantizeSettings
    from edgecnn.pipeline.sensitivity import sensitivity as measure
    from edgecnn.report import quantization as view

    settings = QuantizeSettings(recipe=recipe, n_images=images, seed=seed, n_held_out=held_out)
    folder, record = measure(settings=settings, options=stage_options(bundle, data, cache))
    if json:
        show_json(view.sensitivity_view(str(folder), record))
    else:
        terminal.show(*view.sensitivity_items(record))
