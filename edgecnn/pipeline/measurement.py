"""All that one ``edgecnn bench`` measures: latency or a protocol, perhaps a profile, perhaps saved in a file."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgecnn.bundle import Bundle
from edgecnn.bundle.latency import LatencyResult
from edgecnn.bundle.locate import newest_folder
from edgecnn.bundle.measurement import MeasuredFile, Measurement, require_savable, write_measurement
from edgecnn.bundle.mlperf_tiny import TinyResult
from edgecnn.bundle.operators import OperatorProfile
from edgecnn.errors import UsageError
from edgecnn.measure.bench_settings import BenchSettings
from edgecnn.pipeline.bench import bench
from edgecnn.pipeline.context import Options, working_on
from edgecnn.pipeline.export import FLOAT_MODEL
from edgecnn.pipeline.mlperf_tiny import PROTOCOL, run_mlperf_tiny
from edgecnn.pipeline.operators import profile_operators
from edgecnn.pipeline.quantize import INT8_MODEL
from edgecnn.pipeline.verdict import Gates, Verdict
from edgecnn.targets import require, require_clock, target
from edgecnn.targets.choice import choose_targets
from edgecnn.version import __version__

PROTOCOLS = (PROTOCOL,)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured, and the verdict of the gates; ``measurement`` is what ``save`` wrote."""

    bundle: Path
    measurement: Measurement
    verdict: Verdict

    @property
    def results(self) -> tuple[LatencyResult, ...]:
        """Latency; empty if a protocol was asked for in its place."""
        return self.measurement.results


@dataclass(frozen=True, kw_only=True)
class MeasureSettings:
    """What one call is to measure.

    Attributes:
        targets: rows of the target table, or ``all``.
        allow_cpu_nodes: how many nodes of each model the CPU may run in place of a provider.
        bench: each is measured.
        profile: whether to profile operator by operator as well.
        protocol: measure by the rules of this benchmark instead.
        window_seconds: of the protocol's windows; None for what it prescribes.
        save: a file to write the measurement to.
    """

    targets: Sequence[str] = ("cpu",)
    allow_cpu_nodes: int = 0
    bench: Sequence[BenchSettings] = field(default_factory=lambda: (BenchSettings(),))
    profile: bool = False
    protocol: str | None = None
    window_seconds: float | None = None
    save: Path | None = None

    def __post_init__(self) -> None:
        if self.protocol is None:
            return
        if self.protocol not in PROTOCOLS:
            raise UsageError(
                f"bench: unknown protocol {self.protocol!r}; known: {', '.join(PROTOCOLS)}.",
                next_step=f"--protocol {PROTOCOL}",
            )
        if len(self.bench) != 1 or len(self.targets) != 1 or self.bench[0].until is not None:
            raise UsageError(
                f"bench: --protocol {self.protocol} is one measurement; it takes one --provider, --threads and "
                "--through, and no --until.",
                next_step=f"--protocol {self.protocol}",
            )


def take_measurement(
    *, settings: MeasureSettings | None = None, gates: Gates | None = None, options: Options | None = None
) -> Measured:
    """Measure, and write the manifest, the report and the file that was asked for.

    A protocol's and a profile's figures are not in the manifest, only in the file.

    Raises:
        UsageError: see :func:`edgecnn.pipeline.bench.bench`; or a gate for a protocol, which judges nothing.
        BundleError: a model is missing or was changed, or the file cannot be written.
        DataError: a protocol's images are not to be had.
    """
    settings, gates, options = settings or MeasureSettings(), gates or Gates(), options or Options()
    if settings.protocol is not None and gates.require_speedup:
        raise UsageError(
            f"bench: --protocol {settings.protocol} has too few windows for an interval, so it decides no "
            "--require-speedup.",
            next_step="edgecnn bench --require-speedup",
        )
    settings = replace(settings, targets=choose_targets(settings.targets, timed=True))
    if settings.profile or settings.protocol is not None:
        _require_here(settings.targets)
    if settings.save is not None:
        require_savable(settings.save)
    folder = options.bundle or newest_folder()
    if settings.protocol is None:
        _, results, verdict = bench(
            targets=settings.targets,
            settings=settings.bench,
            allow_cpu_nodes=settings.allow_cpu_nodes,
            gates=gates,
            options=replace(options, bundle=folder),
        )
    else:
        results, verdict = [], Verdict(checks=())
    with working_on(folder) as bundle:
        protocol = None if settings.protocol is None else _protocol(bundle, settings, options)
        measurement = Measurement(
            edgecnn_version=__version__,
            network=bundle.manifest.network.name if bundle.manifest.network else None,
            models=measured_files(bundle),
            results=tuple(results),
            profiles=tuple(_profiles(bundle, settings, options)),
            protocol=protocol,
        )
    if settings.save is not None:
        write_measurement(settings.save, measurement)
    return Measured(bundle=folder, measurement=measurement, verdict=verdict)


def require_plain(model: str, *, profile: bool, protocol: str | None, save: Path | None) -> None:
    """Refuse of a target's own model what is measured of ``int8.onnx`` alone.

    Raises:
        UsageError: a profile, a protocol or a file is asked for.
    """
    if profile or protocol is not None or save is not None:
        raise UsageError(
            f"bench: --profile, --protocol and --save are of {INT8_MODEL}, not of {model}.", next_step="leave them out"
        )


def _require_here(targets: Sequence[str]) -> None:
    """Refuse what looks into a session where that is in another process."""
    for name in targets:
        require_clock(name)
    if elsewhere := [name for name in targets if target(name).runtime_here is not None]:
        raise UsageError(
            f"bench: {', '.join(elsewhere)} runs in a process of its own, where no operator is profiled and no "
            "protocol is followed.",
            next_step=f"edgecnn bench --provider {elsewhere[0]}, without --profile and --protocol",
        )


def measured_files(bundle: Bundle) -> dict[str, MeasuredFile]:
    """Return the models of a bundle by file name."""
    found = {name: bundle.manifest.artifact(name) for name in (FLOAT_MODEL, INT8_MODEL)}
    return {name: MeasuredFile(sha256=a.sha256, size_bytes=a.size_bytes) for name, a in found.items() if a}


def _protocol(bundle: Bundle, settings: MeasureSettings, options: Options) -> TinyResult:
    from edgecnn.measure.mlperf_tiny import WINDOW_SECONDS

    (target,), (chosen,) = settings.targets, settings.bench
    require_clock(target)
    require(target)
    seconds = settings.window_seconds or WINDOW_SECONDS
    return run_mlperf_tiny(bundle, target=target, settings=chosen, window_seconds=seconds, options=options)


def _profiles(bundle: Bundle, settings: MeasureSettings, options: Options) -> list[OperatorProfile]:
    if not settings.profile:
        return []
    return profile_operators(bundle, targets=settings.targets, settings=settings.bench, progress=options.progress)
