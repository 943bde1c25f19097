"""The command line: one command a stage, no logic.

Heavy modules are imported inside the commands, so that ``edgecnn --help`` answers at once.
"""

import atexit
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from edgecnn.console import Terminal, show_error, show_json
from edgecnn.errors import EdgecnnError, ExitCode, Interrupted, UsageError
from edgecnn.options import (
    AllowCpuNodes,
    Batch,
    Batches,
    Bisect,
    Bundle,
    Cache,
    Data,
    Epochs,
    FitFor,
    Force,
    HeldOut,
    Images,
    Int8Model,
    Json,
    LearningRate,
    MaxDrop,
    Model,
    Network,
    NewBundle,
    Provider,
    Providers,
    Recipe,
    RequireSpeedup,
    Seed,
    Target,
    TestImages,
    ThreadCounts,
    Threads,
)
from edgecnn.version import __version__

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edgecnn.pipeline.context import Options, Outcome
    from edgecnn.pipeline.fit_measure import Measured
    from edgecnn.targets.install import Installed

app = typer.Typer(
    name="edgecnn",
    help="Put convolutional networks on edge devices: train, export, quantize to int8, and prove it against float.",
    add_completion=False,
    pretty_exceptions_enable=False,
    invoke_without_command=True,
    rich_markup_mode=None,
)

targets_app = typer.Typer(invoke_without_command=True)
app.add_typer(targets_app, name="targets")

terminal = Terminal()


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


