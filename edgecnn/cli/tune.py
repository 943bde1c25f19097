"""``edgecnn tune``."""

from typing import TYPE_CHECKING, Annotated

import typer

from edgecnn.cli.output import say_unchanged, terminal
from edgecnn.cli.settings import stage_options
from edgecnn.console import show_json
from edgecnn.errors import ExitCode
from edgecnn.options import Bundle, Cache, Data, Force, HeldOut, Images, Json, Recipe, Seed, Target

if TYPE_CHECKING:
    from edgecnn.pipeline.context import Outcome

TunedDrop = Annotated[
    float, typer.Option("--max-drop", help="Points that int8 may lose on training images held apart.")
]
Objective = Annotated[str, typer.Option("--objective", help="latency, throughput or size.")]
Seconds = Annotated[float, typer.Option("--seconds", help="About how long it may take.")]
UpToThreads = Annotated[int, typer.Option("--threads", help="Try up to so many; pinned to as many CPUs.")]
TunedBatch = Annotated[int | None, typer.Option("--batch", help="Images a call. Default: 1, throughput 64.")]


def tune(
    bundle: Bundle = None,
    data: Data = None,
    target: Target = "cpu",
    max_drop: TunedDrop = 0.5,
    objective: Objective = "latency",
    seconds: Seconds = 60.0,
    threads: UpToThreads = 1,
    batch: TunedBatch = None,
    recipe: Recipe = None,
    images: Images = None,
    held_out: HeldOut = None,
    seed: Seed = 0,
    cache: Cache = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Find the best int8 and float for a target by measuring there."""
    from edgecnn.pipeline.tune import tune as tune_bundle
    from edgecnn.pipeline.tune_settings import TuneSettings, parse_objective

    settings = TuneSettings(
        target=target,
        max_drop_pp=max_drop,
        objective=parse_objective(objective),
        seconds=seconds,
        threads=threads,
        batch=batch,
        recipe=recipe,
        n_images=images,
        n_held_out=held_out,
        seed=seed,
    )
    _show_tuned(tune_bundle(settings=settings, options=stage_options(bundle, data, cache, force)), json)


def _show_tuned(outcome: "Outcome", json: bool) -> None:
    from edgecnn.report import tuning as view

    found = outcome.manifest
    assert found.tuning is not None
    assert found.recommendation is not None
    if json:
        show_json(view.tuning_view(str(outcome.bundle), found, unchanged=outcome.unchanged))
    else:
        if outcome.unchanged:
            say_unchanged(outcome.stage)
        terminal.show(*view.tuning_items(found.tuning, found.recommendation), f"bundle: {outcome.bundle}")
    if not found.tuning.met:
        raise typer.Exit(ExitCode.GATE_FAILED)
