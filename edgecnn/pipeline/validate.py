"""Stage 5: is int8 as right as float? On the same test images, paired."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgecnn.bundle import Bundle
from edgecnn.bundle.locate import newest_folder
from edgecnn.bundle.manifest import FusionRecord, SaturationRecord, ValidationResult
from edgecnn.bundle.prediction import PredictionRecord
from edgecnn.data import Dataset
from edgecnn.pipeline.answers import REFERENCE
from edgecnn.pipeline.context import Options, Outcome, choose_dataset, input_size, working_on
from edgecnn.pipeline.export import FLOAT_MODEL
from edgecnn.pipeline.int8_choice import SHARED_MODELS, choose_int8
from edgecnn.pipeline.predict import predict_shipped
from edgecnn.pipeline.report import report_stage
from edgecnn.pipeline.sampling import sample_sizes
from edgecnn.pipeline.stand_ins import find_stand_ins
from edgecnn.pipeline.validation_job import ValidationJob
from edgecnn.pipeline.verdict import Gates, Verdict, accuracy_checks, merge, still_true
from edgecnn.targets import require
from edgecnn.targets.choice import ALL, choose_targets, cpu_nodes_allowed


@dataclass(frozen=True, kw_only=True)
class Validated(Outcome):
    """What validating measured this time; the manifest holds that of other times as well.

    Attributes:
        results: one a target that answered, in the order asked for.
        predictions: of CoreML and NNAPI, where all targets were asked.
    """

    results: tuple[ValidationResult, ...] = ()
    predictions: tuple[PredictionRecord, ...] = ()

    @property
    def saturation(self) -> SaturationRecord | None:
        """The audit of ``int8.onnx``, if a target was asked about it: it says nothing of a target's own model."""
        return self.manifest.saturation if self._of_shared else None

    @property
    def fusion(self) -> FusionRecord | None:
        """What fusing changes in ``int8.onnx``, if a target was asked about it."""
        return self.manifest.fusion if self._of_shared else None

    @property
    def _of_shared(self) -> bool:
        return any(result.int8_model in SHARED_MODELS for result in self.results)


def validate(
    *,
    targets: Sequence[str] = (REFERENCE,),
    model: str | None = None,
    n_images: int | None = None,
    allow_cpu_nodes: int | None = None,
    gates: Gates | None = None,
    options: Options | None = None,
) -> tuple[Validated, Verdict]:
    """Measure the accuracy of float and int8 on the test images, on each target.

    Targets other than this machine's CPU are also held against it, image by image, and int8 is audited for dot
    products that saturate on x86 CPUs without VNNI. Of several targets, one that is missing, fails or crashes does not
    lose the others' figures: it is recorded with its reason, and the verdict is not passed.

    Args:
        targets: rows of the target table, or ``all`` for every one that is ready here; CoreML and NNAPI are then
            predicted as well.
        model: the int8 model that all targets run; None for the one that each of them is to run: that which was fitted
            to it, else ``int8.onnx``, or on other providers than the CPU's the same before its rewrites.
        n_images: how many of the test images, chosen by seed; None for all on this CPU, 1,000 on other targets and
            200 on simulators.
        allow_cpu_nodes: how many nodes of each model the CPU may run in place of a provider that does not take them;
            None for none, but where ``all`` names a provider that takes only parts of any network.
        gates: what accuracy, and which answers of other targets, decide the verdict.
        options: bundle (default: the newest), data (default: the bundle's), and so on.

    Raises:
        UsageError: no such target, less than one image, or nodes fewer than none.
        TargetError: the only target is not available here; nothing is measured then.
        DataError: more images are asked for than there are.
        BundleError: a model is missing or was changed.
        StageError: a model gives NaN or infinite logits, or an emulated process fails.
    """
    options = options or Options()
    gates = gates or Gates()
    chosen = choose_targets(targets)
    cpu_nodes = cpu_nodes_allowed(chosen, targets, allow_cpu_nodes)
    if len(chosen) == 1:
        require(chosen[0])
    with working_on(options.bundle or newest_folder()) as bundle:
        dataset = choose_dataset(options, bundle.manifest, *input_size(bundle, FLOAT_MODEL))
        chosen, cpu_nodes = _with_stand_ins(bundle, options, chosen, cpu_nodes, asked=targets, model=model)
        job = validation_job(bundle, dataset, options, chosen, model=model, n_images=n_images, cpu_nodes=cpu_nodes)
        before = bundle.manifest
        found = job.measure(keep_going=len(chosen) > 1)
        predictions = predict_shipped(bundle) if ALL in targets else ()
        verdict = Verdict(checks=accuracy_checks(found.results, gates), failures=found.failures)
        kept = still_true(bundle.manifest.checks, before, bundle.manifest)
        bundle.amend({"checks": merge(kept, verdict.checks)})
        report_stage(bundle)
        outcome = Validated(
            stage="validate",
            bundle=bundle.folder,
            manifest=bundle.manifest,
            unchanged=False,
            results=found.results,
            predictions=predictions,
        )
        return outcome, verdict


