"""Which int8 and which float is the best on a target, found by measuring there; ``int8.onnx`` then follows it."""

import dataclasses
from typing import TYPE_CHECKING

from edgecnn.bundle import Bundle
from edgecnn.bundle.atomic import sha256_bytes
from edgecnn.bundle.locate import newest_folder
from edgecnn.bundle.manifest import Artifact
from edgecnn.bundle.tuning import TuningRecord
from edgecnn.data import Dataset
from edgecnn.measure.machine import describe_machine
from edgecnn.pipeline.calibration_job import CalibrationJob, calibration_job
from edgecnn.pipeline.context import (
    Options,
    Outcome,
    Work,
    choose_dataset,
    describe_artifact,
    input_size,
    read_model,
    working_on,
)
from edgecnn.pipeline.export import FLOAT_MODEL
from edgecnn.pipeline.quantize import INT8_MODEL, commit_quantized
from edgecnn.pipeline.report import report_stage
from edgecnn.pipeline.tune_meter import opened_meter, require_measurable
from edgecnn.pipeline.tune_records import (
    FLOAT_TUNED_MODEL,
    Shipped,
    recommendation_record,
    recommended_sentence,
    recorded_settings,
    tuning_record,
)
from edgecnn.pipeline.tune_settings import TuneSettings
from edgecnn.pipeline.tuned import GraphRewriter
from edgecnn.tuning.budget import Budget

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgecnn.quantization.recipes import Recipe
    from edgecnn.quantization.static import Quantized
    from edgecnn.tuning.meter import Meter
    from edgecnn.tuning.search import Tuned


def tune(*, settings: TuneSettings | None = None, options: Options | None = None) -> Outcome:
    """Try recipes, rewrites, float layers and session options on a target, and keep what is best there.

    ``int8.onnx`` is made anew as the best int8, the manifest's ``tuning`` holds every candidate, and its
    ``recommendation`` says whether int8 or float is the file to ship.

    Args:
        settings: target, objective, drop budget, time, threads and images.
        options: bundle (default: the newest), data (default: the bundle's), and so on.

    Raises:
        UsageError: no such target or recipe, or no int8 could be made.
        TargetError: the target is not available here, or nothing can be measured on it.
        BundleError: the bundle has no ``float.onnx``.
        DataError: there are too few training images.
        ModelError: the model cannot be quantized.
    """
    options, settings = options or Options(), settings or TuneSettings()
    settings.recipes()  # an unknown one is said before anything is read
    require_measurable(settings)
    with working_on(options.bundle or newest_folder()) as bundle:
        dataset = choose_dataset(options, bundle.manifest, *input_size(bundle, FLOAT_MODEL))
        outcome = tune_stage(bundle, dataset, options, settings)
        report_stage(bundle)
        return dataclasses.replace(outcome, manifest=bundle.manifest)


def tune_stage(bundle: Bundle, dataset: Dataset, options: Options, settings: TuneSettings) -> Outcome:
    """Tune inside a locked bundle; see :func:`tune`. Nothing is written before all is measured."""
    model = read_model(bundle, FLOAT_MODEL, next_step="edgecnn export model.pt")
    job = calibration_job(bundle, dataset, model, settings.quantize_settings(), options, judges=True)
    job.recipes = settings.recipes()
    work = Work(
        bundle=bundle,
        stage="tune",
        inputs={FLOAT_MODEL: sha256_bytes(model), "data": dataset.sha256},
        settings=recorded_settings(settings, job, describe_machine()),
    )
    if not options.force and work.is_done() and _still_holds(bundle):
        return work.unchanged()
    pixels = _noise(settings.images_a_call, *input_size(bundle, FLOAT_MODEL), seed=settings.seed)
    with opened_meter(settings, model, pixels, options.progress) as (meter, machine):
        budget = Budget(seconds=settings.seconds)
        job.choose_images()
        found = _search(job, meter, budget, settings)
    log = tuning_record(found, job, settings, meter, machine)
    _write_int8(bundle, job, found)
    products, changes = _products(work, found, log, model)
    options.progress.say(f"{log.target}: {recommended_sentence(found)}")
    return work.finish(products, changes)


def _still_holds(bundle: Bundle) -> bool:
    """Tell whether the bundle's int8 model is still the one that was tuned."""
    manifest = bundle.manifest
    artifact = manifest.artifact(INT8_MODEL)
    if manifest.tuning is None or manifest.recommendation is None or artifact is None:
        return False
    return artifact.sha256 == manifest.tuning.int8_sha256


def _noise(batch: int, height: int, width: int, *, seed: int) -> "NDArray[np.uint8]":
    """Return random uint8 pixels ``[batch, H, W, 3]``: what is in a picture does not change how long it takes."""
    import numpy as np

    return np.random.default_rng(seed).integers(0, 256, (batch, height, width, 3), np.uint8)


def _search(job: CalibrationJob, meter: "Meter", budget: Budget, settings: TuneSettings) -> "Tuned":
    from edgecnn.quantization.keep_float import quantize_and_keep_float
    from edgecnn.quantization.sensitivity import layers_with_weights
    from edgecnn.tuning.maker import Maker
    from edgecnn.tuning.search import Search
    from edgecnn.tuning.stages import Stages

    def quantize(recipe: "Recipe") -> "Quantized":
        return quantize_and_keep_float(
            job.prepare(recipe), job.images, recipe, threads=job.threads, progress=job.progress
        )

    stages = Stages(
        maker=Maker(model=job.model, quantize=quantize, judge=job.judge(), rewriter=GraphRewriter()),
        meter=meter,
        budget=budget,
        max_drop_pp=settings.max_drop_pp,
        progress=job.progress,
    )
    search = Search(
        stages=stages,
        recipes=job.recipes,
        layers=lambda recipe: tuple(layers_with_weights(job.prepare(recipe).model)),
        objective=settings.objective,
        max_threads=settings.threads,
    )
    return search.run()


def _write_int8(bundle: Bundle, job: CalibrationJob, found: "Tuned") -> None:
    """Let the bundle's int8 model be the best int8, as ``edgecnn quantize`` would make it from the tuning."""
    from edgecnn.quantization.static import Quantized

    made = found.int8.made
    assert made is not None
    assert made.candidate.recipe is not None
    job.recipes, job.rewrites = [made.candidate.recipe], made.candidate.rewrites
    commit_quantized(bundle, job, Quantized(data=made.data, float_layers=made.float_layers), made.plain)


def _products(
    work: Work, found: "Tuned", log: TuningRecord, model: bytes
) -> tuple[list[tuple[Artifact, bytes]], dict[str, object]]:
    """Return a rewritten float model if it is what is recommended, and what the manifest says."""
    made = found.recommended.made
    assert made is not None
    name: Shipped = "int8.onnx" if made.candidate.form == "int8" else "float.onnx"
    products = []
    if made.candidate.form == "float" and made.candidate.rewrites:
        entry = describe_artifact("tune", FLOAT_TUNED_MODEL, made.data, parent_sha256=sha256_bytes(model))
        products.append((entry, made.data))
        name = "float_tuned.onnx"
    recommendation = recommendation_record(found, log, name, sha256_bytes(made.data))
    return products, {"tuning": log, "recommendation": recommendation}
