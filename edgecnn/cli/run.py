"""``edgecnn run``: all stages, one after the other."""

from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from edgecnn.cli.output import terminal
from edgecnn.cli.settings import stage_options, training_settings
from edgecnn.console import show_json
from edgecnn.options import (
    AllowCpuNodes,
    Batch,
    Cache,
    Data,
    Epochs,
    FitFor,
    Force,
    Images,
    Json,
    LearningRate,
    MaxDrop,
    Model,
    NewBundle,
    Providers,
    Recipe,
    RequireSpeedup,
    Seed,
    Threads,
)

if TYPE_CHECKING:
    from edgecnn.pipeline.run import RunResult

MaxSize = Annotated[str | None, typer.Option("--max-size", help="Fail if int8.onnx is larger, e.g. 100kB or 1MiB.")]
TuneSeconds = Annotated[float, typer.Option("--tune-seconds", help="About how long tuning may take; 0 for none.")]


def run(
    bundle: NewBundle = None,
    data: Data = None,
    model: Model = "simplecnn",
    recipe: Recipe = None,
    fit_for: FitFor = None,
    images: Images = None,
    provider: Providers = None,
    allow_cpu_nodes: AllowCpuNodes = None,
    epochs: Epochs = None,
    learning_rate: LearningRate = None,
    seed: Seed = 0,
    batch: Batch = 1,
    threads: Threads = 1,
    max_drop: MaxDrop = 1.0,
    require_speedup: RequireSpeedup = False,
    max_size: MaxSize = None,
    tune_seconds: TuneSeconds = 60.0,
    cache: Cache = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Train, export, simplify, tune, quantize, validate, bench and report; goes on where it stopped."""
    from edgecnn.measure.latency import BenchSettings
    from edgecnn.pipeline.quantize_settings import QuantizeSettings
    from edgecnn.pipeline.run import RunSettings
    from edgecnn.pipeline.run import run as run_pipeline
    from edgecnn.pipeline.verdict import Gates, parse_size

    settings = RunSettings(
        model=model,
        training=training_settings(epochs, learning_rate, seed),
        quantize=QuantizeSettings(recipe=recipe, n_images=images),
        bench=BenchSettings(batch=batch, threads=threads),
        targets=tuple(provider or ["cpu"]),
        gates=Gates(
            max_drop_pp=max_drop,
            require_speedup=require_speedup,
            max_size_bytes=None if max_size is None else parse_size(max_size),
        ),
        tune_seconds=tune_seconds,
        fit_targets=tuple(fit_for or ()),
        allow_cpu_nodes=allow_cpu_nodes,
    )
    _show(
        run_pipeline(settings=settings, options=stage_options(bundle, data, cache, force)), json, fitting=bool(fit_for)
    )


def _show(found: "RunResult", json: bool, *, fitting: bool) -> NoReturn:
    from edgecnn.report.run import run_items
    from edgecnn.report.views import run_view

    bundle, verdict = str(found.bundle), found.verdict
    if json:
        show_json(run_view(bundle, found.manifest, found.unchanged, verdict.failures, found.predictions))
    else:
        shown = run_items(
            bundle,
            found.manifest,
            verdict.checks,
            verdict.passed,
            fitting=fitting,
            failures=verdict.failures,
            predictions=found.predictions,
        )
        terminal.show(*shown)
    raise typer.Exit(verdict.exit_code)
