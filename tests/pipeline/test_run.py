"""All stages in order; what is done already is not done again, what was spoiled is."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgecnn.data import Images
from edgecnn.errors import BundleError, DataError, EdgecnnError, StageError, TargetError, UsageError
from edgecnn.measure.latency import BenchSettings
from edgecnn.pipeline.answers import Answer, Asking
from edgecnn.pipeline.context import Options
from edgecnn.pipeline.export import export
from edgecnn.pipeline.quantize import quantize
from edgecnn.pipeline.quantize_settings import QuantizeSettings
from edgecnn.pipeline.run import RunResult, RunSettings, run
from edgecnn.pipeline.verdict import Gates
from edgecnn.quantization import DEFAULT_RECIPE
from edgecnn.targets import TARGETS, Session, Target, open_session
from edgecnn.training import TrainingSettings
from tests.bundles import fast_model, missing_target, read_manifest, save_npz, snapshot, times
from tests.emulation import plant_target

STAGES = ["train", "export", "simplify", "quantize", "validate", "bench", "report"]
QUICK = BenchSettings(pairs=6, rounds=1, seconds=0.1)


def settings(
    *,
    epochs: int = 2,
    gates: Gates | None = None,
    model: str = "simplecnn",
    recipe: str | None = None,
    targets: tuple[str, ...] = ("cpu",),
    tune_seconds: float = 0,
    fit_targets: tuple[str, ...] = (),
) -> RunSettings:
    return RunSettings(
        model=model,
        training=TrainingSettings(epochs=epochs),
        quantize=QuantizeSettings(recipe=recipe),
        bench=QUICK,
        targets=targets,
        gates=gates or Gates(max_drop_pp=100),
        tune_seconds=tune_seconds,
        fit_targets=fit_targets,
    )


def go(folder: Path, chosen: RunSettings | None = None, *, data: str | None = None) -> RunResult:
    return run(settings=chosen or settings(), options=Options(bundle=folder, data=data))


def stages(result: RunResult, *, unchanged: bool) -> list[str]:
    return [outcome.stage for outcome in result.outcomes if outcome.unchanged is unchanged]


def test_the_finished_bundle_has_every_stage_and_file(finished_bundle: Path) -> None:
    manifest = read_manifest(finished_bundle)
    found = snapshot(finished_bundle)
    assert set(manifest.stages) == set(STAGES)
    assert sorted(found) == ["float.onnx", "int8.onnx", "manifest.json", "model.pt", "ranges.json", "report.md"]
    for name in found.keys() - {"manifest.json"}:
        artifact = manifest.artifact(name)
        assert artifact is not None
        assert artifact.sha256 == found[name]
        assert artifact.size_bytes == (finished_bundle / name).stat().st_size


def test_every_file_has_its_parent_back_to_the_checkpoint(finished_bundle: Path) -> None:
    manifest = read_manifest(finished_bundle)
    chain = [(artifact.stage, artifact.parent_sha256) for artifact in manifest.artifacts if artifact.stage != "report"]
    hashes = [artifact.sha256 for artifact in manifest.artifacts]
    assert chain == [
        ("train", None),
        ("export", hashes[0]),
        ("simplify", hashes[1]),
        ("quantize", hashes[2]),
        ("quantize", None),
    ]


def test_a_second_run_does_nothing(bundle_copy: Path) -> None:
    before = snapshot(bundle_copy), times(bundle_copy)
    result = go(bundle_copy)
    assert stages(result, unchanged=True) == STAGES
    assert result.verdict.passed
    assert result.manifest == read_manifest(bundle_copy)
    assert (snapshot(bundle_copy), times(bundle_copy)) == before


def test_another_recipe_begins_at_quantize(bundle_copy: Path) -> None:
    result = go(bundle_copy, settings(recipe="u8u8-perchannel-mse"))
    assert stages(result, unchanged=True) == ["train", "export", "simplify"]
    assert stages(result, unchanged=False) == ["quantize", "validate", "bench", "report"]
    assert result.unchanged == ("train", "export", "simplify")
    back = go(bundle_copy)
    assert stages(back, unchanged=False) == ["quantize", "validate", "bench", "report"]


@pytest.mark.parametrize(
    ("name", "again"),
    [
        ("int8.onnx", {"quantize"}),
        ("ranges.json", {"quantize"}),
        ("report.md", {"report"}),
        ("float.onnx", {"export", "simplify", "quantize", "validate", "bench"}),
    ],
)
def test_a_spoiled_file_is_made_again(bundle_copy: Path, name: str, again: set[str]) -> None:
    before = snapshot(bundle_copy)
    (bundle_copy / name).write_bytes((bundle_copy / name).read_bytes()[:-1])
    result = go(bundle_copy)
    # the report is made again if a stage took another tenth of a second
    assert set(stages(result, unchanged=False)) - {"report"} == again - {"report"}
    assert "report" not in again or "report" in stages(result, unchanged=False)
    if name != "report.md":
        assert snapshot(bundle_copy)[name] == before[name]


def test_a_spoiled_checkpoint_is_not_trained_over(bundle_copy: Path) -> None:
    (bundle_copy / "model.pt").write_bytes(b"mine")
    before = snapshot(bundle_copy)
    with pytest.raises(BundleError, match=r"model\.pt: is not the checkpoint that the manifest names"):
        go(bundle_copy)
    assert snapshot(bundle_copy) == before


def test_every_gate_is_in_the_verdict_and_the_manifest(bundle_copy: Path) -> None:
    result = go(bundle_copy, settings(gates=Gates(max_drop_pp=100, max_size_bytes=1000)))
    assert [(check.name, check.passed) for check in result.verdict.checks] == [
        ("accuracy drop on cpu", True),
        ("size of int8.onnx", False),
    ]
    assert result.verdict.exit_code == 1
    assert read_manifest(bundle_copy).checks == result.verdict.checks
    assert "FAILED" in (bundle_copy / "report.md").read_text()
    assert stages(result, unchanged=False) == ["report"], "a gate measures nothing anew"


def test_gates_that_are_not_asked_for_any_more_are_gone(bundle_copy: Path) -> None:
    go(bundle_copy, settings(gates=Gates(max_drop_pp=100, max_size_bytes=1000)))
    assert go(bundle_copy).verdict.passed
    assert [check.name for check in read_manifest(bundle_copy).checks] == ["accuracy drop on cpu"]


def test_the_images_of_the_bundle_are_used_unless_others_are_named(bundle_copy: Path) -> None:
    assert stages(go(bundle_copy, data="digits"), unchanged=True) == STAGES


def test_a_given_checkpoint_is_kept(finished_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    given = Path(shutil.copy(finished_bundle / "model.pt", tmp_path / "given.pt"))
    export(given, options=Options(bundle=folder))
    result = go(folder, settings(epochs=1))
    assert [outcome.stage for outcome in result.outcomes] == STAGES[1:]
    assert stages(result, unchanged=True) == ["export"]
    assert (folder / "model.pt").read_bytes() == given.read_bytes()


def test_a_given_float_model_is_kept(tmp_path: Path) -> None:
    (tmp_path / "mine.onnx").write_bytes(fast_model())
    images = save_npz(tmp_path / "images.npz", n_train=40, n_test=20, classes=10)
    folder = tmp_path / "bundle"
    quantize(tmp_path / "mine.onnx", options=Options(bundle=folder, data=str(images)))
    result = go(folder)
    assert [outcome.stage for outcome in result.outcomes] == STAGES[2:]
    assert "train" not in read_manifest(folder).stages
    assert not (folder / "model.pt").exists()
    assert stages(go(folder), unchanged=True) == STAGES[2:]


@pytest.mark.parametrize(
    ("chosen", "error", "words"),
    [
        (settings(model="vgg"), UsageError, "unknown model 'vgg'"),
        (settings(recipe="int2"), UsageError, "unknown recipe 'int2'"),
        (settings(targets=("cpu", "gpu")), UsageError, "unknown provider 'gpu'"),
        (settings(targets=("cpu", missing_target())), TargetError, "not available here"),
    ],
)
def test_a_wrong_name_is_met_before_any_work(
    tmp_path: Path, chosen: RunSettings, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        go(tmp_path / "bundle", chosen, data="digits")
    assert list(tmp_path.iterdir()) == []


def test_images_that_do_not_exist_make_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing at that path"):
        go(tmp_path / "bundle", data=str(tmp_path / "nowhere"))
    assert list(tmp_path.iterdir()) == []


def test_too_few_calibration_images_are_found_before_the_training(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected at least one calibration image, found 0"):
        run(
            settings=RunSettings(quantize=QuantizeSettings(n_images=0)),
            options=Options(bundle=tmp_path / "bundle", data="digits"),
        )
    assert not (tmp_path / "bundle").exists()


def test_an_emulated_target_is_validated_and_not_timed(
    bundle_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = plant_target(tmp_path / "bin", monkeypatch)
    result = go(bundle_copy, settings(targets=("cpu", name)))
    assert [row.target for row in result.manifest.validation] == ["cpu", name]
    assert [row.target for row in result.manifest.latency] == ["cpu"]
    assert stages(go(bundle_copy, settings(targets=("cpu", name))), unchanged=True) == STAGES
    alone = go(bundle_copy, settings(targets=(name,)))
    assert "bench" not in [outcome.stage for outcome in alone.outcomes]


def test_no_speedup_can_be_required_of_an_emulated_target(
    bundle_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = plant_target(tmp_path / "bin", monkeypatch)
    before = snapshot(bundle_copy)
    with pytest.raises(UsageError, match=f"{name}: is emulated"):
        go(bundle_copy, settings(targets=("cpu", name), gates=Gates(max_drop_pp=100, require_speedup=True)))
    assert snapshot(bundle_copy) == before


def test_a_run_tunes_within_its_time_and_quantizes_as_it_was_tuned(bundle_copy: Path) -> None:
    chosen = settings(recipe="u8s8-pertensor-minmax-reduced", tune_seconds=0.1)
    result = go(bundle_copy, chosen)
    order = [outcome.stage for outcome in result.outcomes]
    assert order == ["train", "export", "simplify", "tune", "quantize", "validate", "bench", "report"]
    assert stages(result, unchanged=True) == ["train", "export", "simplify", "quantize"]
    tuning = result.manifest.tuning
    assert tuning is not None
    assert tuning.chosen.recipe is not None
    assert tuning.chosen.recipe.startswith("u8s8-pertensor-minmax-reduced")
    int8 = result.manifest.artifact("int8.onnx")
    assert int8 is not None
    assert int8.sha256 == tuning.int8_sha256
    assert tuning.seconds == 0.1
    again = go(bundle_copy, chosen)
    assert stages(again, unchanged=False) == []


def test_without_time_or_a_clock_a_run_does_not_tune(
    bundle_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "tune" not in [outcome.stage for outcome in go(bundle_copy, settings(tune_seconds=0)).outcomes]
    name = plant_target(tmp_path / "bin", monkeypatch)
    assert settings(targets=(name,), tune_seconds=60).tuning is None


def test_a_run_tunes_for_its_first_target_with_a_clock_and_no_looser_than_its_gate() -> None:
    chosen = settings(targets=("cpu@haswell", "cpu", "xnnpack"), tune_seconds=60, gates=Gates(max_drop_pp=0.2)).tuning
    assert chosen is not None
    assert (chosen.target, chosen.max_drop_pp, chosen.seconds) == ("cpu", 0.2, 60)
    looser = settings(tune_seconds=60, gates=Gates(max_drop_pp=3)).tuning
    assert looser is not None
    assert looser.max_drop_pp == 0.5


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_the_time_of_a_tuning_is_a_number_of_seconds(seconds: float) -> None:
    with pytest.raises(UsageError, match="--tune-seconds must be at least 0 and finite"):
        RunSettings(tune_seconds=seconds)


# For a target.


def test_a_run_for_a_target_adds_its_model_and_validates_it_here(bundle_copy: Path) -> None:
    before = snapshot(bundle_copy)
    chosen = settings(fit_targets=("xnnpack", "coreml"))
    result = go(bundle_copy, chosen)
    after, manifest = snapshot(bundle_copy), result.manifest
    assert set(after) - set(before) == {"int8-xnnpack.onnx"}
    assert after["int8.onnx"] == before["int8.onnx"]
    assert stages(result, unchanged=False) == ["fit", "report"]
    own, to_float = manifest.fitted
    assert [(one.target, one.n) for one in own.validation] == [("cpu", manifest.validation[0].n)]
    assert (to_float.target, to_float.model) == ("coreml", "float.onnx")
    assert [check.name for check in result.verdict.checks][-1] == "accuracy drop on cpu, int8-xnnpack.onnx"
    again = go(bundle_copy, chosen)
    assert stages(again, unchanged=False) == []
    assert snapshot(bundle_copy) == after


def test_a_gate_is_held_against_the_targets_model_as_well(bundle_copy: Path) -> None:
    go(bundle_copy, settings(fit_targets=("xnnpack",)))
    drop = read_manifest(bundle_copy).fitted[0].validation[0].drop_pp
    verdict = go(bundle_copy, settings(fit_targets=("xnnpack",), gates=Gates(max_drop_pp=max(drop, 0)))).verdict
    assert [check.limit for check in verdict.checks] == [max(drop, 0)] * 2


def test_a_run_for_any_is_not_tuned_and_follows_the_default_recipe() -> None:
    chosen = settings(tune_seconds=60, fit_targets=("any",))
    assert chosen.tuning is None
    assert chosen.quantizing.recipe == DEFAULT_RECIPE
    other = settings(tune_seconds=60, fit_targets=("xnnpack",))
    assert other.tuning is not None
    assert other.quantizing == other.quantize


def test_a_recipe_and_a_target_contradict_each_other_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--for xnnpack chooses the recipe, --recipe u8s8-pertensor-minmax"):
        go(tmp_path / "bundle", settings(recipe="u8s8-pertensor-minmax", fit_targets=("xnnpack",)))
    with pytest.raises(UsageError, match="unknown target 'nonsense'"):
        go(tmp_path / "bundle", settings(fit_targets=("nonsense",)))
    assert list(tmp_path.iterdir()) == []


# Several targets.


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a target that is ready, the only one beside this CPU."""
    name = plant_target(tmp_path / "bin", monkeypatch)
    ready = [TARGETS["cpu"], TARGETS[name]]
    monkeypatch.setattr(Target, "why_not", lambda self: None if self in ready else "no")
    return name


