"""A prediction in the manifest: strict as everything there, and never mistaken for a measurement."""

import pytest
from pydantic import ValidationError

from edgecnn.bundle import Manifest
from edgecnn.bundle.folder import to_json
from edgecnn.bundle.manifest import ValidationResult
from edgecnn.bundle.prediction import PredictionRecord
from tests.bundles import prediction_record


def test_a_prediction_is_read_back_from_a_manifest_as_it_was_written() -> None:
    made = Manifest(edgecnn_version="1", predictions=(prediction_record(),))
    assert Manifest.model_validate_json(to_json(made)).predictions == (prediction_record(),)


@pytest.mark.parametrize(
    "change",
    [
        {"nodes": 0},
        {"partitions": -1},
        {"suitability": "surely"},
        {"form": "Espresso"},
        {"model_sha256": "short"},
        {"float_top1": 0.7},
    ],
)
def test_what_is_no_prediction_is_refused(change: dict[str, object]) -> None:
    fields = prediction_record().model_dump()
    with pytest.raises(ValidationError, match=next(iter(change))):
        PredictionRecord.model_validate(fields | change)


def test_it_has_no_accuracy_and_no_latency() -> None:
    assert not {"float_top1", "int8_top1", "n", "measured_at", "machine"} & set(PredictionRecord.model_fields)
    assert {"float_top1", "n", "machine"} <= set(ValidationResult.model_fields), "the names are those of measurements"
