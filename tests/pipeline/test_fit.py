"""``edgecnn quantize --for``: what each target is to run, beside what the bundle has, and nothing else changed."""

import json
from pathlib import Path

import onnx
import pytest

from edgecnn.errors import BundleError, DataError, ModelError, StageError, UsageError
from edgecnn.graph import onnx_file
from edgecnn.pipeline import fit as fit_module
from edgecnn.pipeline.context import Options
from edgecnn.pipeline.fit import Fitted, fit
from edgecnn.pipeline.quantize import quantize
from edgecnn.pipeline.quantize_settings import QuantizeSettings
from edgecnn.quantization import DEFAULT_RECIPE
from edgecnn.quantization.fit import FITS
from tests.bundles import fast_model, read_manifest, saturation_record, save_npz, snapshot, times
from tests.tunings import plant_tuning

FEW = QuantizeSettings(n_images=32)
OTHER = QuantizeSettings(n_images=32, recipe="u8s8-pertensor-minmax")
CHOICE = QuantizeSettings(n_images=32, n_held_out=64)


def go(
    folder: Path, *targets: str, settings: QuantizeSettings = FEW, force: bool = False, anyway: bool = False
) -> Fitted:
    return fit(targets, anyway=anyway, settings=settings, options=Options(bundle=folder, force=force))


def integer_types(data: bytes) -> set[int]:
    """Return the types of the zero points of a model's activations."""
    model = onnx_file.parse(data, "model")
    zeros = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    return {zeros[node.input[2]] for node in model.graph.node if node.op_type == "QuantizeLinear"}


def test_a_target_gets_a_model_of_its_own_and_all_that_was_there_stays(bundle_copy: Path) -> None:
    before, claims = snapshot(bundle_copy), read_manifest(bundle_copy)
    found = go(bundle_copy, "xnnpack")
    after, manifest = snapshot(bundle_copy), read_manifest(bundle_copy)
    assert set(after) - set(before) == {"int8-xnnpack.onnx"}
    assert {name for name in before if before[name] != after[name]} == {"manifest.json", "report.md"}
    assert (manifest.validation, manifest.latency, manifest.checks) == (
        claims.validation,
        claims.latency,
        claims.checks,
    )
    assert integer_types((bundle_copy / "int8-xnnpack.onnx").read_bytes()) == {onnx.TensorProto.INT8}
    (record,) = found.records
    assert record == manifest.fitted[0]
    assert (record.target, record.model, record.recipe) == ("xnnpack", "int8-xnnpack.onnx", FITS["xnnpack"].recipes[0])
    assert record.model_sha256 == after["int8-xnnpack.onnx"]
    assert "What to ship where" in (bundle_copy / "report.md").read_text()


def test_its_record_names_images_recipe_and_parent(bundle_copy: Path) -> None:
    go(bundle_copy, "xnnpack")
    manifest = read_manifest(bundle_copy)
    (record,) = manifest.fitted
    assert record.calibration is not None
    assert (record.calibration.n, record.calibration.split, len(record.calibration.image_sha256)) == (32, "train", 32)
    assert manifest.calibration is not None
    assert manifest.calibration.n == 512, "that of int8.onnx is another"
    artifact, floating = manifest.artifact(record.model), manifest.artifact("float.onnx")
    assert artifact is not None
    assert floating is not None
    assert (artifact.stage, artifact.parent_sha256) == ("fit", floating.sha256)
    assert manifest.stages["fit"].inputs == {"float.onnx": floating.sha256}
    settings = manifest.stages["fit"].settings["xnnpack"]
    assert isinstance(settings, dict)
    assert settings["recipe"]["name"] == record.recipe  # type: ignore[index,call-overload]
    assert manifest.data is not None
    assert settings["data"] == manifest.data.sha256
    assert record.saturation is not None
    assert record.saturation.can_saturate, "full 8-bit weights saturate where a CPU without VNNI runs them"


def test_a_second_time_nothing_is_done(bundle_copy: Path) -> None:
    go(bundle_copy, "xnnpack", "coreml", "any", settings=QuantizeSettings())
    before = snapshot(bundle_copy), times(bundle_copy)
    found = go(bundle_copy, "xnnpack", "coreml", "any", settings=QuantizeSettings())
    assert found.unchanged == ("xnnpack", "coreml", "any")
    assert (snapshot(bundle_copy), times(bundle_copy)) == before


def test_force_gives_the_same_bytes(bundle_copy: Path) -> None:
    go(bundle_copy, "xnnpack")
    before = snapshot(bundle_copy)["int8-xnnpack.onnx"]
    assert go(bundle_copy, "xnnpack", force=True).unchanged == ()
    assert snapshot(bundle_copy)["int8-xnnpack.onnx"] == before


