"""Stage 4: ``float.onnx`` to ``int8.onnx``, calibrated on training images only."""

import dataclasses
import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING

from edgecnn.bundle import Bundle
from edgecnn.bundle.atomic import sha256_bytes
from edgecnn.bundle.locate import default_folder, newest_folder
from edgecnn.bundle.manifest import MANIFEST, Artifact, SearchRecord, TryRecord
from edgecnn.data import Dataset
from edgecnn.errors import StageError, UsageError
from edgecnn.pipeline.calibration_job import CalibrationJob, calibration_job, judgement_fields
from edgecnn.pipeline.context import (
    Options,
    Outcome,
    Work,
    choose_dataset,
    describe_artifact,
    input_size,
    working_on,
)
from edgecnn.pipeline.export import FLOAT_MODEL
from edgecnn.pipeline.kept_ranges import kept_ranges, ranges_product
from edgecnn.pipeline.quantize_file import adopt, images_for, read_float_model, require_replaceable
from edgecnn.pipeline.quantize_settings import QuantizeSettings
from edgecnn.pipeline.tuned import Applied, applied_sentence, rewritten, tuning_to_apply

if TYPE_CHECKING:
    from edgecnn.quantization.range_methods import Range
    from edgecnn.quantization.static import Quantized

INT8_MODEL = "int8.onnx"
#: The int8 model before its rewrites, bit for bit the same function, for what is not ONNX Runtime's own CPU kernels.
PORTABLE_MODEL = "int8_portable.onnx"


def quantize(
    model: Path | str | None = None,
    *,
    settings: QuantizeSettings | None = None,
    options: Options | None = None,
) -> Outcome:
    """Quantize a float model to static int8 and write ``int8.onnx``.

    Args:
        model: a float ONNX file to make a bundle of; None for the bundle's ``float.onnx``.
        settings: the recipe, or the budget of a search for one, and the images; with neither recipe nor budget, what a
            tuning of the bundle's float model chose.
        options: bundle (default: the newest), data (default: the bundle's), and so on.

    Returns:
        The outcome. Where a search did not meet its budget, ``manifest.search.met`` is False and ``int8.onnx`` is the
        best that was found.

    Raises:
        UsageError: no such recipe.
        ModelError: the model cannot be read, or is quantized already.
        DataError: there are not enough training images that are not test images.
    """
    options, settings = options or Options(), settings or QuantizeSettings()
    settings.recipes()  # an unknown one is said before anything is read
    if settings.n_held_out is not None and settings.max_drop_pp is None:
        raise UsageError(
            "quantize: --held-out sets images apart for a search; without --max-drop nothing is searched.",
            next_step="edgecnn quantize --max-drop 0.3",
        )
    if model is None:
        with working_on(options.bundle or newest_folder()) as bundle:
            dataset = choose_dataset(options, bundle.manifest, *input_size(bundle, FLOAT_MODEL))
            return quantize_stage(bundle, dataset, options, settings)
    path = Path(model)
    data = read_float_model(path)
    folder = options.bundle or (path.parent if (path.parent / MANIFEST).is_file() else default_folder(path.stem))
    dataset = images_for(path, data, folder, options)
    with working_on(folder, create=True) as bundle:
        require_replaceable(bundle, path, data, options)
        return quantize_stage(bundle, dataset, options, settings, given=(path, data))


def quantize_stage(
    bundle: Bundle,
    dataset: Dataset,
    options: Options,
    settings: QuantizeSettings | None = None,
    *,
    given: tuple[Path, bytes] | None = None,
) -> Outcome:
    """Quantize inside a locked bundle; see :func:`quantize`.

    Args:
        given: an ONNX file and its bytes, which become the bundle's own once it could be quantized.
    """
    settings = settings or QuantizeSettings()
    model = given[1] if given else bundle.read(FLOAT_MODEL, next_step="edgecnn export model.pt")
    tuned = tuning_to_apply(bundle.manifest, sha256_bytes(model), settings)
    job = calibration_job(bundle, dataset, model, tuned.settings if tuned else settings, options)
    job.name = str(given[0]) if given else job.name
    if tuned is not None:
        _follow(bundle, job, tuned)
    work = quantize_work(bundle, job)
    if not options.force and work.is_done() and _has_portable(bundle, job):
        return work.unchanged()
    job.choose_images()
    if settings.max_drop_pp is None:
        products, changes = _by_recipe(job, None if options.force else kept_ranges(bundle, job))
    else:
        products, changes = _by_search(job, settings.max_drop_pp)
    if given:
        adopt(bundle, *given, dataset)
    left = changes["float_layers"]
    if left:
        options.progress.say(f"still float: {', '.join(map(str, left))}")  # type: ignore[call-overload]
    return work.finish(products, {**changes, **_outdated(bundle, products), "calibration": job.calibration})


def quantize_work(bundle: Bundle, job: CalibrationJob) -> Work:
    """Return the work of quantizing by a job."""
    return Work(
        bundle=bundle,
        stage="quantize",
        inputs={FLOAT_MODEL: sha256_bytes(job.model), "data": job.dataset.sha256},
        settings=job.recorded(),
    )


