"""``edgecnn targets predict``: every model of a bundle, written into its manifest, or one file."""

from pathlib import Path

import pytest

from edgecnn.errors import BundleError, ModelError, UsageError
from edgecnn.pipeline.context import Options, working_on
from edgecnn.pipeline.fit import fit
from edgecnn.pipeline.predict import predict, predict_shipped
from edgecnn.pipeline.quantize import PORTABLE_MODEL, quantize
from edgecnn.pipeline.quantize_settings import QuantizeSettings
from tests.bundles import plant, read_manifest, snapshot, times
from tests.tunings import plant_tuning


def rows(folder: Path) -> set[tuple[str, str | None, str]]:
    return {(one.target, one.form, one.model) for one in read_manifest(folder).predictions}


def test_both_models_are_predicted_on_both_targets_and_the_report_says_so(bundle_copy: Path) -> None:
    before = snapshot(bundle_copy)
    found = predict(options=Options(bundle=bundle_copy))
    forms = [("coreml", "NeuralNetwork"), ("coreml", "MLProgram"), ("nnapi", None)]
    assert rows(bundle_copy) == {(*form, model) for form in forms for model in ("float.onnx", "int8.onnx")}
    assert read_manifest(bundle_copy).predictions == found.predictions
    assert {one.model_sha256 for one in found.predictions} == {before["float.onnx"], before["int8.onnx"]}
    by_model = {(one.form, one.model): one.partitions for one in found.predictions}
    assert by_model["MLProgram", "float.onnx"] == 1
    assert by_model["MLProgram", "int8.onnx"] == 8
    report = (bundle_copy / "report.md").read_text()
    assert "## Predicted, not run" in report
    assert "coreml MLProgram: ship float.onnx: 1 partition; 8 partitions in int8.onnx" in report
    manifest = read_manifest(bundle_copy)
    assert manifest.validation, "what was measured stays"
    assert manifest.latency


def test_a_second_time_nothing_changes(bundle_copy: Path) -> None:
    predict(options=Options(bundle=bundle_copy))
    before = snapshot(bundle_copy), times(bundle_copy)
    predict(options=Options(bundle=bundle_copy))
    assert (snapshot(bundle_copy), times(bundle_copy)) == before


def test_one_target_leaves_the_other_as_it_was(bundle_copy: Path) -> None:
    assert {one.target for one in predict(targets=["nnapi"], options=Options(bundle=bundle_copy)).predictions} == {
        "nnapi"
    }
    predict(targets=["coreml"], options=Options(bundle=bundle_copy))
    assert {target for target, *_ in rows(bundle_copy)} == {"coreml", "nnapi"}


def test_a_targets_own_model_is_predicted_as_well(bundle_copy: Path) -> None:
    fit(["xnnpack"], settings=QuantizeSettings(n_images=16), options=Options(bundle=bundle_copy))
    found = predict(targets=["nnapi"], options=Options(bundle=bundle_copy)).predictions
    taken = {one.model: one.supported_nodes for one in found}
    assert taken["int8-xnnpack.onnx"] == 0, "NNAPI takes no signed activations"
    assert taken["int8.onnx"] > 0


def test_another_int8_takes_its_prediction_along(bundle_copy: Path) -> None:
    predict(options=Options(bundle=bundle_copy))
    quantize(settings=QuantizeSettings(recipe="u8s8-pertensor-minmax"), options=Options(bundle=bundle_copy))
    assert {model for *_, model in rows(bundle_copy)} == {"float.onnx"}


def test_a_file_is_predicted_and_nothing_is_written(finished_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.onnx").write_bytes((finished_bundle / "float.onnx").read_bytes())
    found = predict(tmp_path / "mine.onnx", targets=["coreml"])
    assert [(one.model, one.partitions) for one in found.predictions] == [("mine.onnx", 1)] * 2
    assert list(snapshot(tmp_path)) == ["mine.onnx"]


def test_what_cannot_be_predicted_is_refused(bundle_copy: Path, tmp_path: Path) -> None:
    before = snapshot(bundle_copy)
    with pytest.raises(UsageError, match="qnn: is not predicted"):
        predict(targets=["qnn"], options=Options(bundle=bundle_copy))
    with pytest.raises(ModelError, match="expected an ONNX model, found no file"):
        predict(tmp_path / "none.onnx")
    with pytest.raises(BundleError, match="no manifest"):
        predict(options=Options(bundle=tmp_path))
    (bundle_copy / "int8.onnx").write_bytes(b"changed")
    with pytest.raises(BundleError, match="the file was changed"):
        predict(options=Options(bundle=bundle_copy))
    assert snapshot(bundle_copy) == before | {"int8.onnx": snapshot(bundle_copy)["int8.onnx"]}


def test_a_manifest_that_vouches_for_what_is_no_model_is_refused(bundle_copy: Path) -> None:
    plant(bundle_copy, "int8.onnx", b"\xff" * 50)
    with pytest.raises(ModelError, match=r"int8\.onnx"):
        predict(options=Options(bundle=bundle_copy))


def test_of_what_is_shipped_the_file_that_a_provider_would_get_is_told(bundle_copy: Path) -> None:
    plant_tuning(bundle_copy)
    quantize(options=Options(bundle=bundle_copy))
    fit(["xnnpack"], settings=QuantizeSettings(n_images=16), options=Options(bundle=bundle_copy))
    with working_on(bundle_copy) as bundle:
        told = {(one.target, one.model) for one in predict_shipped(bundle)}
    models = ("float.onnx", PORTABLE_MODEL)
    assert told == {(target, model) for target in ("coreml", "nnapi") for model in models}
    written = {model for *_, model in rows(bundle_copy)}
    assert written == {"float.onnx", "int8.onnx", PORTABLE_MODEL, "int8-xnnpack.onnx"}, "all are in the manifest"


def test_where_nothing_was_rewritten_int8_onnx_is_what_a_provider_would_get(bundle_copy: Path) -> None:
    with working_on(bundle_copy) as bundle:
        assert {one.model for one in predict_shipped(bundle)} == {"float.onnx", "int8.onnx"}