@pytest.mark.parametrize("spoil", ["changed", "gone"])
def test_a_spoiled_model_is_made_again(bundle_copy: Path, spoil: str) -> None:
    go(bundle_copy, "xnnpack")
    whole = (bundle_copy / "int8-xnnpack.onnx").read_bytes()
    if spoil == "gone":
        (bundle_copy / "int8-xnnpack.onnx").unlink()
    else:
        (bundle_copy / "int8-xnnpack.onnx").write_bytes(whole + b"\0")
    assert go(bundle_copy, "xnnpack").unchanged == ()
    assert (bundle_copy / "int8-xnnpack.onnx").read_bytes() == whole


def test_qnn_is_chosen_by_what_was_measured(bundle_copy: Path) -> None:
    found = go(bundle_copy, "qnn", settings=CHOICE)
    (record,) = found.records
    assert record.choice is not None
    assert (record.choice.n, record.choice.max_drop_pp) == (64, 0.3)
    assert record.recipe in [one.recipe for one in record.choice.tries]
    model = onnx_file.parse((bundle_copy / "int8-qnn.onnx").read_bytes(), "model")
    assert model.graph.node[-1].op_type == "DequantizeLinear", "the answer, too, comes from integers"


def test_qnn_is_given_16_bits_where_that_is_asked_for_and_int8_stays_as_it_is(bundle_copy: Path) -> None:
    before = snapshot(bundle_copy)["int8.onnx"]
    recipe = FITS["qnn"].recipes[1]
    (record,) = go(bundle_copy, "qnn", settings=QuantizeSettings(n_images=32, recipe=recipe)).records
    assert (record.recipe, record.choice) == (recipe, None)
    assert integer_types((bundle_copy / "int8-qnn.onnx").read_bytes()) == {onnx.TensorProto.UINT16}
    assert snapshot(bundle_copy)["int8.onnx"] == before


def test_a_bundle_holds_models_for_several_targets(bundle_copy: Path) -> None:
    go(bundle_copy, "xnnpack")
    first = snapshot(bundle_copy)["int8-xnnpack.onnx"]
    go(bundle_copy, "qnn", settings=CHOICE)
    after, manifest = snapshot(bundle_copy), read_manifest(bundle_copy)
    assert {"int8.onnx", "int8-xnnpack.onnx", "int8-qnn.onnx"} <= set(after)
    assert after["int8-xnnpack.onnx"] == first
    assert [one.target for one in manifest.fitted] == ["xnnpack", "qnn"]
    assert set(manifest.stages["fit"].settings) == {"xnnpack", "qnn"}
    assert go(bundle_copy, "xnnpack").unchanged == ("xnnpack",)


def test_coreml_is_told_to_run_float_and_no_int8_is_made(bundle_copy: Path) -> None:
    before = snapshot(bundle_copy)
    (record,) = go(bundle_copy, "coreml").records
    assert (record.model, record.recipe, record.model_sha256) == ("float.onnx", None, before["float.onnx"])
    assert "CoreML takes no quantize" in record.reason
    assert set(snapshot(bundle_copy)) == set(before)


def test_coreml_gets_int8_if_it_is_wanted_anyway_and_loses_it_if_not(bundle_copy: Path) -> None:
    go(bundle_copy, "xnnpack")
    (record,) = go(bundle_copy, "coreml", anyway=True).records
    assert (record.model, record.recipe) == ("int8-coreml.onnx", DEFAULT_RECIPE)
    assert (bundle_copy / "int8-coreml.onnx").is_file()
    (record,) = go(bundle_copy, "coreml").records
    assert record.model == "float.onnx"
    assert not (bundle_copy / "int8-coreml.onnx").exists()
    assert [one.target for one in read_manifest(bundle_copy).fitted] == ["xnnpack", "coreml"]
    assert (bundle_copy / "int8-xnnpack.onnx").is_file()


def test_any_is_int8_by_the_default_recipe_and_that_is_audited(bundle_copy: Path) -> None:
    quantize(
        settings=QuantizeSettings(recipe="u8s8-pertensor-minmax", n_images=32), options=Options(bundle=bundle_copy)
    )
    (record,) = go(bundle_copy, "any").records
    assert (record.model, record.recipe) == ("int8.onnx", DEFAULT_RECIPE)
    recipe = read_manifest(bundle_copy).stages["quantize"].settings["recipe"]
    assert isinstance(recipe, dict)
    assert recipe["name"] == DEFAULT_RECIPE
    assert record.saturation is not None
    assert record.saturation.layers
    assert not record.saturation.can_saturate


class Listener:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def update(self, task: str, done: int, total: int, detail: str = "") -> None:
        pass


def test_any_says_that_it_takes_the_place_of_a_tuned_int8_and_how_to_get_that_back(bundle_copy: Path) -> None:
    plant_tuning(bundle_copy)
    quantize(settings=QuantizeSettings(), options=Options(bundle=bundle_copy))
    tuned = (bundle_copy / "int8.onnx").read_bytes()
    listener = Listener()
    options = Options(bundle=bundle_copy, progress=listener)
    fit(["any"], settings=QuantizeSettings(n_images=32), options=options)
    assert (bundle_copy / "int8.onnx").read_bytes() != tuned
    (told,) = [text for text in listener.said if "edgecnn quantize writes the tuned one again" in text]
    assert told.startswith("any: int8.onnx was rewritten for speed")
    quantize(settings=QuantizeSettings(), options=Options(bundle=bundle_copy))
    assert (bundle_copy / "int8.onnx").read_bytes() == tuned


