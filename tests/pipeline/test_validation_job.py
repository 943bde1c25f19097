"""Where the figures of one validation are kept: the bundle's own, each target's own, and what gave none."""

from pathlib import Path

import pytest

from edgecnn.bundle.manifest import FittedRecord, Manifest
from edgecnn.data import load
from edgecnn.pipeline.context import Options, working_on
from edgecnn.pipeline.fit import fit
from edgecnn.pipeline.quantize_settings import QuantizeSettings
from edgecnn.pipeline.validate import validate, validate_stage
from edgecnn.pipeline.validation_job import is_validated
from edgecnn.pipeline.verdict import Gates
from edgecnn.targets import TARGETS
from tests.bundles import missing_target, read_manifest
from tests.emulation import plant_target

OWN = "int8-xnnpack.onnx"
ANY = Gates(max_drop_pp=100, max_target_change_pp=100)


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """XNNPACK, as a process of this Python that answers as this CPU does."""
    name = plant_target(tmp_path / "bin", monkeypatch)
    monkeypatch.setitem(TARGETS, "xnnpack", TARGETS[name])
    return "xnnpack"


@pytest.fixture
def fitted(bundle_copy: Path, there: str) -> Path:
    fit([there], settings=QuantizeSettings(n_images=32), options=Options(bundle=bundle_copy))
    return bundle_copy


def own(manifest: Manifest) -> FittedRecord:
    (record,) = (one for one in manifest.fitted if one.is_own)
    return record


