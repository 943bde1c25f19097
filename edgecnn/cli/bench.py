"""``edgecnn bench``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from edgecnn.cli.output import terminal
from edgecnn.cli.settings import stage_options
from edgecnn.console import show_json
from edgecnn.options import (
    AllowCpuNodes,
    Batches,
    Bundle,
    Cache,
    Data,
    Int8Model,
    Json,
    Providers,
    RequireSpeedup,
    ThreadCounts,
)

if TYPE_CHECKING:
    from edgecnn.pipeline.measurement import Measured

Through = Annotated[
    list[str] | None,
    typer.Option("--through", help="run (arrays) or iobinding (bound buffers); may be given again. Default: run."),
]
Pairs = Annotated[int, typer.Option("--pairs", help="Times both models are opened anew; one ratio each.")]
Rounds = Annotated[int, typer.Option("--rounds", help="Turns of float and int8 in each pair.")]
Seconds = Annotated[
    float | None,
    typer.Option("--seconds", help="About how long all timed calls take; of a protocol, each window. Default: 4."),
]
Until = Annotated[str | None, typer.Option("--until", help="Go on until the speedup's interval is so narrow, e.g. 2%.")]
MaxSeconds = Annotated[float, typer.Option("--max-seconds", help="When to give --until up.")]
Profile = Annotated[bool, typer.Option("--profile", help="Time every operator of both models as well.")]
Protocol = Annotated[str | None, typer.Option("--protocol", help="Measure by these rules instead: mlperf-tiny.")]
Save = Annotated[Path | None, typer.Option("--save", help="Write the measurement to this .json, too.")]


def bench(
    bundle: Bundle = None,
    data: Data = None,
    provider: Providers = None,
    model: Int8Model = None,
    allow_cpu_nodes: AllowCpuNodes = None,
    batch: Batches = None,
    threads: ThreadCounts = None,
    through: Through = None,
    pairs: Pairs = 10,
    rounds: Rounds = 4,
    seconds: Seconds = None,
    until: Until = None,
    max_seconds: MaxSeconds = 120.0,
    profile: Profile = False,
    protocol: Protocol = None,
    save: Save = None,
    require_speedup: RequireSpeedup = False,
    cache: Cache = None,
    json: Json = False,
) -> None:
    """Measure the latency of float and int8, interleaved, and say which is faster."""
    from edgecnn.measure.bench_settings import BenchSettings, combinations, parse_through
    from edgecnn.pipeline.measurement import MeasureSettings, take_measurement
    from edgecnn.pipeline.percent import parse_percent
    from edgecnn.pipeline.verdict import Gates

    base = BenchSettings(
        pairs=pairs,
        rounds=rounds,
        seconds=4.0 if seconds is None else seconds,
        until=None if until is None else parse_percent("--until", until),
        max_seconds=max_seconds,
    )
    ways = [parse_through(way) for way in through or ["run"]]
    combined = combinations(base, batches=batch or [1], threads=threads or [1], through=ways)
    settings = MeasureSettings(
        targets=tuple(provider or ["cpu"]),
        model=model,
        allow_cpu_nodes=allow_cpu_nodes,
        bench=combined,
        profile=profile,
        protocol=protocol,
        window_seconds=seconds,
        save=save,
    )
    gates = Gates(require_speedup=require_speedup)
    _show(take_measurement(settings=settings, gates=gates, options=stage_options(bundle, data, cache)), json)


def _show(found: "Measured", json: bool) -> NoReturn:
    from edgecnn.report.measurement import measurement_items
    from edgecnn.report.views import latency_view

    bundle, verdict = str(found.bundle), found.verdict
    if json:
        show_json(latency_view(bundle, found.measurement, verdict.failures))
    else:
        terminal.show(*measurement_items(bundle, found.measurement, verdict.checks, verdict.failures, verdict.passed))
    raise typer.Exit(verdict.exit_code)
