"""Which answers each target's are held against: float and int8 of this CPU, on the same images."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from edgecnn.bundle.manifest import ValidationResult
from edgecnn.data import load
from edgecnn.errors import StageError
from edgecnn.pipeline.answers import Answer, Asking
from edgecnn.pipeline.target_accuracy import TargetAccuracy, measure_accuracy
from edgecnn.pipeline.verdict import Gates, accuracy_checks
from edgecnn.progress import SILENT
from tests.bundles import fast_model, nan_model, scramble_int8
from tests.emulation import plant_target

OWN, INT8, PORTABLE = "int8-xnnpack.onnx", "int8.onnx", "int8_portable.onnx"


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A target that answers as this CPU does."""
    return plant_target(tmp_path / "bin", monkeypatch)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Which model was run on which target, each time."""
    runs: list[tuple[str, str]] = []
    real = Asking._run

    def run(self: Asking, target: str, name: str, images: object) -> Answer:
        runs.append((target, name))
        return real(self, target, name, images)  # type: ignore[arg-type]

    monkeypatch.setattr(Asking, "_run", run)
    return runs


def measure(
    models: Mapping[str, bytes],
    int8_models: Mapping[str, str],
    *,
    n: int = 64,
    advice: Mapping[str, str] | None = None,
    keep_going: bool = False,
) -> TargetAccuracy:
    asking = Asking(models=models, cpu_nodes={}, progress=SILENT, advice=advice or {})
    dataset = load("digits", height=32, width=32)
    return measure_accuracy(int8_models, dict.fromkeys(int8_models, n), dataset, asking, keep_going=keep_going)


def only(found: TargetAccuracy) -> ValidationResult:
    (result,) = found.results
    return result


def test_a_portable_model_is_held_against_int8_onnx_of_this_cpu(finished_bundle: Path, there: str) -> None:
    int8 = (finished_bundle / INT8).read_bytes()
    models = {"float.onnx": (finished_bundle / "float.onnx").read_bytes(), INT8: int8, PORTABLE: scramble_int8(int8)}
    result = only(measure(models, {there: PORTABLE}, n=360))
    assert result.int8_against_cpu is not None
    assert result.int8_against_cpu.argmax_flips > 100, "a twin that is none must be seen"
    assert result.float_against_cpu is not None
    assert result.float_against_cpu.argmax_flips == 0
    checks = {check.name: check.passed for check in accuracy_checks([result], Gates(max_drop_pp=100))}
    assert not checks[f"int8, change of top-1 on {there}, {PORTABLE}"]
    assert sum(checks.values()) == 2
    same = only(measure({**models, PORTABLE: int8}, {there: PORTABLE}))
    assert same.int8_against_cpu is not None
    assert (same.int8_against_cpu.argmax_flips, same.int8_against_cpu.max_abs_logit_difference) == (0, 0)


def test_a_targets_own_model_is_held_against_itself_on_this_cpu(
    finished_bundle: Path, there: str, asked: list[tuple[str, str]]
) -> None:
    int8 = (finished_bundle / INT8).read_bytes()
    models = {"float.onnx": (finished_bundle / "float.onnx").read_bytes(), OWN: scramble_int8(int8)}
    result = only(measure(models, {there: OWN}))
    assert result.int8_against_cpu is not None
    assert result.int8_against_cpu.argmax_flips == 0, "wrong, but as wrong as here"
    assert asked == [("cpu", "float.onnx"), ("cpu", OWN), (there, "float.onnx"), (there, OWN)]


def test_this_cpu_runs_each_model_once_for_so_many_images(there: str, asked: list[tuple[str, str]]) -> None:
    model = fast_model()
    models = dict.fromkeys(("float.onnx", INT8, PORTABLE, OWN), model)
    asking = Asking(models=models, cpu_nodes={}, progress=SILENT)
    dataset = load("digits", height=32, width=32)
    for int8_models in ({"cpu": INT8, there: PORTABLE}, {there: OWN}):
        measure_accuracy(int8_models, dict.fromkeys(int8_models, 64), dataset, asking, keep_going=False)
    here = [name for target, name in asked if target == "cpu"]
    assert sorted(here) == ["float.onnx", OWN, INT8], "what a target runs as a twin is not run here"
    measure_accuracy({there: OWN}, {there: 65}, dataset, asking, keep_going=False)
    assert len([name for target, name in asked if target == "cpu"]) == 5, "other images are asked anew"


def test_the_twin_itself_is_run_where_this_cpu_is_told_to(asked: list[tuple[str, str]]) -> None:
    result = only(measure(dict.fromkeys(("float.onnx", PORTABLE), fast_model()), {"cpu": PORTABLE}))
    assert asked == [("cpu", "float.onnx"), ("cpu", PORTABLE)]
    assert (result.int8_model, result.int8_against_cpu) == (PORTABLE, None)


def test_advice_is_given_where_int8_fails_and_nowhere_else(there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    models = {"float.onnx": fast_model(), INT8: fast_model()}
    real = Asking._run

    def failing(broken: str) -> None:
        def run(self: Asking, target: str, name: str, images: object) -> Answer:
            if (target, name) == (there, broken):
                raise StageError(f"{name}: refused", next_step="its own")
            return real(self, target, name, images)  # type: ignore[arg-type]

        monkeypatch.setattr(Asking, "_run", run)

    for broken, told in ((INT8, "do that"), ("float.onnx", "its own")):
        failing(broken)
        (failure,) = measure(models, {there: INT8}, advice={there: "do that"}, keep_going=True).failures
        assert (failure.next_step, failure.exit_code) == (told, 4)
        assert f"{broken}: refused" in failure.reason
    failing(INT8)
    (failure,) = measure(models, {there: INT8}, advice={"webgpu": "do that"}, keep_going=True).failures
    assert failure.next_step == "its own"


def test_what_fails_on_this_cpu_fails_all(there: str) -> None:
    models = {"float.onnx": fast_model(), INT8: nan_model()}
    with pytest.raises(StageError, match=r"int8\.onnx gives NaN"):
        measure(models, {there: INT8, "cpu": INT8}, keep_going=True)