@app.command()
def run(
    bundle: NewBundle = None,
    data: Data = None,
    model: Model = "simplecnn",
    recipe: Recipe = None,
    fit_for: FitFor = None,
    images: Images = None,
    provider: Provider = None,
    epochs: Epochs = None,
    learning_rate: LearningRate = None,
    seed: Seed = 0,
    batch: Batch = 1,
    threads: Threads = 1,
    max_drop: MaxDrop = 1.0,
    require_speedup: RequireSpeedup = False,
    max_size: Annotated[
        str | None, typer.Option("--max-size", help="Fail if int8.onnx is larger, e.g. 100kB or 1MiB.")
    ] = None,
    tune_seconds: Annotated[
        float, typer.Option("--tune-seconds", help="About how long tuning may take; 0 for none.")
    ] = 60.0,
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
    from edgecnn.report import text, views
    from edgecnn.report.fit import fitted_items
    from edgecnn.report.latency import latency_items
    from edgecnn.report.tuning import recommendation_sentence

    settings = RunSettings(
        model=model,
        training=_training(epochs, learning_rate, seed),
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
    )
    result = run_pipeline(settings=settings, options=_options(bundle, data, cache, force))
    manifest = result.manifest
    if json:
        show_json(views.run_view(str(result.bundle), manifest, [o.stage for o in result.outcomes if o.unchanged]))
    else:
        terminal.show(
            text.artifacts_table(manifest.artifacts),
            text.validation_table(manifest.validation),
            *(fitted_items(manifest.fitted, manifest.artifacts) if fit_for else ()),
            *latency_items(manifest.latency),
            *([] if manifest.recommendation is None else [recommendation_sentence(manifest.recommendation)]),
            text.checks_table(result.verdict.checks),
            text.verdict_line(str(result.bundle), result.verdict.passed),
        )
    raise typer.Exit(result.verdict.exit_code)


@app.command()
def train(
    bundle: NewBundle = None,
    data: Data = None,
    model: Model = "simplecnn",
    epochs: Epochs = None,
    learning_rate: LearningRate = None,
    seed: Seed = 0,
    cache: Cache = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Train a network and write model.pt."""
    from edgecnn.pipeline.train import train as train_model

    outcome = train_model(
        model, settings=_training(epochs, learning_rate, seed), options=_options(bundle, data, cache, force)
    )
    _show_made(outcome, json)


@app.command()
def export(
    network: Annotated[
        str, typer.Argument(help="A checkpoint, state_dict, .pt2, TorchScript, or torchvision:NAME.")
    ] = "model.pt",
    bundle: NewBundle = None,
    data: Data = None,
    arch: Annotated[
        str | None, typer.Option("--arch", help="Of a state_dict: a model, torchvision:NAME or package.module:factory.")
    ] = None,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Open a file that can run any program when it is read.")
    ] = False,
    batch: Annotated[int | None, typer.Option("--batch", help="Fix the batch size. Default: it may vary.")] = None,
    opset: Annotated[int | None, typer.Option("--opset", help="Of the ONNX file. Default: 18.")] = None,
    input_type: Annotated[str, typer.Option("--input-type", help="float32 in [0, 1], or uint8.")] = "float32",
    input_layout: Annotated[str, typer.Option("--input-layout", help="nchw or nhwc.")] = "nchw",
    input_size: Annotated[
        str | None, typer.Option("--input-size", help="HEIGHTxWIDTH that is fed. Default: the network's.")
    ] = None,
    resize: Annotated[
        str | None, typer.Option("--resize", help="HEIGHTxWIDTH that the network wants, if another is fed.")
    ] = None,
    mean: Annotated[str | None, typer.Option("--mean", help="Of each channel after scaling. Default: 0.")] = None,
    std: Annotated[str | None, typer.Option("--std", help="Of each channel after scaling. Default: 1.")] = None,
    scale: Annotated[float | None, typer.Option("--scale", help="Of a pixel 0 to 255. Default: 1/255.")] = None,
    channels: Annotated[str | None, typer.Option("--channels", help="The network's order: rgb or bgr.")] = None,
    labels: Annotated[Path | None, typer.Option("--labels", help="Text file of class names, one a line.")] = None,
    bisect: Bisect = False,
    cache: Cache = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Export a network to float.onnx, checked against PyTorch on real images."""
    from edgecnn.pipeline import export_settings as parse
    from edgecnn.pipeline.export import export as export_model

    settings = parse.ExportSettings(
        architecture=arch,
        allow_pickle=allow_pickle,
        batch=batch,
        opset=opset,
        input_type=parse.parse_type(input_type),
        input_layout=parse.parse_layout(input_layout),
        input_size=parse.parse_image_size("--input-size", input_size),
        resize=parse.parse_image_size("--resize", resize),
        mean=parse.parse_triple("--mean", mean),
        std=parse.parse_triple("--std", std),
        scale=scale,
        channels=parse.parse_channels(channels),
        labels=parse.read_labels(labels),
    )
    options = _options(bundle, data, cache, force)
    _show_made(export_model(network, settings=settings, options=options, bisect=bisect), json)


@app.command()
def simplify(
    model: Annotated[Path | None, typer.Argument(help="Any ONNX file. Default: the bundle's float.onnx.")] = None,
    bundle: Bundle = None,
    data: Data = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Of a file: where to write. Default: NAME-simplified.onnx.")
    ] = None,
    input_shape: Annotated[
        list[str] | None, typer.Option("--input-shape", help="Of a file: NAME:1x3x224x224, where a size may vary.")
    ] = None,
    bisect: Bisect = False,
    time_limit: Annotated[float, typer.Option("--time-limit", min=1, help="Seconds that onnxsim may take.")] = 300,
    memory_limit: Annotated[str, typer.Option("--memory-limit", help="Memory that onnxsim may take.")] = "16GiB",
    cache: Cache = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Simplify float.onnx or any ONNX file, and compare the answers."""
    from edgecnn.graph.onnxsim_process import Limits
    from edgecnn.pipeline.profile import parse_memory
    from edgecnn.pipeline.simplify import simplify as simplify_model
    from edgecnn.report import simplification as view

    limits = Limits(seconds=time_limit, memory_bytes=parse_memory("--memory-limit", memory_limit))
    if model is None:
        if output is not None or input_shape:
            raise UsageError(
                "simplify: --output and --input-shape belong to a file; a bundle's float.onnx is replaced.",
                next_step="edgecnn simplify FILE.onnx --output OTHER.onnx",
            )
        outcome = simplify_model(options=_options(bundle, data, cache, force), limits=limits, bisect=bisect)
        record = outcome.manifest.simplification  # a bundle of an older edgecnn has none
        _show_made(
            outcome,
            json,
            items=[] if record is None else view.simplification_items(record),
            more=view.simplification_view(record),
        )
        return
    if bundle is not None or data is not None:
        raise UsageError(
            "simplify: --bundle and --data belong to a bundle; a file is compared on inputs made up to fit.",
            next_step=f"edgecnn simplify {model}",
        )
    from edgecnn.pipeline.simplify_file import parse_input_shapes, simplify_file

    made = simplify_file(
        model,
        output=output,
        shapes=parse_input_shapes(input_shape or []),
        limits=limits,
        bisect=bisect,
        force=force,
        progress=terminal,
    )
    names = (str(made.path), str(made.output))
    if json:
        show_json(view.file_view(*names, (made.size_before_bytes, made.size_after_bytes), made.simplified))
    else:
        terminal.show(*view.file_items(*names, made.simplified))


@app.command()
def quantize(
    model: Annotated[Path | None, typer.Argument(help="A float .onnx file. Default: the bundle's float.onnx.")] = None,
    bundle: Bundle = None,
    data: Data = None,
    recipe: Recipe = None,
    fit_for: FitFor = None,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="With --for: write int8 also where the target should run float.")
    ] = False,
    max_drop: Annotated[
        float | None, typer.Option("--max-drop", help="Search for the cheapest way to lose no more points than this.")
    ] = None,
    images: Images = None,
    held_out: HeldOut = None,
    seed: Seed = 0,
    cache: Cache = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Quantize to int8.onnx, calibrated on training images only."""
    from edgecnn.pipeline.quantize import quantize as quantize_model
    from edgecnn.pipeline.quantize_settings import QuantizeSettings
    from edgecnn.report import quantization as view

    settings = QuantizeSettings(recipe=recipe, n_images=images, seed=seed, max_drop_pp=max_drop, n_held_out=held_out)
    if fit_for or anyway:
        _quantize_for(fit_for or [], model, settings, _options(bundle, data, cache, force), anyway=anyway, json=json)
        return
    outcome = quantize_model(model, settings=settings, options=_options(bundle, data, cache, force))
    search = outcome.manifest.search
    _show_made(outcome, json, items=[] if search is None else view.search_items(search), more=view.search_view(search))
    if search is not None and not search.met:
        raise typer.Exit(ExitCode.GATE_FAILED)


def _quantize_for(
    targets: list[str], model: Path | None, settings: Any, options: "Options", *, anyway: bool, json: bool
) -> None:
    from edgecnn.pipeline.fit import fit
    from edgecnn.report import fit as view

    found = fit(targets, model=model, anyway=anyway, settings=settings, options=options)
    if json:
        show_json(view.fitted_view(str(found.bundle), found.records, found.manifest.artifacts, found.unchanged))
        return
    for target in found.unchanged:
        terminal.say(f"--for {target}: nothing changed, not done again (--force does it again)")
    terminal.show(*view.fitted_items(found.records, found.manifest.artifacts), f"bundle: {found.bundle}")


@app.command()
def tune(
    bundle: Bundle = None,
    data: Data = None,
    target: Target = "cpu",
    max_drop: Annotated[
        float, typer.Option("--max-drop", help="Points that int8 may lose on training images held apart.")
    ] = 0.5,
    objective: Annotated[str, typer.Option("--objective", help="latency, throughput or size.")] = "latency",
    seconds: Annotated[float, typer.Option("--seconds", help="About how long it may take.")] = 60.0,
    threads: Annotated[int, typer.Option("--threads", help="Try up to so many; pinned to as many CPUs.")] = 1,
    batch: Annotated[int | None, typer.Option("--batch", help="Images a call. Default: 1, throughput 64.")] = None,
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
    from edgecnn.report import tuning as view

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
    outcome = tune_bundle(settings=settings, options=_options(bundle, data, cache, force))
    found = outcome.manifest
    assert found.tuning is not None
    assert found.recommendation is not None
    if json:
        show_json(view.tuning_view(str(outcome.bundle), found, unchanged=outcome.unchanged))
    else:
        if outcome.unchanged:
            terminal.say("tune: nothing changed, not done again (--force does it again)")
        terminal.show(*view.tuning_items(found.tuning, found.recommendation), f"bundle: {outcome.bundle}")
    if not found.tuning.met:
        raise typer.Exit(ExitCode.GATE_FAILED)


@app.command()
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
    folder, record = measure(settings=settings, options=_options(bundle, data, cache, False))
    if json:
        show_json(view.sensitivity_view(str(folder), record))
    else:
        terminal.show(*view.sensitivity_items(record))


@app.command()
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
    from edgecnn.pipeline.validate import validate as validate_bundle
    from edgecnn.pipeline.verdict import Gates
    from edgecnn.report import text, views
    from edgecnn.report.fusion import fusion_items
    from edgecnn.report.prediction import prediction_items
    from edgecnn.report.targets import failure_items, validation_items
    from edgecnn.targets.choice import ALL, choose_targets

    asked = provider or ["cpu"]
    if model not in (None, "int8.onnx"):
        from edgecnn.pipeline.fit_measure import validate_fitted

        measured = validate_fitted(
            model,
            targets=asked,
            n_images=images,
            allow_cpu_nodes=allow_cpu_nodes,
            gates=Gates(max_drop_pp=max_drop),
            options=_options(bundle, data, cache, False),
        )
        _show_measured(measured, json)
    targets = choose_targets(asked)
    outcome, verdict = validate_bundle(
        targets=asked,
        n_images=images,
        allow_cpu_nodes=allow_cpu_nodes,
        gates=Gates(max_drop_pp=max_drop),
        options=_options(bundle, data, cache, False),
    )
    saturation, fusion = outcome.manifest.saturation, outcome.manifest.fusion
    results = [row for row in outcome.manifest.validation if row.target in targets]
    predictions = outcome.manifest.predictions if ALL in asked else ()
    if json:
        checked = list(zip(results, verdict.checks, strict=True))
        view = views.validation_view(
            str(outcome.bundle), checked, verdict.word, saturation, fusion, verdict.failures, predictions
        )
        show_json(view)
    else:
        terminal.show(*validation_items(results))
        if saturation is not None:
            terminal.show(*text.saturation_items(saturation))
        if fusion is not None:
            terminal.show(*fusion_items(fusion))
        terminal.show(*failure_items(verdict.failures))
        if predictions:
            terminal.show(*prediction_items(predictions))
        terminal.show(text.checks_table(verdict.checks), text.verdict_line(str(outcome.bundle), verdict.passed))
    raise typer.Exit(verdict.exit_code)


def _show_measured(found: "Measured", json: bool) -> NoReturn:
    from edgecnn.report import text
    from edgecnn.report.fit import measured_items, measured_view

    bundle, verdict = str(found.bundle), found.verdict
    if json:
        show_json(measured_view(bundle, found.record, found.validation, found.latency, verdict.checks, verdict.word))
    else:
        terminal.show(*measured_items(found.record, found.validation, found.latency, verdict.checks))
        terminal.show(text.verdict_line(bundle, verdict.passed))
    raise typer.Exit(verdict.exit_code)


@app.command()
def bench(
    bundle: Bundle = None,
    data: Data = None,
    provider: Providers = None,
    model: Int8Model = None,
    allow_cpu_nodes: AllowCpuNodes = 0,
    batch: Batches = None,
    threads: ThreadCounts = None,
    through: Annotated[
        list[str] | None,
        typer.Option("--through", help="run (arrays) or iobinding (bound buffers); may be given again. Default: run."),
    ] = None,
    pairs: Annotated[int, typer.Option("--pairs", help="Times both models are opened anew; one ratio each.")] = 10,
    rounds: Annotated[int, typer.Option("--rounds", help="Turns of float and int8 in each pair.")] = 4,
    seconds: Annotated[
        float | None,
        typer.Option("--seconds", help="About how long all timed calls take; of a protocol, each window. Default: 4."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", help="Go on until the speedup's interval is so narrow, e.g. 2%.")
    ] = None,
    max_seconds: Annotated[float, typer.Option("--max-seconds", help="When to give --until up.")] = 120.0,
    profile: Annotated[bool, typer.Option("--profile", help="Time every operator of both models as well.")] = False,
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="Measure by these rules instead: mlperf-tiny.")
    ] = None,
    save: Annotated[Path | None, typer.Option("--save", help="Write the measurement to this .json, too.")] = None,
    require_speedup: RequireSpeedup = False,
    cache: Cache = None,
    json: Json = False,
) -> None:
    """Measure the latency of float and int8, interleaved, and say which is faster."""
    from edgecnn.measure.bench_settings import BenchSettings, combinations, parse_through
    from edgecnn.pipeline.measurement import MeasureSettings, take_measurement
    from edgecnn.pipeline.percent import parse_percent
    from edgecnn.pipeline.verdict import Gates
    from edgecnn.report import text, views
    from edgecnn.report.latency import latency_items, protocol_items
    from edgecnn.report.operators import profile_items

    base = BenchSettings(
        pairs=pairs,
        rounds=rounds,
        seconds=4.0 if seconds is None else seconds,
        until=None if until is None else parse_percent("--until", until),
        max_seconds=max_seconds,
    )
    ways = [parse_through(way) for way in through or ["run"]]
    combined = combinations(base, batches=batch or [1], threads=threads or [1], through=ways)
    if model not in (None, "int8.onnx"):
        from edgecnn.pipeline.fit_measure import bench_fitted

        if profile or protocol is not None or save is not None:
            raise UsageError(
                f"bench: --profile, --protocol and --save are of int8.onnx, not of {model}.", next_step="leave them out"
            )
        options, gates = _options(bundle, data, cache, False), Gates(require_speedup=require_speedup)
        measured = bench_fitted(
            model,
            targets=provider or ["cpu"],
            settings=combined,
            allow_cpu_nodes=allow_cpu_nodes,
            gates=gates,
            options=options,
        )
        _show_measured(measured, json)
    found = take_measurement(
        settings=MeasureSettings(
            targets=tuple(provider or ["cpu"]),
            allow_cpu_nodes=allow_cpu_nodes,
            bench=combined,
            profile=profile,
            protocol=protocol,
            window_seconds=seconds,
            save=save,
        ),
        gates=Gates(require_speedup=require_speedup),
        options=_options(bundle, data, cache, False),
    )
    if json:
        show_json(views.latency_view(str(found.bundle), found.measurement))
    else:
        if found.results:
            terminal.show(*latency_items(found.results))
        if found.measurement.protocol is not None:
            terminal.show(*protocol_items(found.measurement.protocol))
        terminal.show(*profile_items(found.measurement.profiles))
        if found.verdict.checks:
            terminal.show(
                text.checks_table(found.verdict.checks), text.verdict_line(str(found.bundle), found.verdict.passed)
            )
    raise typer.Exit(found.verdict.exit_code)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="A bundle, or a file that bench --save wrote.")],
    b: Annotated[Path, typer.Argument(help="Another; ratios are its figures by those of the first.")],
    fail_if_slower: Annotated[
        str | None, typer.Option("--fail-if-slower", help="Fail if either model takes longer by more, e.g. 5%.")
    ] = None,
    any_machine: Annotated[
        bool, typer.Option("--any-machine", help="Compare other CPUs, batches or threads, and say so.")
    ] = False,
    json: Json = False,
) -> None:
    """Show two measurements side by side, with ratios and their intervals."""
    from edgecnn.pipeline.compare import compare as compare_measurements
    from edgecnn.pipeline.percent import parse_percent
    from edgecnn.report import text, views
    from edgecnn.report.comparison import comparison_items

    limit = None if fail_if_slower is None else parse_percent("--fail-if-slower", fail_if_slower)
    found = compare_measurements(a, b, any_machine=any_machine, fail_if_slower=limit)
    if json:
        show_json(views.comparison_view(found.record, found.verdict.checks, found.verdict.word))
    else:
        terminal.show(*comparison_items(found.record))
        if found.verdict.checks:
            terminal.show(text.checks_table(found.verdict.checks))
    raise typer.Exit(found.verdict.exit_code)