def commit_quantized(bundle: Bundle, job: CalibrationJob, quantized: "Quantized", portable: bytes) -> Outcome:
    """Write an int8 model that a tuning has made by the job's one recipe and rewrites.

    Args:
        bundle: locked.
        job: its recipe and rewrites.
        quantized: the model, rewritten.
        portable: the ONNX file before that.
    """
    work = quantize_work(bundle, job)
    artifact = bundle.manifest.artifact(INT8_MODEL)
    same = artifact is not None and artifact.sha256 == sha256_bytes(quantized.data)
    if same and work.is_done() and _has_portable(bundle, job):
        return work.unchanged()
    products, changes = _products(job, quantized, portable)
    return work.finish(products, {**changes, **_outdated(bundle, products), "calibration": job.calibration})


def _has_portable(bundle: Bundle, job: CalibrationJob) -> bool:
    """Tell whether nothing was rewritten, or the bundle holds the model as it was before that, too."""
    return not job.rewrites or bundle.manifest.artifact(PORTABLE_MODEL) is not None


def _follow(bundle: Bundle, job: CalibrationJob, tuned: Applied) -> None:
    """Let a job make what a tuning chose, and say so."""
    from edgecnn.measure.machine import describe_machine

    job.recipes, job.rewrites = [tuned.recipe], tuned.rewrites
    assert bundle.manifest.tuning is not None
    job.progress.say(applied_sentence(bundle.manifest.tuning, describe_machine()))


def _outdated(bundle: Bundle, products: list[tuple[Artifact, bytes]]) -> dict[str, object]:
    """Return the change that strikes a recommendation which another int8 model was measured for."""
    record = bundle.manifest.recommendation
    made = {artifact.path: artifact.sha256 for artifact, _ in products}
    if record is None or made[INT8_MODEL] == record.int8_sha256:
        return {}
    return {"recommendation": None}


_Made = tuple[list[tuple[Artifact, bytes]], dict[str, object]]


def _by_recipe(job: CalibrationJob, known: "dict[str, Range] | None") -> _Made:
    """Quantize by one recipe; ranges that are known are not looked for again."""
    from edgecnn.quantization.keep_float import quantize_and_keep_float

    (chosen,) = job.recipes
    n = len(job.images)
    where = "the bundle holds their ranges" if known is not None else f"on {n} training images"
    job.progress.say(f"quantizing with {chosen.name}, {where}")
    prepared = job.prepare(chosen, known=known)
    quantized = quantize_and_keep_float(prepared, job.images, chosen, threads=job.threads, progress=job.progress)
    portable = quantized.data
    if job.rewrites:
        data, why_not = rewritten(quantized.data, job.rewrites, name=job.name)
        if why_not:
            raise StageError(
                f"{job.name}: the rewrites that the tuning chose do not apply any more ({'; '.join(why_not)}).",
                next_step="edgecnn tune --force",
            )
        quantized = dataclasses.replace(quantized, data=data)
    return _products(job, quantized, portable)


def _products(job: CalibrationJob, quantized: "Quantized", portable: bytes) -> _Made:
    """Return the files of one recipe: the model, as it was before its rewrites if it has any, and its ranges."""
    products = [_artifact(job, quantized.data)]
    if job.rewrites:
        products.append(_artifact(job, portable, name=PORTABLE_MODEL))
    products.append(ranges_product(job))
    return products, {"float_layers": quantized.float_layers, "search": None}


def _by_search(job: CalibrationJob, max_drop_pp: float) -> _Made:
    """Quantize by the cheapest recipe that holds the budget, with the fewest float layers."""
    from edgecnn.quantization.search import search

    job.progress.say(
        f"searching for at most {max_drop_pp:g} points lost on {len(job.held_out)} training images, "
        f"other than the {len(job.images)} that set the ranges"
    )
    job.prepare(job.recipes[0])  # what is wrong with a layer is said of the layer, before the model is judged
    found = search(
        job.recipes,
        max_drop_pp,
        job.prepare,
        job.images,
        job.judge(),
        threads=job.threads,
        progress=job.progress,
    )
    record = SearchRecord(
        max_drop_pp=max_drop_pp,
        met=found.best.met,
        n=len(job.held_out),
        tries=tuple(
            TryRecord(
                **judgement_fields(one.judgement),
                recipe=one.recipe.name,
                float_layers=one.recipe.float_layers,
                met=one.met,
            )
            for one in found.tries
        ),
    )
    if not found.best.met:
        job.progress.say(
            f"nothing that was tried loses at most {max_drop_pp:g} points; {found.best.recipe.name} loses least"
        )
    changes: dict[str, object] = {"float_layers": found.quantized.float_layers, "search": record}
    return [_artifact(job, found.quantized.data)], changes


def _artifact(job: CalibrationJob, data: bytes, *, name: str = INT8_MODEL) -> tuple[Artifact, bytes]:
    tools = {name: importlib.metadata.version(name) for name in ("onnx", "onnxruntime")}
    return describe_artifact("quantize", name, data, parent_sha256=sha256_bytes(job.model), tools=tools), data
