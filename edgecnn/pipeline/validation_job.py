"""One validation: which targets answer which images with which models, and where the figures are kept."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from pydantic import JsonValue

from edgecnn.bundle import Bundle
from edgecnn.bundle.manifest import FittedRecord, FusionRecord, Manifest, ValidationFailure
from edgecnn.data import Dataset, Images
from edgecnn.errors import DataError
from edgecnn.measure.machine import describe_machine
from edgecnn.pipeline.answers import REFERENCE, Asking
from edgecnn.pipeline.context import Options, Work, read_model
from edgecnn.pipeline.export import FLOAT_MODEL
from edgecnn.pipeline.fit_records import with_validation, without_claim
from edgecnn.pipeline.int8_choice import SHARED_MODELS, advice_without_twin, read_int8
from edgecnn.pipeline.quantize import INT8_MODEL
from edgecnn.pipeline.sampling import choose_images, sampled_settings
from edgecnn.pipeline.target_accuracy import TargetAccuracy, measure_accuracy
from edgecnn.quantization.fusion import audit_fusion
from edgecnn.quantization.saturation import audit_saturation
from edgecnn.targets import reference_session


@dataclass(frozen=True, kw_only=True)
class ValidationJob:
    """What is measured.

    Attributes:
        bundle: locked.
        dataset: whose test images.
        int8_models: the int8 model of each target, by file name.
        sizes: how many test images each target answers.
        cpu_nodes: how many of a model's nodes the CPU may run in place of each target's provider.
        options: of the command.
    """

    bundle: Bundle
    dataset: Dataset
    int8_models: Mapping[str, str]
    sizes: Mapping[str, int]
    cpu_nodes: Mapping[str, int]
    options: Options

    @cached_property
    def work(self) -> Work:
        """The stage's record: what it is given."""
        return Work(
            bundle=self.bundle,
            stage="validate",
            inputs={**model_hashes(self.bundle, *self.int8_models.values()), "data": self.dataset.sha256},
            settings={
                **where_measured(self.int8_models, self.cpu_nodes),
                **sampled_settings(self.sizes, len(self.dataset.test)),
            },
        )

    def is_done(self) -> bool:
        """Tell whether the manifest has these very figures; what gave none the last time may now."""
        manifest = self.bundle.manifest
        own = {(target, model) for target, model in self.int8_models.items() if model not in SHARED_MODELS}
        known = {(one.target, one.int8_model) for record in manifest.fitted for one in record.validation}
        return self.work.is_done() and own <= known and not without_answers(manifest, self.sizes)

    @property
    def of_shared(self) -> bool:
        """Whether any target runs the bundle's own int8; figures of other targets' models are in their records."""
        return any(name in SHARED_MODELS for name in self.int8_models.values())

    def measure(self, *, keep_going: bool) -> TargetAccuracy:
        """Measure, and write it.

        Args:
            keep_going: whether a target that fails is recorded; else its error is raised.
        """
        require_same_classes(self.bundle, self.dataset, "validate")
        models = self._models()
        asking = Asking(
            models=models,
            cpu_nodes=self.cpu_nodes,
            progress=self.options.progress,
            advice=advice_without_twin(self.bundle, self.int8_models),
        )
        found = measure_accuracy(self.int8_models, self.sizes, self.dataset, asking, keep_going=keep_going)
        changes = self._changes(found)
        if self.of_shared:
            int8 = models[INT8_MODEL]
            images = choose_images(self.dataset.test, max(self.sizes.values()))
            audits = {"saturation": audit_saturation(int8, name=INT8_MODEL), "fusion": _audit_fusion(int8, images)}
            self.work.finish((), {**changes, **audits})
        else:
            stages = without_claim(self.bundle.manifest.stages, "validate", self.int8_models)
            self.bundle.amend({**changes, "stages": stages})
        return found

    def _models(self) -> dict[str, bytes]:
        names = dict.fromkeys(self.int8_models.values())
        if self.of_shared:
            names[INT8_MODEL] = None
        of_float = read_model(self.bundle, FLOAT_MODEL, next_step="edgecnn export model.pt")
        return {FLOAT_MODEL: of_float, **{name: read_int8(self.bundle, name) for name in names}}

    def _changes(self, found: TargetAccuracy) -> dict[str, object]:
        """Return the manifest's fields with these figures in the place of those of earlier times."""
        manifest = self.bundle.manifest
        shared = {target for target, name in self.int8_models.items() if name in SHARED_MODELS}
        kept = [old for old in manifest.validation if old.target not in shared]
        new = [result for result in found.results if result.int8_model in SHARED_MODELS]
        failed = [old for old in manifest.validation_failures if old.target not in self.sizes]
        return {
            "validation": (*kept, *new),
            "validation_failures": (*failed, *found.failures),
            "fitted": with_validation(manifest.fitted, self.int8_models, found.results),
        }


def without_answers(manifest: Manifest, targets: Iterable[str]) -> tuple[ValidationFailure, ...]:
    """Return the failures of these targets that the manifest holds."""
    known = set(targets)
    return tuple(failure for failure in manifest.validation_failures if failure.target in known)


def _audit_fusion(model: bytes, images: Images) -> FusionRecord:
    session = reference_session(model, model_name=INT8_MODEL)  # a stranger's manifest may say anything of it
    return audit_fusion(model, images, session.input, name=INT8_MODEL)


def where_measured(int8_models: Mapping[str, str], cpu_nodes: Mapping[str, int]) -> dict[str, JsonValue]:
    """Return which targets are measured, with which models, on what machine: for the record, without what is usual."""
    machine = describe_machine()
    other = {target: name for target, name in int8_models.items() if name != INT8_MODEL}
    allowed = {target: nodes for target, nodes in cpu_nodes.items() if nodes}
    return {
        "targets": list(int8_models),
        "machine": [machine.architecture, machine.cpu],
        "versions": dict(machine.versions),
        **({"int8_models": dict(other)} if other else {}),
        **({"allow_cpu_nodes": dict(allowed)} if allowed else {}),
    }


def model_hashes(bundle: Bundle, *int8_models: str) -> dict[str, str]:
    """Return the SHA-256 of the float model, and of the int8 ones that the bundle has."""
    found = {name: bundle.manifest.artifact(name) for name in (FLOAT_MODEL, *int8_models)}
    return {name: artifact.sha256 for name, artifact in found.items() if artifact}


def require_same_classes(bundle: Bundle, dataset: Dataset, command: str) -> None:
    """Refuse other classes, or another order: the labels are indices, so nothing would be measured.

    Raises:
        DataError: the classes are not those of the bundle.
    """
    known = bundle.manifest.data
    if known is not None and known.classes != dataset.classes:
        raise DataError(
            f"{command}: the bundle's classes are {', '.join(known.classes)}; "
            f"{dataset.name} has {', '.join(dataset.classes)}.",
            next_step="give test images of the same classes, in the same order, with --data",
        )


def is_validated(record: FittedRecord, target: str, dataset: Dataset) -> bool:
    """Tell whether a target's own model answered all test images on a target, by this machine with these versions."""
    here = describe_machine()
    return any(
        (result.target, result.n, result.data_sha256) == (target, len(dataset.test), dataset.sha256)
        and (target != REFERENCE or (result.machine.cpu, result.machine.versions) == (here.cpu, here.versions))
        for result in record.validation
    )