@app.command()
def report(bundle: Bundle = None, json: Json = False) -> None:
    """Write report.md from the manifest."""
    from edgecnn.pipeline.report import write_report

    _show_made(write_report(options=_options(bundle, None, None, False)), json)


@app.command("demo-page")
def demo_page(
    bundle: Bundle = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write. Default: demo-page.", show_default=False)
    ] = None,
    serve: Annotated[bool, typer.Option("--serve", help="Also serve it on this machine alone, until Ctrl-C.")] = False,
    port: Annotated[int, typer.Option("--port", help="For --serve; 0 takes any that is free.")] = 8000,
    samples: Annotated[
        int | None, typer.Option("--samples", help="Test pictures on the page. Default: one a class, up to ten.")
    ] = None,
    data: Data = None,
    cache: Cache = None,
    json: Json = False,
) -> None:
    """Write a page that runs float and int8 in any browser."""
    from edgecnn.pipeline.demo_page import DEFAULT_FOLDER, page_server, write_demo_page
    from edgecnn.report import views
    from edgecnn.report.demo_page import demo_page_items

    page = write_demo_page(folder=out or DEFAULT_FOLDER, samples=samples, options=_options(bundle, data, cache, False))
    server = page_server(page.folder, port=port) if serve else None
    address = server.address if server else None
    if json:
        show_json(views.demo_page_view(str(page.folder), str(page.bundle), page.files, page.samples, address))
    else:
        terminal.show(*demo_page_items(str(page.folder), page.size_bytes, page.samples, address))
    if server is not None:
        sys.stdout.flush()
        with server, contextlib.suppress(KeyboardInterrupt):  # how one leaves it
            server.serve_forever()