def _with_stand_ins(
    bundle: Bundle,
    options: Options,
    chosen: Sequence[str],
    cpu_nodes: Mapping[str, int],
    *,
    asked: Sequence[str],
    model: str | None = None,
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the targets and their nodes left to the CPU, where a chip that nobody named takes no such model."""
    unnamed = [name for name in chosen if name not in asked]
    stand_ins = find_stand_ins(bundle, unnamed, model=model, progress=options.progress)
    nodes = {stand_ins.get(name, name): count for name, count in cpu_nodes.items()}
    return tuple(dict.fromkeys(stand_ins.get(name, name) for name in chosen)), nodes


def validation_job(
    bundle: Bundle,
    dataset: Dataset,
    options: Options,
    targets: Sequence[str],
    *,
    model: str | None = None,
    n_images: int | None = None,
    cpu_nodes: Mapping[str, int] | None = None,
) -> ValidationJob:
    """Return what is to be measured inside a locked bundle.

    Args:
        bundle: locked.
        dataset: whose test images.
        options: of the command.
        targets: rows of the target table.
        model: the int8 model that all targets run; None for the one that each is to run.
        n_images: how many of the test images; None for each target's own number.
        cpu_nodes: how many of a model's nodes the CPU may run in place of each target's provider; none if not named.
    """
    return ValidationJob(
        bundle=bundle,
        dataset=dataset,
        int8_models=choose_int8(bundle, targets, model),
        sizes=sample_sizes(targets, n_images, len(dataset.test)),
        cpu_nodes=cpu_nodes or {},
        options=options,
    )


def validate_stage(
    bundle: Bundle,
    dataset: Dataset,
    options: Options,
    targets: Sequence[str] = (REFERENCE,),
    *,
    asked: Sequence[str] | None = None,
    cpu_nodes: Mapping[str, int] | None = None,
    keep_going: bool = False,
) -> Outcome:
    """Validate inside a locked bundle, unless the manifest has these very figures.

    Args:
        bundle: locked.
        dataset: whose test images.
        options: ``force`` measures whatever the manifest has.
        targets: rows of the target table.
        asked: what the user named; may hold ``all``. None for the targets themselves.
        cpu_nodes: how many of a model's nodes the CPU may run in place of each target's provider.
        keep_going: whether a target that fails is recorded; else its error is raised.
    """
    named = targets if asked is None else asked
    chosen, nodes = _with_stand_ins(bundle, options, targets, cpu_nodes or {}, asked=named)
    job = validation_job(bundle, dataset, options, chosen, cpu_nodes=nodes)
    if not options.force and job.is_done():
        return job.work.unchanged()
    job.measure(keep_going=keep_going)
    return Outcome(stage="validate", bundle=bundle.folder, manifest=bundle.manifest, unchanged=False)
