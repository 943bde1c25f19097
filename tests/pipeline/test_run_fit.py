"""A run for a target that has a model of its own: what is measured where, what is shown, and what decides."""

from pathlib import Path

import pytest

from edgecnn.bundle.manifest import Manifest
from edgecnn.measure.latency import BenchSettings
from edgecnn.pipeline.context import Options
from edgecnn.pipeline.quantize_settings import QuantizeSettings
from edgecnn.pipeline.run import RunResult, RunSettings, run
from edgecnn.pipeline.validate import validate
from edgecnn.pipeline.verdict import Gates
from edgecnn.report.run import run_items
from edgecnn.targets import TARGETS
from edgecnn.training import TrainingSettings
from tests.bundles import plant, read_manifest, scramble_int8
from tests.emulation import plant_target
from tests.terminal import shown

OWN = "int8-xnnpack.onnx"


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """XNNPACK, as a process of this Python without a clock."""
    monkeypatch.setitem(TARGETS, "xnnpack", TARGETS[plant_target(tmp_path / "bin", monkeypatch)])
    return "xnnpack"


def go(folder: Path, *targets: str, fit_for: tuple[str, ...] = ("xnnpack",), max_drop: float = 100) -> RunResult:
    settings = RunSettings(
        training=TrainingSettings(epochs=2),
        bench=BenchSettings(pairs=6, rounds=1, seconds=0.1),
        gates=Gates(max_drop_pp=max_drop),
        quantize=QuantizeSettings(),
        tune_seconds=0,
        targets=targets,
        fit_targets=fit_for,
    )
    return run(settings=settings, options=Options(bundle=folder))


def proven(manifest: Manifest) -> dict[str, list[str]]:
    own = [(one.model, result.target) for one in manifest.fitted for result in one.validation]
    found: dict[str, list[str]] = {}
    for model, target in [*((one.int8_model, one.target) for one in manifest.validation), *own]:
        found.setdefault(model, []).append(target)
    return found


def test_each_model_is_measured_where_it_is_to_run_and_a_targets_own_here_too(bundle_copy: Path, there: str) -> None:
    found = go(bundle_copy, "cpu", there)
    assert proven(found.manifest) == {"int8.onnx": ["cpu"], OWN: ["cpu", there]}
    names = [check.name for check in found.verdict.checks]
    assert names == [
        "accuracy drop on cpu",
        f"accuracy drop on {there}, {OWN}",
        f"float, classes changed on {there}",
        f"int8, change of top-1 on {there}, {OWN}",
        f"accuracy drop on cpu, {OWN}",
    ]
    items = run_items("b", found.manifest, found.verdict.checks, found.verdict.passed, fitting=True)
    lines = "\n".join(shown(item) for item in items).splitlines()
    assert f"int8 is {OWN} on {there}." in lines
    assert [line.split()[0] for line in lines if "360/" in line or line.endswith(" 360")] == ["cpu", there]
    again = go(bundle_copy, "cpu", there)
    assert "validate" in again.unchanged
    assert again.manifest.validation == found.manifest.validation


def test_what_int8_onnx_did_on_a_target_does_not_fail_a_run_for_it(bundle_copy: Path, there: str) -> None:
    good = (bundle_copy / "int8.onnx").read_bytes()
    plant(bundle_copy, "int8.onnx", scramble_int8(good))
    validate(targets=[there], gates=Gates(max_drop_pp=5), options=Options(bundle=bundle_copy))
    plant(bundle_copy, "int8.onnx", good)
    assert [(one.target, one.drop_pp > 5) for one in read_manifest(bundle_copy).validation][-1] == (there, True)
    found = go(bundle_copy, "cpu", there, max_drop=5)
    assert found.verdict.passed, "xnnpack runs a model of its own now"


def test_an_own_model_on_a_target_that_it_was_not_made_for_decides_no_run(
    bundle_copy: Path, tmp_path: Path, there: str
) -> None:
    go(bundle_copy, "cpu", there)
    validate(targets=["cpu@fake"], model=OWN, gates=Gates(max_drop_pp=100), options=Options(bundle=bundle_copy))
    assert proven(read_manifest(bundle_copy))[OWN] == ["cpu", there, "cpu@fake"]
    found = go(bundle_copy, "cpu", there)
    assert not any("cpu@fake" in check.name for check in found.verdict.checks)
    assert not any("cpu@fake" in check.name for check in read_manifest(bundle_copy).checks)