def test_any_is_an_error_if_the_audit_finds_a_sum_that_does_not_fit(
    bundle_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audit = "edgecnn.quantization.saturation.audit_saturation"
    monkeypatch.setattr(audit, lambda data, name: saturation_record(unsafe=5))
    with pytest.raises(StageError, match=r"--for any: dot products of conv_2 can saturate") as caught:
        go(bundle_copy, "any")
    assert "sensitivity" in caught.value.next_step
    assert read_manifest(bundle_copy).fitted == ()
    assert go(bundle_copy, "cpu").records[0].saturation == saturation_record(unsafe=5), "said of a CPU, not refused"


def test_another_int8_takes_the_record_of_any_along_and_keeps_the_others(bundle_copy: Path) -> None:
    go(bundle_copy, "any", "coreml", "xnnpack")
    quantize(
        settings=QuantizeSettings(recipe="u8s8-pertensor-minmax", n_images=32), options=Options(bundle=bundle_copy)
    )
    assert {one.target for one in read_manifest(bundle_copy).fitted} == {"coreml", "xnnpack"}
    assert (bundle_copy / "int8-xnnpack.onnx").is_file()


def test_another_float_model_takes_all_of_it_along(bundle_copy: Path, tmp_path: Path) -> None:
    go(bundle_copy, "any", "coreml", "xnnpack")
    (tmp_path / "other.onnx").write_bytes(fast_model())
    quantize(tmp_path / "other.onnx", settings=FEW, options=Options(bundle=bundle_copy, force=True))
    manifest = read_manifest(bundle_copy)
    assert manifest.fitted == ()
    assert "fit" not in manifest.stages
    assert not (bundle_copy / "int8-xnnpack.onnx").exists()


def test_a_float_file_of_ones_own_gets_int8_and_the_targets_model(tmp_path: Path) -> None:
    (tmp_path / "mine.onnx").write_bytes(fast_model())
    data = save_npz(tmp_path / "images.npz", n_train=70, n_test=20, classes=10)
    options = Options(bundle=tmp_path / "bundle", data=str(data))
    settings = QuantizeSettings(n_images=32, recipe=FITS["xnnpack"].recipes[0])
    found = fit(["xnnpack"], model=tmp_path / "mine.onnx", settings=settings, options=options)
    assert found.manifest.stages["quantize"].settings["recipe"]["name"] == DEFAULT_RECIPE, "it is not for int8.onnx"  # type: ignore[index,call-overload]
    assert {"float.onnx", "int8.onnx", "int8-xnnpack.onnx"} <= set(snapshot(found.bundle))
    assert (found.bundle / "float.onnx").read_bytes() == fast_model()


def test_what_contradicts_itself_leaves_the_bundle_alone(bundle_copy: Path) -> None:
    before = snapshot(bundle_copy)
    for targets, settings in ((["nonsense"], FEW), (["any", "qnn"], QuantizeSettings(recipe=DEFAULT_RECIPE))):
        with pytest.raises(UsageError):
            go(bundle_copy, *targets, settings=settings)
    assert snapshot(bundle_copy) == before


def test_too_few_images_leave_the_bundle_alone(bundle_copy: Path) -> None:
    before = snapshot(bundle_copy)
    with pytest.raises(DataError, match="5000 calibration images"):
        go(bundle_copy, "xnnpack", settings=QuantizeSettings(n_images=5000))
    assert snapshot(bundle_copy) == before


def test_without_a_float_model_or_a_bundle_there_is_nothing_to_fit(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no manifest"):
        go(tmp_path / "nothing", "xnnpack")
    with pytest.raises(ModelError, match="expected a float ONNX model, found nothing"):
        fit(["xnnpack"], model=tmp_path / "none.onnx", options=Options(bundle=tmp_path / "bundle"))


def test_killed_before_the_manifest_nothing_is_claimed(bundle_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    before = snapshot(bundle_copy)
    monkeypatch.setattr(fit_module, "commit_fitted", die)
    with pytest.raises(KeyboardInterrupt):
        go(bundle_copy, "xnnpack")
    assert snapshot(bundle_copy) == before


def test_a_manifest_without_the_new_fields_is_read(bundle_copy: Path) -> None:
    path = bundle_copy / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["fitted"], manifest["predictions"]
    path.write_text(json.dumps(manifest))
    go(bundle_copy, "xnnpack")
    (record,) = read_manifest(bundle_copy).fitted
    assert record.model_sha256 == snapshot(bundle_copy)["int8-xnnpack.onnx"]