@targets_app.callback()
def targets(context: typer.Context, json: Json = False) -> None:
    """List what can run here, and why the rest cannot."""
    from edgecnn.report import views
    from edgecnn.report.targets import states_table
    from edgecnn.targets.states import target_states

    context.obj = json
    if context.invoked_subcommand is not None:
        return
    rows = [(each.target, each.summary, each.state, each.why_not, each.remedy) for each in target_states()]
    if json:
        show_json(views.targets_view(rows))
    else:
        terminal.show(states_table(rows))


@targets_app.command()
def install(
    context: typer.Context,
    target: Annotated[str, typer.Argument(help="A target, such as qnn or cpu@haswell; all: each that can be.")],
    force: Annotated[bool, typer.Option("--force", help="Set it up anew.")] = False,
    count: Annotated[bool, typer.Option("--count", help="Also what counts its instructions, for tune.")] = False,
    json: Json = False,
) -> None:
    """Set up a target in the cache folder."""
    from edgecnn.report import views
    from edgecnn.targets.choice import ALL
    from edgecnn.targets.install import install_target
    from edgecnn.targets.states import install_all

    as_json = json or bool(context.obj)  # edgecnn targets --json install
    if target == ALL:
        if count:
            raise UsageError("--count is for one emulated target.", next_step="edgecnn targets install cpu@haswell")
        ready, failed = install_all(force=force, progress=terminal)
        if as_json:
            errors = [
                {"target": name, **views.error_view(type(e).__name__, e.message, e.next_step, e.exit_code)}
                for name, e in failed.items()
            ]
            show_json(views.all_installed_view([_installed_view(each) for each in ready], errors))
        else:
            terminal.show(*[f"{each.target}: {_installed_state(each)}" for each in ready])
            terminal.show(*[f"{name}: {e.message}  Next: {e.next_step}" for name, e in failed.items()])
        raise typer.Exit(ExitCode.TARGET_UNAVAILABLE if failed else ExitCode.PASSED)
    found = install_target(target, force=force, count=count, progress=terminal)
    if as_json:
        show_json(_installed_view(found))
    else:
        folder = [f"folder: {found.folder}"] if found.folder else []
        terminal.show(f"{found.target}: {_installed_state(found)}", *folder)


