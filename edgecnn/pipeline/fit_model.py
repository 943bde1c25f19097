"""The int8 model of a target's own: by its one recipe, or by the first of several that loses little enough."""

from typing import TYPE_CHECKING

from edgecnn.bundle import Bundle
from edgecnn.bundle.manifest import SearchRecord, TryRecord
from edgecnn.data import Dataset
from edgecnn.pipeline.calibration_job import CalibrationJob, calibration_job, judgement_fields
from edgecnn.pipeline.context import Options
from edgecnn.pipeline.fit_plan import job_settings
from edgecnn.pipeline.quantize_settings import QuantizeSettings
from edgecnn.quantization.fit import Fit
from edgecnn.quantization.recipes import Recipe

if TYPE_CHECKING:
    from edgecnn.quantization.static import Quantized


def fitting_job(
    bundle: Bundle, dataset: Dataset, model: bytes, row: Fit, settings: QuantizeSettings, options: Options
) -> CalibrationJob:
    """Return the job of quantizing for a target; images are held apart only where recipes are judged.

    Raises:
        DataError: there are too few training images.
    """
    job = calibration_job(bundle, dataset, model, job_settings(row, settings), options)
    job.recipes = row.candidates()
    return job


def make_fitted(job: CalibrationJob) -> "tuple[Quantized, Recipe, SearchRecord | None]":
    """Quantize by the job's recipe, or by the first of them that holds the budget on the images held apart.

    Returns:
        The model, the recipe, and what was tried, where there was a choice. If none holds the budget, the one that
        loses least.
    """
    job.choose_images()
    budget = job.settings.max_drop_pp
    if budget is None:
        (only,) = job.recipes
        job.progress.say(f"quantizing with {only.name}, on {len(job.images)} training images")
        return _quantize(job, only), only, None
    made: list[tuple[Quantized, Recipe, TryRecord]] = []
    judge = job.judge()
    for candidate in job.recipes:
        quantized = _quantize(job, candidate)
        judged = judgement_fields(judge(quantized.data))
        met = judged["drop_pp"] <= budget
        tried = TryRecord(**judged, recipe=candidate.name, float_layers=quantized.float_layers, met=met)
        job.progress.say(f"{candidate.name} loses {tried.drop_pp:+.2f} points on {len(job.held_out)} images held apart")
        made.append((quantized, candidate, tried))
        if met:
            break
    quantized, chosen, best = min(made, key=lambda one: (not one[2].met, one[2].drop_pp))
    tries = tuple(tried for *_, tried in made)
    return quantized, chosen, SearchRecord(max_drop_pp=budget, met=best.met, n=len(job.held_out), tries=tries)


def _quantize(job: CalibrationJob, recipe: Recipe) -> "Quantized":
    from edgecnn.quantization.keep_float import quantize_and_keep_float

    return quantize_and_keep_float(job.prepare(recipe), job.images, recipe, threads=job.threads, progress=job.progress)
