"""``edgecnn quantize --for``: the int8 model that a target takes, beside ``int8.onnx`` where it needs its own."""

import importlib.metadata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgecnn.bundle import Bundle
from edgecnn.bundle.atomic import sha256_bytes
from edgecnn.bundle.locate import newest_folder
from edgecnn.bundle.manifest import FittedRecord, Manifest
from edgecnn.data import Dataset
from edgecnn.errors import StageError
from edgecnn.pipeline.context import Options, choose_dataset, describe_artifact, input_size, working_on
from edgecnn.pipeline.export import FLOAT_MODEL
from edgecnn.pipeline.fit_commit import Made, commit_fitted, is_fitted, own_model, without_own
from edgecnn.pipeline.fit_model import fitting_job, make_fitted
from edgecnn.pipeline.fit_plan import plan_fit
from edgecnn.pipeline.quantize import INT8_MODEL, quantize, quantize_stage
from edgecnn.pipeline.quantize_settings import QuantizeSettings
from edgecnn.pipeline.report import report_stage
from edgecnn.quantization.fit import Fit
from edgecnn.quantization.recipes import DEFAULT_RECIPE


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """What each target is to run.

    Attributes:
        bundle: the bundle's folder.
        manifest: the manifest after it.
        records: one a target, in the order asked for.
        unchanged: targets whose model was there already.
    """

    bundle: Path
    manifest: Manifest
    records: tuple[FittedRecord, ...]
    unchanged: tuple[str, ...]


def fit(
    targets: Sequence[str],
    *,
    model: Path | str | None = None,
    anyway: bool = False,
    settings: QuantizeSettings | None = None,
    options: Options | None = None,
) -> Fitted:
    """Quantize so that targets take the model: ``int8.onnx`` by the default recipe, or ``int8-TARGET.onnx``.

    Args:
        targets: providers, targets, or ``any``: what is right on every CPU.
        model: a float ONNX file to make a bundle of, with its ``int8.onnx``; None for the bundle's ``float.onnx``.
        anyway: write int8 also for a target that should run float.
        settings: of the images; ``max_drop_pp`` is the budget where a target has several recipes (0.3 points), and
            ``recipe`` takes one of these in place of judging them.
        options: bundle (default: the newest), data (default: the bundle's), and so on.

    Raises:
        UsageError: a target is unknown or takes no int8, or the settings contradict it.
        EdgecnnError: as :func:`edgecnn.quantize` does.
    """
    options, settings = options or Options(), settings or QuantizeSettings()
    rows = plan_fit(targets, settings, anyway=anyway)
    folder = options.bundle
    if model is not None:
        plain = replace(settings, recipe=None, max_drop_pp=None, n_held_out=None)
        folder = quantize(model, settings=plain, options=options).bundle
    with working_on(folder or newest_folder()) as bundle:
        reported = "report" in bundle.manifest.stages
        dataset = choose_dataset(options, bundle.manifest, *input_size(bundle, FLOAT_MODEL))
        found = fit_stage(bundle, dataset, options, settings, rows, anyway=anyway)
        if reported:  # it tells of what was measured before, which is still true
            report_stage(bundle)
        return replace(found, manifest=bundle.manifest)


def fit_stage(
    bundle: Bundle,
    dataset: Dataset,
    options: Options,
    settings: QuantizeSettings,
    rows: "dict[str, Fit]",
    *,
    anyway: bool = False,
) -> Fitted:
    """Fit inside a locked bundle; see :func:`fit`."""
    unchanged = []
    for target, row in rows.items():
        if row.ships_float and not anyway:
            done = _ship_float(bundle, target, row, options)
        elif row.is_default:
            done = _ship_default(bundle, dataset, target, row, settings, options)
        else:
            done = _ship_own(bundle, dataset, target, row, settings, options)
        unchanged += [target] if done else []
    by_target = {one.target: one for one in bundle.manifest.fitted}
    return Fitted(
        bundle=bundle.folder,
        manifest=bundle.manifest,
        records=tuple(by_target[target] for target in rows),
        unchanged=tuple(unchanged),
    )