def _installed_state(found: "Installed") -> str:
    return "was ready before; --force sets it up anew" if found.unchanged else "ready"


def _installed_view(found: "Installed") -> dict[str, Any]:
    from edgecnn.report import views

    folder = None if found.folder is None else str(found.folder)
    return views.installed_view(found.target, folder, found.program, unchanged=found.unchanged)


@targets_app.command()
def predict(
    context: typer.Context,
    model: Annotated[Path | None, typer.Argument(help="An .onnx file. Default: every model of the bundle.")] = None,
    bundle: Bundle = None,
    provider: Annotated[
        list[str] | None, typer.Option("--provider", help="coreml or nnapi; may be given again. Default: both.")
    ] = None,
    json: Json = False,
) -> None:
    """Predict how CoreML and NNAPI would cut a model."""
    from edgecnn.pipeline.predict import predict as predict_model
    from edgecnn.report.prediction import prediction_items, prediction_view

    if model is not None and bundle is not None:
        raise UsageError("targets predict: takes a file or a bundle, found both.", next_step="leave one of them out")
    found = predict_model(model, targets=provider, options=_options(bundle, None, None, False))
    if json or context.obj:  # edgecnn targets --json predict
        show_json(prediction_view(str(found.path), found.predictions))
    else:
        terminal.show(*prediction_items(found.predictions))