def fail_on(name: str, monkeypatch: pytest.MonkeyPatch, error: type[EdgecnnError] = StageError) -> None:
    """Let a target give no answers."""
    ask = Asking.ask

    def refuse(self: Asking, target: str, model: str, images: Images) -> Answer:
        if target == name:
            raise error(f"{target}: its process failed", next_step="look at it")
        return ask(self, target, model, images)

    monkeypatch.setattr(Asking, "ask", refuse)


def test_all_means_every_target_that_is_ready_and_those_that_are_predicted(bundle_copy: Path, planted: str) -> None:
    result = go(bundle_copy, settings(targets=("all",)))
    assert [row.target for row in result.manifest.validation] == ["cpu", planted]
    assert [row.target for row in result.manifest.latency] == ["cpu"]
    assert {one.target for one in result.predictions} == {"coreml", "nnapi"}
    assert result.predictions == result.manifest.predictions
    assert (result.verdict.failures, result.verdict.exit_code) == ((), 0)
    before = snapshot(bundle_copy), times(bundle_copy)
    assert stages(go(bundle_copy, settings(targets=("all",))), unchanged=False) == []
    assert (snapshot(bundle_copy), times(bundle_copy)) == before
    assert go(bundle_copy).predictions == (), "they belong to all"


def test_all_is_tuned_on_this_cpu_and_may_be_asked_for_speed(bundle_copy: Path, planted: str) -> None:
    chosen = settings(targets=("all",), tune_seconds=60).tuning
    assert chosen is not None
    assert chosen.target == "cpu"
    gates = Gates(max_drop_pp=100, require_speedup=True)
    found = go(bundle_copy, settings(targets=("all",), gates=gates)).verdict
    assert [check.name for check in found.checks if "speedup" in check.name] == ["speedup on cpu, batch 1, 1 threads"]


