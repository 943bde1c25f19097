"""``edgecnn targets predict``: CoreML and NNAPI, where they cannot run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgecnn.bundle import Bundle
from edgecnn.bundle.locate import newest_folder
from edgecnn.bundle.prediction import PredictionRecord
from edgecnn.errors import BundleError, ModelError
from edgecnn.pipeline.context import Options, read_model, working_on
from edgecnn.pipeline.export import FLOAT_MODEL
from edgecnn.pipeline.int8_choice import int8_for
from edgecnn.pipeline.report import report_stage
from edgecnn.targets.mobile_operators import predicted_targets
from edgecnn.targets.mobile_prediction import predict as predict_model


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """What was predicted, and of which bundle or file."""

    path: Path
    predictions: tuple[PredictionRecord, ...]


def predict(
    model: Path | str | None = None, *, targets: Sequence[str] | None = None, options: Options | None = None
) -> Predicted:
    """Predict how CoreML and NNAPI would partition a model, and write it into the manifest of a bundle.

    Args:
        model: an ONNX file, of which nothing is written; None for every model of the bundle.
        targets: ``coreml`` and ``nnapi``, or one of them; None for both.
        options: bundle (default: the newest).

    Raises:
        UsageError: a target is not predicted.
        ModelError: the file is no ONNX model.
        BundleError: the bundle has no model, or one was changed.
    """
    options = options or Options()
    if model is not None:
        path = Path(model)
        if not path.is_file():
            raise ModelError(f"{path}: expected an ONNX model, found no file.", next_step="name an .onnx file")
        return Predicted(path=path, predictions=_predict(path.read_bytes(), path.name, targets))
    with working_on(options.bundle or newest_folder()) as bundle:
        reported = "report" in bundle.manifest.stages
        found = predict_bundle(bundle, targets)
        if reported:
            report_stage(bundle)
        return Predicted(path=bundle.folder, predictions=found)


def predict_bundle(bundle: Bundle, targets: Sequence[str] | None = None) -> tuple[PredictionRecord, ...]:
    """Predict every model of a locked bundle, and write it into the manifest; see :func:`predict`.

    Predictions of other targets, and of files that have not changed, are kept.
    """
    names = list(dict.fromkeys(a.path for a in bundle.manifest.artifacts if a.path.endswith(".onnx")))
    if not names:
        raise BundleError(f"{bundle.folder}: the bundle has no {FLOAT_MODEL} yet.", next_step="edgecnn export model.pt")
    models = {name: read_model(bundle, name, next_step="edgecnn run") for name in names}
    found = [one for name, data in models.items() for one in _predict(data, name, targets)]
    replaced = {(one.target, one.form, one.model) for one in found}
    kept = [old for old in bundle.manifest.predictions if (old.target, old.form, old.model) not in replaced]
    bundle.amend({"predictions": (*kept, *found)})
    return tuple(found)


def predict_shipped(bundle: Bundle) -> tuple[PredictionRecord, ...]:
    """Predict every model, and return what is said of those that a provider would be given: float, and its int8."""
    return tuple(one for one in predict_bundle(bundle) if one.model in (FLOAT_MODEL, int8_for(bundle, one.target)))


def _predict(data: bytes, name: str, targets: Sequence[str] | None) -> tuple[PredictionRecord, ...]:
    wanted = dict.fromkeys(predicted_targets() if targets is None else targets)
    return tuple(one for target in wanted for one in predict_model(data, name=name, target=target))