@app.command()
def package(
    bundle: Bundle = None,
    data: Data = None,
    target: Annotated[str, typer.Option("--for", help="What it is to run on. See: edgecnn targets.")] = "cpu",
    out: Annotated[
        Path | None, typer.Option("--out", help="The folder to write. Default: BUNDLE-for-TARGET beside the bundle.")
    ] = None,
    allow_cpu_nodes: AllowCpuNodes = 0,
    cache: Cache = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Write a folder for one target: models, expected answers, and programs that check them."""
    from edgecnn.pipeline.package import package as make_package
    from edgecnn.report import package as view

    made = make_package(
        target_name=target, out=out, allow_cpu_nodes=allow_cpu_nodes, options=_options(bundle, data, cache, force)
    )
    found = view.PackageFigures(
        folder=str(made.folder),
        target=made.target,
        files=made.files,
        tolerances=made.tolerances,
        conversion=made.conversion,
        checked=made.checked,
        notes=made.notes,
    )
    if json:
        show_json(view.package_view(found))
    else:
        terminal.show(*view.package_items(found))


@app.command()
def inspect(
    model: Network = None,
    bundle: Bundle = None,
    int8: Annotated[bool, typer.Option("--int8", help="Of a bundle, read int8.onnx instead of float.onnx.")] = False,
    dense: Annotated[bool, typer.Option("--dense", help="Add what fully connected layers would cost.")] = False,
    json: Json = False,
) -> None:
    """Show what each layer costs and how its size follows."""
    from edgecnn.pipeline.inspect import inspect as inspect_model
    from edgecnn.report.network import network_items, network_view

    found = inspect_model(model, int8=int8, options=_options(bundle, None, None, False))
    if json:
        show_json(network_view(str(found.path), found.network, dense=dense))
    else:
        terminal.show(*network_items(str(found.path), found.network, dense=dense))


@app.command()
def profile(
    model: Network = None,
    bundle: Bundle = None,
    seconds: Annotated[float, typer.Option("--seconds", help="About how long each layer is timed.")] = 0.2,
    max_memory: Annotated[
        str, typer.Option("--max-memory", help="Leave out fully connected layers whose weights take more.")
    ] = "1GiB",
    json: Json = False,
) -> None:
    """Time each convolution against a fully connected layer."""
    from edgecnn.pipeline.profile import parse_memory
    from edgecnn.pipeline.profile import profile as profile_model
    from edgecnn.report.network import profile_items, profile_view

    found = profile_model(
        model,
        seconds=seconds,
        max_dense_bytes=parse_memory("--max-memory", max_memory),
        options=_options(bundle, None, None, False),
    )
    if json:
        show_json(profile_view(str(found.path), found.machine, found.timings, max_dense_bytes=found.max_dense_bytes))
    else:
        terminal.show(
            *profile_items(str(found.path), found.machine, found.timings, max_dense_bytes=found.max_dense_bytes)
        )


def _options(bundle: Path | None, data: str | None, cache: Path | None, force: bool) -> "Options":
    from edgecnn.pipeline.context import Options

    return Options(bundle=bundle, data=data, cache=cache, force=force, progress=terminal)


def _training(epochs: int | None, learning_rate: float | None, seed: int) -> Any:
    from edgecnn.training.settings import make_settings

    return make_settings(epochs=epochs, learning_rate=learning_rate, seed=seed)


def _show_made(
    outcome: "Outcome", json: bool, *, items: "Sequence[RenderableType]" = (), more: dict[str, Any] | None = None
) -> None:
    from edgecnn.report import text, views

    if json:
        made = views.artifacts_view(str(outcome.bundle), outcome.artifacts, "passed", unchanged=outcome.unchanged)
        show_json({**made, **(more or {})})
    else:
        if outcome.unchanged:
            how = "" if outcome.stage == "report" else " (--force does it again)"
            terminal.say(f"{outcome.stage}: nothing changed, not done again{how}")
        terminal.show(*items, text.artifacts_table(outcome.artifacts), f"bundle: {outcome.bundle}")


def _terminate(signal_number: int, frame: FrameType | None) -> NoReturn:
    """Stop on SIGTERM as on Ctrl-C: files are whole, and the next call goes on."""
    raise KeyboardInterrupt


def main() -> None:
    """Run the command line and exit; other exceptions than ours are defects and keep their traceback."""
    _leave(_main(sys.argv[1:]))


def _leave(code: int) -> NoReturn:
    """Exit as ``sys.exit`` does, but without taking PyTorch apart piece by piece, which takes half a second or more."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(BrokenPipeError):  # whoever read it has gone; what was to be written is on the disk
            stream.flush()
    os._exit(code)


def _main(arguments: list[str]) -> int:
    signal.signal(signal.SIGTERM, _terminate)
    as_json, debug = "--json" in arguments, "--debug" in arguments
    try:
        code = app(arguments, prog_name="edgecnn", standalone_mode=False)
        if code == ExitCode.INTERRUPTED:  # Typer's answer to a KeyboardInterrupt
            raise Interrupted("interrupted; finished stages are kept.", next_step="the same command again")
        return int(code or 0)
    except typer.TyperException as error:
        show_error(UsageError(error.format_message(), next_step="edgecnn --help"), as_json=as_json)
        return ExitCode.USAGE
    except EdgecnnError as error:
        if debug:
            raise
        terminal.close()
        show_error(error, as_json=as_json)
        return error.exit_code
    finally:
        terminal.close()
