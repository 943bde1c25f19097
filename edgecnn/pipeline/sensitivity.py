"""``edgecnn sensitivity``: which layer loses what when it is quantized, on training images held apart."""

from pathlib import Path

from edgecnn.bundle.locate import newest_folder
from edgecnn.bundle.manifest import JudgementRecord, LayerSensitivityRecord, SensitivityRecord
from edgecnn.pipeline.calibration_job import calibration_job, finite, judgement_fields
from edgecnn.pipeline.context import Options, choose_dataset, input_size, working_on
from edgecnn.pipeline.export import FLOAT_MODEL
from edgecnn.pipeline.quantize_settings import QuantizeSettings
from edgecnn.pipeline.report import report_stage


def sensitivity(
    *, settings: QuantizeSettings | None = None, options: Options | None = None
) -> tuple[Path, SensitivityRecord]:
    """Quantize the bundle's ``float.onnx`` layer by layer, and write into the manifest what each costs.

    Args:
        settings: the recipe and the images; weights are rounded to the nearest and biases are not corrected, for these
            would hide what a layer itself costs.
        options: bundle (default: the newest), data (default: the bundle's), and so on.

    Returns:
        The bundle's folder, and what was measured.

    Raises:
        UsageError: no such recipe.
        BundleError: the bundle has no ``float.onnx``.
        ModelError: it cannot be quantized, or no layer has constant weights.
        DataError: there are not enough training images that are not test images.
    """
    from edgecnn.quantization.sensitivity import measure_sensitivity

    options, settings = options or Options(), settings or QuantizeSettings()
    settings.recipes()
    with working_on(options.bundle or newest_folder()) as bundle:
        dataset = choose_dataset(options, bundle.manifest, *input_size(bundle, FLOAT_MODEL))
        model = bundle.read(FLOAT_MODEL, next_step="edgecnn export model.pt")
        job = calibration_job(bundle, dataset, model, settings, options, judges=True)
        job.choose_images()
        chosen = job.recipes[0]
        found = measure_sensitivity(
            job.prepare(chosen), job.images, job.judge(), chosen, threads=job.threads, progress=job.progress
        )
        record = SensitivityRecord(
            recipe=found.recipe.name,
            n=len(job.held_out),
            whole=JudgementRecord(**judgement_fields(found.whole)),
            layers=tuple(
                LayerSensitivityRecord(
                    layer=layer.layer,
                    op=layer.op,
                    weight_sqnr_db=finite(layer.weight_sqnr_db),
                    activation_sqnr_db=finite(layer.activation_sqnr_db),
                    alone=JudgementRecord(**judgement_fields(layer.alone)),
                    all_but=JudgementRecord(**judgement_fields(layer.all_but)),
                )
                for layer in found.layers
            ),
        )
        bundle.amend({"sensitivity": record})
        if "report" in bundle.manifest.stages:  # one that is there tells of it
            report_stage(bundle)
        return bundle.folder, record
