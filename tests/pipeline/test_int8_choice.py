"""Which int8 model each target runs: its own, the portable one, or that of the CPU."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgecnn.bundle import Bundle
from edgecnn.errors import BundleError, TargetError
from edgecnn.measure.bench_settings import BenchSettings
from edgecnn.pipeline.bench import bench
from edgecnn.pipeline.bench_models import Models
from edgecnn.pipeline.context import Options
from edgecnn.pipeline.fit import fit
from edgecnn.pipeline.int8_choice import advice_without_twin, choose_int8, int8_for, read_int8
from edgecnn.pipeline.quantize import PORTABLE_MODEL, quantize
from edgecnn.pipeline.quantize_settings import QuantizeSettings
from edgecnn.pipeline.validate import validate
from edgecnn.targets import TARGETS, reference_session
from edgecnn.targets.worker_session import WorkerSession
from tests.bundles import read_manifest, snapshot
from tests.environments import fake_environment, make, plant_environment
from tests.tunings import plant_tuning

QUICK = BenchSettings(pairs=6, rounds=1, seconds=0.1)


@pytest.fixture
def tuned(bundle_copy: Path) -> Path:
    """A bundle whose int8.onnx was rewritten."""
    plant_tuning(bundle_copy)
    quantize(options=Options(bundle=bundle_copy))
    return bundle_copy


def test_a_rewritten_model_has_its_twin_beside_it(tuned: Path) -> None:
    manifest = read_manifest(tuned)
    files = {artifact.path: artifact.sha256 for artifact in manifest.artifacts}
    assert files["int8.onnx"] != files[PORTABLE_MODEL]
    pixels = np.random.default_rng(0).random((16, 3, 32, 32), np.float32)
    int8, portable = (
        reference_session((tuned / name).read_bytes(), model_name=name).run(pixels)
        for name in ("int8.onnx", PORTABLE_MODEL)
    )
    assert np.array_equal(int8, portable)
    assert np.ptp(int8) > 0


def test_what_is_made_again_has_it_again_and_what_is_not_rewritten_has_none(tuned: Path) -> None:
    before = snapshot(tuned)
    assert quantize(options=Options(bundle=tuned)).unchanged
    quantize(options=Options(bundle=tuned, force=True))
    assert {name: sha256 for name, sha256 in snapshot(tuned).items() if name.endswith(".onnx")} == {
        name: sha256 for name, sha256 in before.items() if name.endswith(".onnx")
    }
    quantize(settings=QuantizeSettings(recipe="u8s8-perchannel-minmax", n_images=32), options=Options(bundle=tuned))
    assert not (tuned / PORTABLE_MODEL).exists()


@pytest.mark.parametrize("target", [*TARGETS, "cpu@ssh://me@board"])
def test_only_the_cpus_kernels_run_what_was_rewritten_for_them(tuned: Path, target: str) -> None:
    cpu = target.partition("@")[0] in ("cpu", "wasm")
    assert int8_for(Bundle.open(tuned), target) == ("int8.onnx" if cpu else PORTABLE_MODEL)


@pytest.mark.parametrize("target", TARGETS)
def test_where_nothing_was_rewritten_there_is_one_int8(bundle_copy: Path, target: str) -> None:
    assert int8_for(Bundle.open(bundle_copy), target) == "int8.onnx"


def test_what_was_made_for_a_target_goes_first(tuned: Path) -> None:
    fit(["xnnpack", "coreml"], settings=QuantizeSettings(n_images=32), options=Options(bundle=tuned))
    bundle = Bundle.open(tuned)
    assert choose_int8(bundle, ["cpu", "xnnpack", "coreml", "openvino"]) == {
        "cpu": "int8.onnx",
        "xnnpack": "int8-xnnpack.onnx",
        "coreml": PORTABLE_MODEL,  # it is to ship float; nothing was made for it
        "openvino": PORTABLE_MODEL,
    }
    assert choose_int8(bundle, ["cpu", "xnnpack"], "int8.onnx") == {"cpu": "int8.onnx", "xnnpack": "int8.onnx"}
    assert choose_int8(bundle, ["cpu"], PORTABLE_MODEL) == {"cpu": PORTABLE_MODEL}
    with pytest.raises(BundleError, match=r"no int8 model int8-qnn\.onnx; it has int8-xnnpack\.onnx"):
        choose_int8(bundle, ["qnn"], "int8-qnn.onnx")


def test_the_same_words_hold_for_every_machine_of_a_provider(tuned: Path) -> None:
    fit(["qnn"], settings=QuantizeSettings(n_images=32, n_held_out=50), options=Options(bundle=tuned))
    assert {int8_for(Bundle.open(tuned), name) for name in TARGETS if name.startswith("qnn")} == {"int8-qnn.onnx"}


def test_naming_a_twin_that_is_not_there_is_refused(bundle_copy: Path) -> None:
    with pytest.raises(BundleError, match=r"int8\.onnx was not rewritten") as caught:
        validate(model=PORTABLE_MODEL, options=Options(bundle=bundle_copy))
    assert caught.value.next_step == "--model int8.onnx"


def test_a_twin_that_was_changed_is_refused(tuned: Path) -> None:
    (tuned / PORTABLE_MODEL).write_bytes((tuned / "int8.onnx").read_bytes())
    with pytest.raises(BundleError, match="the file was changed"):
        read_int8(Bundle.open(tuned), PORTABLE_MODEL)


def test_a_file_stands_right_behind_the_one_that_it_is_the_twin_of(tuned: Path) -> None:
    made = [artifact.path for artifact in read_manifest(tuned).artifacts if artifact.stage == "quantize"]
    assert made == ["int8.onnx", PORTABLE_MODEL, "ranges.json"]


# A bundle of an earlier version: rewritten, and without a twin.


@pytest.fixture
def earlier(tuned: Path) -> Path:
    manifest = read_manifest(tuned)
    without = tuple(artifact for artifact in manifest.artifacts if artifact.path != PORTABLE_MODEL)
    (tuned / "manifest.json").write_text(manifest.model_copy(update={"artifacts": without}).model_dump_json())
    (tuned / PORTABLE_MODEL).unlink()
    return tuned


def test_a_bundle_tuned_before_there_was_a_twin_gets_one(earlier: Path) -> None:
    assert int8_for(Bundle.open(earlier), "webgpu") == "int8.onnx"
    assert not quantize(options=Options(bundle=earlier)).unchanged
    assert int8_for(Bundle.open(earlier), "webgpu") == PORTABLE_MODEL


def test_a_twin_that_is_missing_is_advised_to_other_providers_that_run_int8_onnx(tuned: Path, earlier: Path) -> None:
    bundle = Bundle.open(earlier)
    advice = advice_without_twin(bundle, dict.fromkeys(TARGETS, "int8.onnx"))
    assert set(advice) == {name for name, row in TARGETS.items() if row.provider != "CPUExecutionProvider"}
    assert {words.partition(",")[0] for words in advice.values()} == {"edgecnn quantize"}
    assert all(PORTABLE_MODEL in words for words in advice.values())
    assert advice_without_twin(bundle, {"qnn": "int8-qnn.onnx"}) == {}
    quantize(options=Options(bundle=tuned))
    assert advice_without_twin(Bundle.open(tuned), {"qnn": "int8.onnx"}) == {}, "there is one"


def test_of_what_was_not_rewritten_nothing_is_advised(bundle_copy: Path) -> None:
    assert advice_without_twin(Bundle.open(bundle_copy), {"qnn": "int8.onnx"}) == {}


@pytest.mark.parametrize("measure", [validate, bench])
def test_a_target_that_refuses_the_rewritten_model_is_told_how_to_get_the_twin(
    earlier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measure: Callable[..., object]
) -> None:
    monkeypatch.setenv("EDGECNN_CACHE", str(tmp_path / "cache"))
    environment = fake_environment()
    make(environment)
    name = plant_environment(monkeypatch, environment, clock="measured")
    real = WorkerSession.__init__

    def init(self: WorkerSession, *args: object, model_name: str, **more: object) -> None:
        if model_name == "int8.onnx":
            raise TargetError(f"{model_name} on {name}: its pools are refused.", next_step="its own")
        real(self, *args, model_name=model_name, **more | {"provider": "CPUExecutionProvider"})  # type: ignore[arg-type]

    monkeypatch.setattr(WorkerSession, "__init__", init)
    with pytest.raises(TargetError, match="its pools are refused") as caught:
        measure(targets=[name], options=Options(bundle=earlier))
    assert caught.value.next_step == "its own", "on ONNX Runtime's CPU kernels the rewrites are not to blame"
    row = dataclasses.replace(TARGETS[name], provider="WebGpuExecutionProvider")  # which the worker does not have
    monkeypatch.setitem(TARGETS, name, row)
    with pytest.raises(TargetError, match="its pools are refused") as caught:
        measure(targets=[name], options=Options(bundle=earlier))
    assert caught.value.next_step.startswith("edgecnn quantize, which writes int8_portable.onnx")


def test_a_target_that_is_not_here_is_not_told_to_quantize(earlier: Path) -> None:
    advice = advice_without_twin(Bundle.open(earlier), {"coreml": "int8.onnx"})
    models = Models.read(Bundle.open(earlier), advice=advice)
    assert advice
    with pytest.raises(TargetError, match="not available here") as caught:
        models.open("int8.onnx", "coreml", 1)
    assert caught.value.next_step == TARGETS["coreml"].remedy
