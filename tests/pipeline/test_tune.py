"""Tuning a bundle: what is written, what follows it, and that nothing is written before all is measured."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import pytest
from onnx import helper

from edgecnn.bundle.atomic import sha256_bytes
from edgecnn.bundle.manifest import MachineRecord, Manifest
from edgecnn.errors import BundleError, ExitCode, TargetError, UsageError
from edgecnn.measure.machine import describe_machine
from edgecnn.pipeline import tune as stage
from edgecnn.pipeline.context import Options, Outcome, Work
from edgecnn.pipeline.quantize import quantize
from edgecnn.pipeline.quantize_settings import QuantizeSettings
from edgecnn.pipeline.tune import tune
from edgecnn.pipeline.tune_settings import TuneSettings
from edgecnn.quantization.recipes import recipe
from edgecnn.tuning.candidate import Candidate
from tests.bundles import missing_target, read_manifest, snapshot
from tests.emulation import plant_target
from tests.tuning.fakes import FakeMeter

RECIPE = "u8s8-pertensor-minmax-reduced"
OTHER = "u8s8-perchannel-minmax"
QUICK = TuneSettings(recipe=RECIPE, n_images=64, n_held_out=200, seconds=5, max_drop_pp=100)
Cost = Callable[[Candidate], float]
Play = Callable[[Cost], FakeMeter]


class Told:
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def update(self, task: str, done: int, total: int, detail: str = "") -> None:
        assert done <= total


def int8_wins(one: Candidate) -> float:
    return 10.0 + 3 * (one.session != "default") if one.recipe else 20.0


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Play:
    """Return what puts made-up costs in the place of the clock."""

    def put(cost: Cost) -> FakeMeter:
        meter = FakeMeter(cost)

        @contextlib.contextmanager
        def opened(*_: object) -> Iterator[tuple[FakeMeter, MachineRecord]]:
            yield meter, describe_machine()

        monkeypatch.setattr(stage, "opened_meter", opened)
        return meter

    return put


def go(bundle: Path, settings: TuneSettings = QUICK, *, force: bool = False, told: Told | None = None) -> Outcome:
    return tune(settings=settings, options=Options(bundle=bundle, force=force, progress=told or Told()))


def model(bundle: Path, name: str = "int8.onnx") -> bytes:
    return (bundle / name).read_bytes()


def test_int8_follows_the_choice_and_the_manifest_says_all(bundle_copy: Path, play: Play) -> None:
    play(int8_wins)
    before = model(bundle_copy)
    found = go(bundle_copy).manifest
    assert found.tuning is not None
    assert found.recommendation is not None
    assert model(bundle_copy) != before
    assert found.tuning.int8_sha256 == sha256_bytes(model(bundle_copy)) == found.recommendation.sha256
    assert found.tuning.float_sha256 == sha256_bytes(model(bundle_copy, "float.onnx"))
    assert (found.tuning.chosen.recipe, found.tuning.met, found.tuning.n_images) == (RECIPE, True, 64)
    assert {row.stage for row in found.tuning.candidates} >= {"recipes", "session", "final"}
    assert found.recommendation.model == "int8.onnx"
    assert found.recommendation.speedup.median == 2
    assert found.stages["quantize"].settings["recipe"] == found.tuning.recipe
    assert read_manifest(bundle_copy) == found


def test_what_was_claimed_of_the_old_int8_is_struck(bundle_copy: Path, play: Play) -> None:
    play(int8_wins)
    found = go(bundle_copy).manifest
    assert (found.validation, found.latency) == ((), ())
    assert {"validate", "bench"} & set(found.stages) == set()


def test_the_report_tells_of_it(bundle_copy: Path, play: Play) -> None:
    play(int8_wins)
    go(bundle_copy)
    text = (bundle_copy / "report.md").read_text()
    assert "## Tuning (`tuning`)" in text
    assert "**Ship int8.onnx on cpu" in text


def test_a_real_clock_tunes_within_a_few_heats(bundle_copy: Path) -> None:
    settings = dataclasses.replace(QUICK, seconds=0.2)
    found = go(bundle_copy, settings).manifest
    assert found.tuning is not None
    assert found.tuning.unit == "us"
    measured = [row for row in found.tuning.candidates if row.cost is not None]
    assert {row.configuration.name for row in measured} >= {"float", RECIPE}
    assert all(row.heats >= 6 for row in measured)
    assert [row for row in found.tuning.candidates if row.dropped == "not tried: the time was over"]


def test_done_once_it_is_not_done_again_unless_forced(bundle_copy: Path, play: Play) -> None:
    meter = play(int8_wins)
    go(bundle_copy)
    races = len(meter.measured)
    assert go(bundle_copy).unchanged
    assert len(meter.measured) == races
    assert not go(bundle_copy, force=True).unchanged
    assert not go(bundle_copy, dataclasses.replace(QUICK, objective="size")).unchanged


def test_the_same_measurements_give_the_same_bytes(bundle_copy: Path, play: Play) -> None:
    play(int8_wins)
    go(bundle_copy)
    first = model(bundle_copy)
    go(bundle_copy, force=True)
    assert model(bundle_copy) == first


def test_quantize_makes_again_what_was_tuned_and_says_so(bundle_copy: Path, play: Play) -> None:
    play(int8_wins)
    go(bundle_copy)
    tuned, told = model(bundle_copy), Told()
    assert quantize(options=Options(bundle=bundle_copy, progress=told)).unchanged
    outcome = quantize(options=Options(bundle=bundle_copy, force=True, progress=told))
    assert model(bundle_copy) == tuned
    assert told.said[0] == f"as tuned for cpu: {RECIPE} (--recipe chooses another)"
    assert outcome.manifest.recommendation is not None


def test_a_named_recipe_is_not_overruled_and_strikes_the_recommendation(bundle_copy: Path, play: Play) -> None:
    play(int8_wins)
    go(bundle_copy)
    tuned = model(bundle_copy)
    outcome = quantize(settings=QuantizeSettings(recipe=OTHER), options=Options(bundle=bundle_copy))
    assert model(bundle_copy) != tuned
    assert outcome.manifest.recommendation is None
    assert outcome.manifest.tuning is not None, "it belongs to float.onnx"
    assert not go(bundle_copy).unchanged, "its int8 is not there any more"
    assert model(bundle_copy) == tuned


def test_a_tuning_of_another_float_model_is_not_applied(bundle_copy: Path, play: Play) -> None:
    play(int8_wins)
    go(bundle_copy)
    float_ = onnx.load_from_string(model(bundle_copy, "float.onnx"))
    float_.graph.doc_string = "another"
    path = bundle_copy.parent / "other.onnx"
    path.write_bytes(float_.SerializeToString())
    told = Told()
    options = Options(bundle=bundle_copy, force=True, progress=told)
    outcome = quantize(path, settings=QuantizeSettings(n_images=64), options=options)
    assert not [line for line in told.said if "as tuned" in line]
    assert (outcome.manifest.tuning, outcome.manifest.recommendation) == (None, None)


def test_a_tuning_from_another_machine_is_used_and_that_is_said(
    bundle_copy: Path, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(int8_wins)
    go(bundle_copy)
    here = describe_machine().model_copy(update={"cpu": "Another CPU", "architecture": "riscv64"})
    monkeypatch.setattr("edgecnn.measure.machine.describe_machine", lambda: here)
    told = Told()
    quantize(options=Options(bundle=bundle_copy, force=True, progress=told))
    assert "that was measured on another machine" in told.said[0]
    assert "not on this Another CPU (riscv64): edgecnn tune measures here" in told.said[0]


class OneMoreNode:
    """A rewriter of float that adds a node, so that the file is another one."""

    def rewrite(self, data: bytes, names: object, *, name: str) -> tuple[bytes, tuple[str, ...]]:
        changed = onnx.load_from_string(data)
        output = changed.graph.output[0].name
        changed.graph.node[-1].output[0] = "before"
        changed.graph.node.append(helper.make_node("Identity", ["before"], [output], name="more"))
        return changed.SerializeToString(), ()

    def plans(self, data: bytes, *, form: str) -> tuple[tuple[str, ...], ...]:
        return ((), ("more",)) if form == "float" else ((),)


def test_a_rewritten_float_that_wins_is_a_file_of_its_own(
    bundle_copy: Path, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "GraphRewriter", OneMoreNode)
    play(lambda one: 30.0 if one.recipe else 20.0 - 8 * len(one.rewrites) + 9 * (one.session != "default"))
    before = model(bundle_copy, "float.onnx")
    found = go(bundle_copy).manifest
    assert found.recommendation is not None
    assert found.recommendation.model == "float_tuned.onnx"
    assert found.recommendation.sha256 == sha256_bytes(model(bundle_copy, "float_tuned.onnx"))
    assert found.artifact("float_tuned.onnx") is not None
    assert model(bundle_copy, "float.onnx") == before, "the reference is never replaced"
    play(int8_wins)
    go(bundle_copy, force=True)
    assert not (bundle_copy / "float_tuned.onnx").exists(), "no claim covers it any more"


def test_where_float_is_faster_float_is_recommended_and_int8_is_the_best_int8(bundle_copy: Path, play: Play) -> None:
    play(lambda one: 30.0 if one.recipe else 20.0 + 3 * (one.session != "default"))
    found = go(bundle_copy).manifest
    assert found.recommendation is not None
    assert found.recommendation.model == "float.onnx"
    assert "float is faster here: the best int8 takes 1.50 times as long" in found.recommendation.why
    assert found.tuning is not None
    assert found.tuning.int8_sha256 == sha256_bytes(model(bundle_copy))


def test_ctrl_c_in_a_race_leaves_the_bundle_as_it_was(bundle_copy: Path, play: Play) -> None:
    def stop(one: Candidate) -> float:
        if one.session != "default":
            raise KeyboardInterrupt
        return int8_wins(one)

    play(stop)
    before = snapshot(bundle_copy)
    with pytest.raises(KeyboardInterrupt):
        go(bundle_copy)
    assert snapshot(bundle_copy) == before


def test_killed_between_the_two_writes_it_is_not_done_and_the_next_call_finishes(
    bundle_copy: Path, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(int8_wins)
    finish = Work.finish

    def die(self: Work, *arguments: object) -> Outcome:
        if self.stage == "tune":
            raise KeyboardInterrupt
        return finish(self, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Work, "finish", die)
        with pytest.raises(KeyboardInterrupt):
            go(bundle_copy)
    found = read_manifest(bundle_copy)
    assert (found.tuning, "tune" in found.stages) == (None, False)
    assert found.stages["quantize"].outputs["int8.onnx"] == sha256_bytes(model(bundle_copy))
    assert go(bundle_copy).manifest.recommendation is not None


@pytest.mark.parametrize(
    ("target", "error", "words"),
    [
        ("warp", UsageError, "unknown provider 'warp'; known: cpu"),
        (missing_target(), TargetError, "not available here"),
    ],
)
def test_a_target_that_is_not_there_is_said_before_anything_is_read(
    bundle_copy: Path, target: str, error: type[Exception], words: str
) -> None:
    before = snapshot(bundle_copy)
    with pytest.raises(error, match=words):
        go(bundle_copy, dataclasses.replace(QUICK, target=target))
    assert snapshot(bundle_copy) == before


def test_an_emulated_target_without_counting_says_what_to_type(
    bundle_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = plant_target(tmp_path / "bin", monkeypatch)
    monkeypatch.setenv("EDGECNN_CACHE", str(tmp_path / "cache"))
    with pytest.raises(TargetError, match="instructions cannot be counted here: no qemu-") as caught:
        go(bundle_copy, dataclasses.replace(QUICK, target=name))
    assert caught.value.exit_code == ExitCode.TARGET_UNAVAILABLE
    assert caught.value.next_step == f"edgecnn targets install {name} --count"


def test_instructions_are_counted_with_one_thread(
    bundle_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgecnn.pipeline.tune_settings.available_cpus", lambda: 2)
    name = plant_target(tmp_path / "bin", monkeypatch)
    with pytest.raises(UsageError, match="with one thread; found --threads 2"):
        go(bundle_copy, dataclasses.replace(QUICK, target=name, threads=2))


def test_a_fixed_batch_that_does_not_fit_is_refused(bundle_copy: Path) -> None:
    fixed = onnx.load_from_string(model(bundle_copy, "float.onnx"))
    for value in (fixed.graph.input[0], fixed.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    path = bundle_copy.parent / "fixed.onnx"
    path.write_bytes(fixed.SerializeToString())
    options = Options(bundle=bundle_copy, force=True)
    quantize(path, settings=QuantizeSettings(recipe=RECIPE, n_images=64), options=options)
    with pytest.raises(UsageError, match="has the fixed batch 4; --batch 1 cannot be measured"):
        go(bundle_copy)


def test_without_a_float_model_there_is_nothing_to_tune(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(Manifest(edgecnn_version="0").model_dump_json())
    with pytest.raises(BundleError, match=r"has no float\.onnx yet"):
        go(tmp_path)


def test_the_recipe_in_the_manifest_is_the_whole_recipe(bundle_copy: Path, play: Play) -> None:
    from edgecnn.pipeline.tuned import read_recipe

    play(int8_wins)
    found = go(bundle_copy).manifest.tuning
    assert found is not None
    assert read_recipe(found) == dataclasses.replace(recipe(RECIPE), summary="")
