"""Stage 6: is int8 faster than float? Measured in turns on the same machine."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property

from pydantic import JsonValue

from edgecnn.bundle import Bundle
from edgecnn.bundle.latency import LatencyResult
from edgecnn.bundle.locate import newest_folder
from edgecnn.bundle.manifest import ValidationFailure
from edgecnn.measure.bench_settings import BenchSettings
from edgecnn.pipeline.bench_models import Models
from edgecnn.pipeline.context import Options, Outcome, Work, working_on
from edgecnn.pipeline.fit_records import place, replaced, with_latency, without_claim
from edgecnn.pipeline.int8_choice import SHARED_MODELS, advice_without_twin, choose_int8
from edgecnn.pipeline.report import report_stage
from edgecnn.pipeline.target_latency import TargetLatency, measure_latency
from edgecnn.pipeline.validation_job import model_hashes, where_measured
from edgecnn.pipeline.verdict import Gates, Verdict, check_speedup, merge, still_true
from edgecnn.targets import require, require_clock
from edgecnn.targets.choice import choose_targets, cpu_nodes_allowed


def bench(
    *,
    targets: Sequence[str] = ("cpu",),
    model: str | None = None,
    settings: BenchSettings | Sequence[BenchSettings] | None = None,
    allow_cpu_nodes: int | None = None,
    gates: Gates | None = None,
    options: Options | None = None,
) -> tuple[Outcome, list[LatencyResult], Verdict]:
    """Measure the latency of float and int8 in turns, in fresh pairs of sessions, on each target.

    No images are needed: the time of a convolution does not depend on what is in the picture. Of several targets, one
    that is missing, fails or crashes does not lose the others' figures: it is in the verdict, which is not passed.

    Args:
        targets: rows of the target table, or ``all`` for every one that is ready here and has a clock.
        model: the int8 model that all targets run; None for the one that each is to run, as :func:`edgecnn.validate`
            chooses it.
        settings: batch, threads, rounds and so on; several are measured one after the other.
        allow_cpu_nodes: how many nodes of each model the CPU may run in place of a provider that does not take them;
            None for none, but where ``all`` names a provider that takes only parts of any network.
        gates: ``require_speedup`` decides the verdict.
        options: bundle (default: the newest), and so on.

    Raises:
        UsageError: no such target, one that is emulated, or settings that cannot be measured.
        TargetError: the only target is not available here; nothing is measured then.
        BundleError: a model is missing or was changed.
    """
    options, gates = options or Options(), gates or Gates()
    each = _each(settings)
    chosen = choose_targets(targets, timed=True)
    cpu_nodes = cpu_nodes_allowed(chosen, targets, allow_cpu_nodes)
    for name in chosen:
        require_clock(name)
    if len(chosen) == 1:
        require(chosen[0])
    with working_on(options.bundle or newest_folder()) as bundle:
        job = _BenchJob(
            bundle=bundle, options=options, int8_models=choose_int8(bundle, chosen, model), settings=each,
            cpu_nodes=cpu_nodes,
        )  # fmt: skip
        before = bundle.manifest
        found = job.measure(keep_going=len(chosen) > 1)
        checks = tuple(check_speedup(result) for result in found.results) if gates.require_speedup else ()
        verdict = Verdict(checks=checks, failures=found.failures)
        kept = still_true(bundle.manifest.checks, before, bundle.manifest)
        bundle.amend({"checks": merge(kept, verdict.checks)})
        report_stage(bundle)
        return job.outcome(), list(found.results), verdict


def bench_stage(
    bundle: Bundle,
    options: Options,
    targets: Sequence[str] = ("cpu",),
    settings: BenchSettings | Sequence[BenchSettings] | None = None,
    *,
    cpu_nodes: Mapping[str, int] | None = None,
    failures: list[ValidationFailure] | None = None,
) -> Outcome:
    """Benchmark inside a locked bundle, unless the manifest has these very figures; see :func:`bench`.

    Args:
        bundle: locked.
        options: ``force`` measures whatever the manifest has.
        targets: rows of the target table.
        settings: each is measured.
        cpu_nodes: how many of a model's nodes the CPU may run in place of each target's provider.
        failures: takes what a target says that fails while the others go on; None to raise it.
    """
    job = _BenchJob(
        bundle=bundle,
        options=options,
        int8_models=choose_int8(bundle, targets),
        settings=_each(settings),
        cpu_nodes=cpu_nodes or {},
    )
    if not options.force and job.is_done():
        return job.work.unchanged()
    found = job.measure(keep_going=failures is not None)
    if failures is not None:
        failures += found.failures
    return job.outcome()


@dataclass(frozen=True, kw_only=True)
class _BenchJob:
    """What is measured in a locked bundle: the int8 model of each target, with each of the settings."""

    bundle: Bundle
    options: Options
    int8_models: Mapping[str, str]
    settings: Sequence[BenchSettings]
    cpu_nodes: Mapping[str, int]

    @cached_property
    def work(self) -> Work:
        """The stage's record: what it is given."""
        return Work(
            bundle=self.bundle,
            stage="bench",
            inputs=model_hashes(self.bundle, *self.int8_models.values()),
            settings={**where_measured(self.int8_models, self.cpu_nodes), **_recorded(self.settings)},
        )

    def is_done(self) -> bool:
        """Tell whether the manifest has these very figures, those of targets' own models among them."""
        known = {(one.int8_model, place(one)) for record in self.bundle.manifest.fitted for one in record.latency}
        own = {
            (model, (target, each.batch, each.threads, each.through))
            for target, model in self.int8_models.items()
            if model not in SHARED_MODELS
            for each in self.settings
        }
        return self.work.is_done() and own <= known

    def measure(self, *, keep_going: bool) -> TargetLatency:
        """Measure, and write it; a target that fails is told among the failures, or raises."""
        names = dict.fromkeys(self.int8_models.values())
        advice = advice_without_twin(self.bundle, self.int8_models)
        read = {name: Models.read(self.bundle, name, cpu_nodes=self.cpu_nodes, advice=advice) for name in names}
        models = {target: read[name] for target, name in self.int8_models.items()}
        found = measure_latency(models, self.settings, self.options.progress, keep_going=keep_going)
        manifest = self.bundle.manifest
        shared = [result for result in found.results if result.int8_model in SHARED_MODELS]
        changes: dict[str, object] = {"fitted": with_latency(manifest.fitted, found.results)}
        if any(name in SHARED_MODELS for name in names):
            self.work.finish((), {**changes, "latency": replaced(manifest.latency, shared)})
        else:
            self.bundle.amend({**changes, "stages": without_claim(manifest.stages, "bench", self.int8_models)})
        if found.failures:  # then the stage is not done: the next run asks again
            stages = {name: record for name, record in self.bundle.manifest.stages.items() if name != "bench"}
            self.bundle.amend({"stages": stages})
        return found

    def outcome(self) -> Outcome:
        """Return how it ended."""
        return replace(self.work.unchanged(), unchanged=False)


def _each(settings: BenchSettings | Sequence[BenchSettings] | None) -> tuple[BenchSettings, ...]:
    if settings is None or isinstance(settings, BenchSettings):
        return (settings or BenchSettings(),)
    return tuple(dict.fromkeys(settings))


def _recorded(settings: Sequence[BenchSettings]) -> dict[str, JsonValue]:
    """Return each setting by name, or a list of them where they differ."""
    columns: dict[str, list[JsonValue]] = {name: [] for name in asdict(settings[0])}
    for each in settings:
        for name, value in asdict(each).items():
            columns[name].append(value)
    return {name: values if len(set(map(str, values))) > 1 else values[0] for name, values in columns.items()}