@pytest.mark.parametrize(("error", "code"), [(StageError, 4), (TargetError, 5)])
def test_a_target_that_gives_no_answers_is_listed_beside_the_others_figures(
    bundle_copy: Path, planted: str, monkeypatch: pytest.MonkeyPatch, error: type[EdgecnnError], code: int
) -> None:
    with monkeypatch.context() as spoiled:
        fail_on(planted, spoiled, error)
        result = go(bundle_copy, settings(targets=("all",)))
    (failure,) = result.verdict.failures
    assert (failure.target, failure.reason, failure.next_step) == (
        planted,
        f"{planted}: its process failed",
        "look at it",
    )
    assert (result.verdict.passed, result.verdict.exit_code) == (False, code)
    assert [row.target for row in result.manifest.validation] == ["cpu"]
    assert [row.target for row in result.manifest.latency] == ["cpu"]
    assert "its process failed" in (bundle_copy / "report.md").read_text()
    assert go(bundle_copy).verdict.failures == (), "of a target that nobody asks now"
    again = go(bundle_copy, settings(targets=("all",)))
    assert stages(again, unchanged=False) == ["validate", "report"], "what was to be done about it may have been done"
    assert (again.verdict.failures, again.verdict.exit_code) == ((), 0)


def test_the_only_target_that_fails_is_an_error(
    bundle_copy: Path, planted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_on(planted, monkeypatch)
    with pytest.raises(StageError, match="its process failed"):
        go(bundle_copy, settings(targets=(planted,)))


def test_nodes_on_the_cpu_are_allowed_where_models_are_measured(
    bundle_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []
    opened = open_session

    def keep(*arguments: Any, **named: Any) -> Session:
        given.append(named["allow_cpu_nodes"])
        return opened(*arguments, **named)

    for module in ("edgecnn.targets", "edgecnn.pipeline.bench_models"):
        monkeypatch.setattr(f"{module}.open_session", keep)
    result = go(bundle_copy, replace(settings(), allow_cpu_nodes=7))
    assert set(given) == {7}
    assert stages(result, unchanged=False) == ["validate", "bench", "report"], "it is another question"
    for stage_name in ("validate", "bench"):
        assert result.manifest.stages[stage_name].settings["allow_cpu_nodes"] == {"cpu": 7}


def test_fewer_nodes_than_none_are_not_allowed() -> None:
    with pytest.raises(UsageError, match="--allow-cpu-nodes must not be below 0, found -1"):
        RunSettings(allow_cpu_nodes=-1)