def places(manifest: Manifest) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return target and model of the bundle's figures, and of those of the model that is a target's own."""
    return tuple(  # type: ignore[return-value]
        [(one.target, one.int8_model) for one in found] for found in (manifest.validation, own(manifest).validation)
    )


def stage(folder: Path, *targets: str, cpu_nodes: dict[str, int] | None = None) -> bool:
    """Validate as a run does, and tell whether nothing was left to do."""
    dataset = load("digits", height=32, width=32)
    with working_on(folder) as bundle:
        outcome = validate_stage(
            bundle, dataset, Options(bundle=folder), targets, cpu_nodes=cpu_nodes, keep_going=len(targets) > 1
        )
        return outcome.unchanged


def test_each_targets_figures_stand_with_the_file_that_it_ran(fitted: Path) -> None:
    outcome, verdict = validate(targets=["cpu", "xnnpack"], gates=ANY, options=Options(bundle=fitted))
    assert places(read_manifest(fitted)) == ([("cpu", "int8.onnx")], [("xnnpack", OWN)])
    assert [(one.target, one.int8_model) for one in outcome.results] == [("cpu", "int8.onnx"), ("xnnpack", OWN)]
    settings = read_manifest(fitted).stages["validate"].settings
    assert settings["int8_models"] == {"xnnpack": OWN}
    assert f"accuracy drop on xnnpack, {OWN}" in [check.name for check in verdict.checks]
    report = (fitted / "report.md").read_text()
    assert f"| xnnpack | {OWN} |" in report


def test_naming_a_model_moves_no_other_models_figures(fitted: Path) -> None:
    options = Options(bundle=fitted)
    validate(targets=["cpu", "xnnpack"], gates=ANY, options=options)
    validate(targets=["cpu", "xnnpack"], model="int8.onnx", gates=ANY, options=options)
    assert places(read_manifest(fitted)) == ([("cpu", "int8.onnx"), ("xnnpack", "int8.onnx")], [("xnnpack", OWN)])
    validate(targets=["cpu"], model=OWN, gates=ANY, options=options)
    shared, of_own = places(read_manifest(fitted))
    assert shared == [("cpu", "int8.onnx"), ("xnnpack", "int8.onnx")]
    assert of_own == [("xnnpack", OWN), ("cpu", OWN)]


def test_a_stage_is_done_with_the_same_models_targets_and_nodes_alone(fitted: Path) -> None:
    assert not stage(fitted, "cpu", "xnnpack")
    assert stage(fitted, "cpu", "xnnpack")
    assert not stage(fitted, "cpu", "xnnpack", cpu_nodes={"xnnpack": 3, "cpu": 0})
    assert read_manifest(fitted).stages["validate"].settings["allow_cpu_nodes"] == {"xnnpack": 3}
    assert stage(fitted, "cpu", "xnnpack", cpu_nodes={"xnnpack": 3})
    validate(targets=["cpu", "xnnpack"], model="int8.onnx", gates=ANY, options=Options(bundle=fitted))
    assert "int8_models" not in read_manifest(fitted).stages["validate"].settings
    assert not stage(fitted, "cpu", "xnnpack")


def test_figures_that_someone_measured_anew_on_fewer_images_do_not_pass_for_the_stages(fitted: Path) -> None:
    stage(fitted, "cpu", "xnnpack")
    validate(model=OWN, gates=ANY, options=Options(bundle=fitted))
    assert stage(fitted, "cpu", "xnnpack"), "those on another target are not the stage's"
    validate(targets=["xnnpack"], model=OWN, n_images=20, gates=ANY, options=Options(bundle=fitted))
    assert not stage(fitted, "cpu", "xnnpack")
    assert {one.target: one.n for one in own(read_manifest(fitted)).validation} == {"cpu": 360, "xnnpack": 360}


def test_figures_that_went_with_a_model_that_was_made_again_are_measured_again(fitted: Path) -> None:
    stage(fitted, "cpu", "xnnpack")
    fit(["xnnpack"], settings=QuantizeSettings(n_images=32), options=Options(bundle=fitted, force=True))
    assert own(read_manifest(fitted)).validation == ()
    assert not stage(fitted, "cpu", "xnnpack")
    assert [one.target for one in own(read_manifest(fitted)).validation] == ["xnnpack"]


def test_a_stage_with_a_failure_is_not_done_and_an_answer_takes_its_place(
    fitted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = missing_target()
    stage(fitted, "cpu", missing)
    assert [one.target for one in read_manifest(fitted).validation_failures] == [missing]
    assert not stage(fitted, "cpu", missing)
    assert [one.target for one in read_manifest(fitted).validation_failures] == [missing], "told once"
    monkeypatch.setitem(TARGETS, missing, TARGETS["xnnpack"])
    assert not stage(fitted, "cpu", missing)
    assert read_manifest(fitted).validation_failures == ()
    assert stage(fitted, "cpu", missing)


def test_of_a_target_that_fails_neither_figures_nor_checks_are_left(
    fitted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(bundle=fitted)
    validate(targets=["cpu", "xnnpack"], gates=ANY, options=options)
    before = {check.name for check in read_manifest(fitted).checks}
    monkeypatch.setitem(TARGETS, "xnnpack", TARGETS[missing_target()])
    validate(targets=["cpu", "xnnpack"], gates=ANY, options=options)
    after = read_manifest(fitted)
    assert places(after) == ([("cpu", "int8.onnx")], [])
    assert {check.name for check in after.checks} == {name for name in before if "xnnpack" not in name}
    assert [one.target for one in after.validation_failures] == ["xnnpack"]


def test_checks_of_a_file_that_a_target_ran_before_do_not_outlive_its_figures(bundle_copy: Path, there: str) -> None:
    options = Options(bundle=bundle_copy)
    validate(targets=[there], n_images=40, gates=Gates(max_drop_pp=0, max_target_change_pp=0), options=options)
    manifest = read_manifest(bundle_copy)
    old = next(one for one in manifest.validation if one.target == there)
    renamed = old.model_copy(update={"int8_model": "int8_portable.onnx"})
    checks = [check.model_copy(update={"name": f"{check.name}, int8_portable.onnx"}) for check in manifest.checks]
    changed = {"validation": (renamed,), "checks": (*manifest.checks, *checks)}
    (bundle_copy / "manifest.json").write_text(manifest.model_copy(update=changed).model_dump_json())
    validate(targets=[there], gates=ANY, options=options)
    names = [check.name for check in read_manifest(bundle_copy).checks]
    assert f"accuracy drop on {there}" in names
    assert f"accuracy drop on {there}, int8_portable.onnx" not in names


def test_some_images_or_other_versions_are_not_a_validation(fitted: Path) -> None:
    dataset = load("digits", height=32, width=32)
    validate(targets=["xnnpack"], gates=ANY, options=Options(bundle=fitted))
    record = own(read_manifest(fitted))
    assert is_validated(record, "xnnpack", dataset)
    assert not is_validated(record, "cpu", dataset)


def test_the_audits_of_int8_onnx_are_not_told_of_another_model(fitted: Path) -> None:
    options = Options(bundle=fitted)
    outcome, _ = validate(targets=["cpu", "xnnpack"], gates=ANY, options=options)
    assert outcome.saturation is not None
    assert outcome.saturation == outcome.manifest.saturation
    assert outcome.fusion == outcome.manifest.fusion
    outcome, _ = validate(targets=["cpu"], model=OWN, gates=ANY, options=options)
    assert (outcome.saturation, outcome.fusion) == (None, None)
    assert outcome.manifest.saturation is not None