def _ship_float(bundle: Bundle, target: str, row: Fit, options: Options) -> bool:
    data = bundle.read(FLOAT_MODEL, next_step="edgecnn export model.pt")
    options.progress.say(f"{target}: ship {FLOAT_MODEL}: {row.reason}")
    return _record(
        bundle, FittedRecord(target=target, model=FLOAT_MODEL, model_sha256=sha256_bytes(data), reason=row.reason)
    )


def _ship_default(
    bundle: Bundle, dataset: Dataset, target: str, row: Fit, settings: QuantizeSettings, options: Options
) -> bool:
    """Let ``int8.onnx`` be the target's, made by the default recipe."""
    from edgecnn.quantization.saturation import audit_saturation

    default = replace(settings, recipe=DEFAULT_RECIPE, max_drop_pp=None, n_held_out=None)
    before = bundle.manifest.stages.get("quantize")
    outcome = quantize_stage(bundle, dataset, options, default)
    if before is not None and before.settings.get("rewrites") and not outcome.unchanged:
        options.progress.say(
            f"{target}: {INT8_MODEL} was rewritten for speed, as tuned; now it is {DEFAULT_RECIPE}, not rewritten. "
            "edgecnn quantize writes the tuned one again"
        )
    data = bundle.read(INT8_MODEL, next_step="edgecnn quantize")
    audit = audit_saturation(data, name=INT8_MODEL)
    if target == "any" and audit.can_saturate:
        raise StageError(
            f"--for any: dot products of {', '.join(one.layer for one in audit.can_saturate)} can saturate on x86 CPUs "
            "without VNNI although the weights have 7 bits.",
            next_step="edgecnn sensitivity, and leave these layers float in a recipe of your own",
        )
    recorded = _record(
        bundle,
        FittedRecord(
            target=target,
            model=INT8_MODEL,
            model_sha256=sha256_bytes(data),
            reason=row.reason,
            recipe=DEFAULT_RECIPE,
            saturation=audit,
        ),
    )
    return outcome.unchanged and recorded


def _record(bundle: Bundle, record: FittedRecord) -> bool:
    """Write that a target runs a file which another stage made; tell whether it was known."""
    others = tuple(one for one in bundle.manifest.fitted if one.target != record.target)
    known = record in bundle.manifest.fitted
    if own_model(record.target) in {one.model for one in bundle.manifest.fitted}:
        without_own(bundle, record.target)
    if not known:
        bundle.amend({"fitted": (*others, record)})
    return known


def _ship_own(
    bundle: Bundle, dataset: Dataset, target: str, row: Fit, settings: QuantizeSettings, options: Options
) -> bool:
    """Write an int8 model of the target's own; tell whether it was there."""
    from edgecnn.quantization.saturation import audit_saturation

    model = bundle.read(FLOAT_MODEL, next_step="edgecnn export model.pt")
    job = fitting_job(bundle, dataset, model, row, settings, options)
    recorded = {**job.recorded(), "data": dataset.sha256}
    if not options.force and is_fitted(bundle, target, recorded):
        return True
    quantized, chosen, choice = make_fitted(job)
    name = own_model(target)
    tools = {package: importlib.metadata.version(package) for package in ("onnx", "onnxruntime")}
    artifact = describe_artifact("fit", name, quantized.data, parent_sha256=sha256_bytes(model), tools=tools)
    record = FittedRecord(
        target=target,
        model=name,
        model_sha256=artifact.sha256,
        reason=row.reason,
        recipe=chosen.name,
        float_layers=quantized.float_layers,
        calibration=job.calibration,
        choice=choice,
        saturation=audit_saturation(quantized.data, name=name),
    )
    made = Made(record=record, artifact=artifact, data=quantized.data, settings=recorded)
    commit_fitted(bundle, made, float_sha256=sha256_bytes(model), progress=options.progress)
    return False
