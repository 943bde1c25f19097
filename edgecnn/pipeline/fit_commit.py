"""Int8 models of targets' own in the manifest: one stage for all of them, each with a record of its own."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from edgecnn.bundle import Bundle
from edgecnn.bundle.manifest import Artifact, Check, FittedRecord
from edgecnn.errors import BundleError
from edgecnn.pipeline.context import Work
from edgecnn.pipeline.export import FLOAT_MODEL
from edgecnn.progress import SILENT, Progress


@dataclass(frozen=True, kw_only=True)
class Made:
    """A model about to be written, and the settings that it was made with."""

    record: FittedRecord
    artifact: Artifact
    data: bytes
    settings: Mapping[str, JsonValue]


def own_model(target: str) -> str:
    """Return the name of the int8 model that is a target's own."""
    return f"int8-{target}.onnx"


def own_models(bundle: Bundle) -> dict[str, FittedRecord]:
    """Return the records of models that are targets' own, by file name."""
    return {one.model: one for one in bundle.manifest.fitted if one.is_own}


def require_own(bundle: Bundle, model: str) -> FittedRecord:
    """Return the record of a model by its file name.

    Raises:
        BundleError: the bundle has no such model; those it has are listed.
    """
    known = own_models(bundle)
    if model not in known:
        has = f"it has {', '.join(known)}" if known else "it has none beside int8.onnx"
        target = model.removeprefix("int8-").removesuffix(".onnx")
        raise BundleError(
            f"{bundle.folder}: the bundle has no int8 model {model}; {has}.",
            next_step=f"edgecnn quantize --for {target}",
        )
    return known[model]


def is_fitted(bundle: Bundle, target: str, settings: Mapping[str, JsonValue]) -> bool:
    """Tell whether a target's own model was made with these settings and is still whole."""
    record = own_models(bundle).get(own_model(target))
    stage = bundle.manifest.stages.get("fit")
    if record is None or stage is None or stage.settings.get(target) != dict(settings):
        return False
    return bundle.holds({record.model: record.model_sha256})


def commit_fitted(bundle: Bundle, made: Made, *, float_sha256: str, progress: Progress) -> None:
    """Write a target's own model beside those of other targets."""
    kept = _others(bundle, made.record.target, progress)
    fitted = (*_elsewhere(bundle, made.record.target), *kept.values(), made.record)
    _work(bundle, float_sha256, kept, {made.record.target: dict(made.settings)}).finish(
        [*_files(bundle, kept), (made.artifact, made.data)],
        {"fitted": fitted, "checks": without_checks(bundle.manifest.checks, made.record.model)},
    )


def without_own(bundle: Bundle, target: str) -> None:
    """Take a target's own model away: it runs another file now."""
    kept = _others(bundle, target, SILENT)
    record = own_models(bundle)[own_model(target)]
    float_sha256 = bundle.manifest.stages["fit"].inputs[FLOAT_MODEL]
    _work(bundle, float_sha256, kept, {}).finish(
        _files(bundle, kept),
        {
            "fitted": (*_elsewhere(bundle, target), *kept.values()),
            "checks": without_checks(bundle.manifest.checks, record.model),
        },
    )


def without_checks(checks: Iterable[Check], model: str) -> tuple[Check, ...]:
    """Return the checks but those of a target's own model."""
    return tuple(check for check in checks if not check.name.endswith(f", {model}"))


def _work(
    bundle: Bundle, float_sha256: str, kept: Mapping[str, FittedRecord], settings: Mapping[str, JsonValue]
) -> Work:
    stage = bundle.manifest.stages.get("fit")
    known = stage.settings if stage is not None else {}
    old = {one.target: known[one.target] for one in kept.values()}
    return Work(bundle=bundle, stage="fit", inputs={FLOAT_MODEL: float_sha256}, settings={**old, **settings})


def _others(bundle: Bundle, target: str, progress: Progress) -> dict[str, FittedRecord]:
    """Return the other targets' own models; one that was changed or lost is left out, and that is said."""
    others = {name: one for name, one in own_models(bundle).items() if one.target != target}
    whole = {name: one for name, one in others.items() if bundle.holds({name: one.model_sha256})}
    for name in others.keys() - whole.keys():
        progress.say(f"{name}: was changed or is gone, and is left out: edgecnn quantize --for {others[name].target}")
    return whole


def _elsewhere(bundle: Bundle, target: str) -> list[FittedRecord]:
    """Return the records of other targets that run ``float.onnx`` or ``int8.onnx``."""
    return [one for one in bundle.manifest.fitted if not one.is_own and one.target != target]


def _files(bundle: Bundle, kept: Mapping[str, FittedRecord]) -> list[tuple[Artifact, bytes]]:
    found = []
    for name, one in kept.items():
        artifact = bundle.manifest.artifact(name)
        assert artifact is not None  # a record goes with its file
        found.append((artifact, bundle.read(name, next_step=f"edgecnn quantize --for {one.target}")))
    return found
