"""All stages, one after the other; what is done already is not done again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgecnn import data as data_room
from edgecnn.bundle import Bundle
from edgecnn.bundle.locate import default_folder
from edgecnn.bundle.manifest import MANIFEST, Manifest, StageName, ValidationFailure
from edgecnn.bundle.prediction import PredictionRecord
from edgecnn.data import Dataset
from edgecnn.errors import UsageError
from edgecnn.measure.latency import BenchSettings
from edgecnn.models import model_spec
from edgecnn.pipeline.context import Options, Outcome, input_size, working_on
from edgecnn.pipeline.export import FLOAT_MODEL, export_stage
from edgecnn.pipeline.fit import fit_stage
from edgecnn.pipeline.fit_commit import own_model, own_models
from edgecnn.pipeline.fit_plan import plan_fit
from edgecnn.pipeline.predict import predict_shipped
from edgecnn.pipeline.quantize import quantize_stage
from edgecnn.pipeline.quantize_settings import QuantizeSettings
from edgecnn.pipeline.report import report_stage
from edgecnn.pipeline.run_measure import bench_targets, failures_of
from edgecnn.pipeline.simplify import simplify_stage
from edgecnn.pipeline.train import train_stage
from edgecnn.pipeline.tune import tune_stage
from edgecnn.pipeline.tune_settings import TUNE_MAX_DROP_PP, TUNE_SECONDS, TuneSettings
from edgecnn.pipeline.validate import validate_stage, validation_job
from edgecnn.pipeline.validation_job import is_validated
from edgecnn.pipeline.verdict import Gates, Verdict, all_checks
from edgecnn.quantization.calibration import choose_calibration_images
from edgecnn.quantization.fit import Fit
from edgecnn.quantization.recipes import DEFAULT_RECIPE
from edgecnn.targets import require, require_clock, target
from edgecnn.targets.choice import ALL, choose_targets, cpu_nodes_allowed
from edgecnn.training import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """The settings of every stage of one run.

    ``targets`` are rows of the target table, or ``all`` for every one that is ready here; CoreML and NNAPI are then
    predicted as well. ``allow_cpu_nodes`` is how many nodes of each model the CPU may run in place of a provider; None
    as :func:`edgecnn.validate`.
    ``tune_seconds`` is about how long tuning may take, 0 for none. ``fit_targets`` are those that int8 is made for
    (``--for``); where ``int8.onnx`` is right for one, it follows the default recipe and is not tuned.
    """

    model: str = "simplecnn"
    training: TrainingSettings = field(default_factory=TrainingSettings)
    quantize: QuantizeSettings = field(default_factory=QuantizeSettings)
    bench: BenchSettings = field(default_factory=BenchSettings)
    targets: tuple[str, ...] = ("cpu",)
    gates: Gates = field(default_factory=Gates)
    tune_seconds: float = TUNE_SECONDS
    fit_targets: tuple[str, ...] = ()
    allow_cpu_nodes: int | None = None

    def __post_init__(self) -> None:
        cpu_nodes_allowed((), (), self.allow_cpu_nodes)
        if not 0 <= self.tune_seconds < float("inf"):
            raise UsageError(
                f"run: --tune-seconds must be at least 0 and finite, found {self.tune_seconds:g}.",
                next_step=f"--tune-seconds {TUNE_SECONDS:g}, or 0 for no tuning",
            )

    def fits(self) -> dict[str, Fit]:
        """Return the rows of the targets that int8 is made for; raises UsageError as :func:`plan_fit` does."""
        return plan_fit(self.fit_targets, self.quantize) if self.fit_targets else {}

    @property
    def quantizing(self) -> QuantizeSettings:
        """How ``int8.onnx`` is made: by the default recipe where a target that it is made for wants that."""
        if any(row.is_default for row in self.fits().values()):
            return replace(self.quantize, recipe=DEFAULT_RECIPE)
        return self.quantize

    @property
    def tuning(self) -> TuneSettings | None:
        """How a run tunes: on the first target with a clock in this process; None if there is none, or no time."""
        rows = {name: target(name) for name in choose_targets(self.targets)}
        timed = [name for name, row in rows.items() if row.clock_here == "measured" and row.runtime_here is None]
        if not self.tune_seconds or not timed or self.quantizing != self.quantize:
            return None
        return TuneSettings(
            target=timed[0],
            max_drop_pp=min(TUNE_MAX_DROP_PP, self.gates.max_drop_pp),
            seconds=self.tune_seconds,
            batch=self.bench.batch,
            threads=self.bench.threads,
            recipe=self.quantize.recipe,
            n_images=self.quantize.n_images,
            seed=self.quantize.seed,
        )


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """How a run ended.

    Attributes:
        bundle: its folder.
        manifest: after the run.
        outcomes: of each stage.
        verdict: over all gates, and the targets that gave no figures.
        predictions: of CoreML and NNAPI, if all targets were asked.
    """

    bundle: Path
    manifest: Manifest
    outcomes: tuple[Outcome, ...]
    verdict: Verdict
    predictions: tuple[PredictionRecord, ...] = ()

    @property
    def unchanged(self) -> tuple[StageName, ...]:
        """The stages that were done already."""
        return tuple(outcome.stage for outcome in self.outcomes if outcome.unchanged)


def run(*, settings: RunSettings | None = None, options: Options | None = None) -> RunResult:
    """Train, export, simplify, tune, quantize, validate, bench and report.

    A checkpoint or float model that was given to the bundle (``edgecnn export FILE``,
    ``edgecnn quantize FILE``) is kept: the stages before it are left out.

    A stage whose inputs and settings have not changed is not done again; ``options.force`` redoes all.
    Killed at any moment, the next call goes on from the last finished stage or training epoch.

    A target that is missing is met before any work. Of several, one that fails or crashes later does not lose the
    others' figures: the verdict lists it with its reason and is not passed, and the next call asks it again.

    Args:
        settings: of every stage.
        options: bundle (default ``artifacts/<model>``), data (default: the bundle's, else ``digits``).

    Raises:
        EdgecnnError: see each stage.
    """
    settings = settings or RunSettings()
    options = options or Options()
    model_spec(settings.model)
    settings.quantize.recipes()
    settings.fits()  # what contradicts itself is said before the training
    targets = _choose_targets(settings)
    if settings.tuning is not None:
        settings.tuning.recipes()
    folder = options.bundle or default_folder(settings.model)
    dataset = _images(folder, settings, options)
    if settings.quantize.n_images is not None:  # too few would else be found after the training
        choose_calibration_images(dataset, settings.quantize.n_images, seed=0)
    with working_on(folder, create=True) as bundle:
        lost: list[ValidationFailure] = []  # by bench; what validate lost is in the manifest
        outcomes = [_announce(stage(), options) for stage in _stages(bundle, dataset, settings, options, lost)]
        predictions = predict_shipped(bundle) if ALL in settings.targets else ()
        verdict = Verdict(
            checks=all_checks(bundle.manifest, settings.gates),
            failures=failures_of(bundle.manifest, targets, lost),
        )
        bundle.amend({"checks": verdict.checks})
        outcomes.append(_announce(report_stage(bundle), options))
        return RunResult(
            bundle=folder,
            manifest=bundle.manifest,
            outcomes=tuple(outcomes),
            verdict=verdict,
            predictions=predictions,
        )


def _choose_targets(settings: RunSettings) -> tuple[str, ...]:
    """Return the targets that are meant, each of which is here and can fail what is asked of it."""
    if settings.gates.require_speedup:
        for name in settings.targets:
            if name != ALL:  # this CPU is among all, and has a clock
                require_clock(name)  # without a latency there would be nothing that could fail
    chosen = choose_targets(settings.targets)
    for name in chosen:
        require(name)
    return chosen


def _stages(
    bundle: Bundle, dataset: Dataset, settings: RunSettings, options: Options, lost: list[ValidationFailure]
) -> Sequence[Callable[[], Outcome]]:
    targets = choose_targets(settings.targets)
    cpu_nodes = cpu_nodes_allowed(targets, settings.targets, settings.allow_cpu_nodes)
    stages: list[tuple[StageName, Callable[[], Outcome]]] = [
        ("train", lambda: train_stage(bundle, dataset, settings.model, settings.training, options)),
        ("export", lambda: export_stage(bundle, dataset, options)),
        ("simplify", lambda: simplify_stage(bundle, dataset, options)),
        *_quantize_stages(bundle, dataset, settings, options),
    ]
    if fits := settings.fits():  # before validating: a target is validated with the model that was made for it
        stages.append(("fit", lambda: _fit(bundle, dataset, fits, settings, options)))
    stages.append(
        (
            "validate",
            lambda: validate_stage(
                bundle,
                dataset,
                options,
                targets,
                asked=settings.targets,
                cpu_nodes=cpu_nodes,
                keep_going=len(targets) > 1,
            ),
        )
    )
    if timed := [name for name in targets if target(name).clock_here == "measured"]:
        stages.append(
            ("bench", lambda: bench_targets(bundle, options, timed, settings.bench, cpu_nodes=cpu_nodes, lost=lost))
        )
    for name in targets:
        if name not in timed:
            options.progress.say(
                f"{name}: is {target(name).clock_here}, so its accuracy is measured and not its latency"
            )
    given = _last_given_stage(bundle.manifest)
    if given is None:
        return [stage for _, stage in stages]
    options.progress.say(f"{bundle.folder}: the output of {given} was given, and is kept")
    names = [name for name, _ in stages]
    return [stage for _, stage in stages[names.index(given) + 1 :]]


def _quantize_stages(
    bundle: Bundle, dataset: Dataset, settings: RunSettings, options: Options
) -> list[tuple[StageName, Callable[[], Outcome]]]:
    """Return tuning, and quantizing as it was tuned; without tuning, quantizing as the user said."""
    tuning, own = settings.tuning, settings.quantizing
    if tuning is None or own.max_drop_pp is not None:
        return [("quantize", lambda: quantize_stage(bundle, dataset, options, own))]
    # Tuning leaves int8.onnx made; without force, quantizing finds that it is.
    rest = replace(options, force=False)
    follow = replace(own, recipe=None)
    return [
        ("tune", lambda: tune_stage(bundle, dataset, options, tuning)),
        ("quantize", lambda: quantize_stage(bundle, dataset, rest, follow)),
    ]


def _fit(bundle: Bundle, dataset: Dataset, fits: dict[str, Fit], settings: RunSettings, options: Options) -> Outcome:
    """Make what each target is to run, and validate the models of their own on this CPU."""
    found = fit_stage(bundle, dataset, options, settings.quantize, fits)
    own = [one for name, one in own_models(bundle).items() if name in map(own_model, fits)]
    missing = [one.model for one in own if not is_validated(one, "cpu", dataset)]
    for model in missing:
        validation_job(bundle, dataset, options, ["cpu"], model=model).measure(keep_going=False)
    unchanged = len(found.unchanged) == len(fits) and not missing
    return Outcome(stage="fit", bundle=bundle.folder, manifest=bundle.manifest, unchanged=unchanged)


def _last_given_stage(manifest: Manifest) -> StageName | None:
    """Return the last stage whose output came from the user instead of from the stage before it."""
    exported, trained = manifest.stages.get("export"), manifest.stages.get("train")
    if exported is not None and "imported" in exported.settings:
        return "export"
    if trained is None or "imported" not in trained.settings:
        return None
    # Only a checkpoint of this project says by itself how it is to be exported; the others were told once.
    return "train" if trained.settings.get("kind") == "checkpoint" or exported is None else "export"


def _images(folder: Path, settings: RunSettings, options: Options) -> Dataset:
    """Return the images the user named, else those of the bundle being taken up, else the digits."""
    _, height, width = model_spec(settings.model).input_shape
    if (folder / MANIFEST).is_file():
        bundle = Bundle.open(folder)
        if _last_given_stage(bundle.manifest) == "export":
            height, width = input_size(bundle, FLOAT_MODEL)
        if options.data is None and bundle.manifest.data is not None:
            return data_room.find(bundle.manifest.data, cache_folder=options.cache)
    return data_room.load(options.data or "digits", height=height, width=width, cache_folder=options.cache)


def _announce(outcome: Outcome, options: Options) -> Outcome:
    if outcome.unchanged:
        options.progress.say(f"{outcome.stage}: nothing changed, not done again")
    return outcome
