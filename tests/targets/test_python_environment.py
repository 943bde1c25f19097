"""Environments of their own: whole or not there, of the versions that were asked for, or the reason why not."""

import platform
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edgecnn.errors import ExitCode, TargetError
from edgecnn.targets import reference_session, running
from edgecnn.targets.python_environment import PythonEnvironment, damaged, python_in, write_record
from edgecnn.targets.worker_session import WorkerSession
from tests.environments import fake_environment, make, plant_environment
from tests.graphs import small_cnn

DATA = small_cnn().SerializeToString()
X = np.random.default_rng(0).random((4, 3, 8, 8), np.float32)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECNN_CACHE", str(tmp_path / "cache"))


def test_a_model_runs_there_and_the_record_says_which_versions_did(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = fake_environment(pins=(f"onnxruntime=={onnxruntime.__version__}",), machine="A chip, simulated")
    make(environment)
    with running(plant_environment(monkeypatch, environment), DATA, model_name="float.onnx") as there:
        assert isinstance(there, WorkerSession)
        np.testing.assert_array_equal(there.run(X), reference_session(DATA, model_name="float.onnx").run(X))
        assert there.machine.versions["onnxruntime"] == onnxruntime.__version__
        assert there.machine.versions["numpy"] == np.__version__
        assert there.machine.cpu.startswith("A chip, simulated, on ")
        assert there.clock == "simulated"
        assert there.load_us is not None
        assert 0 < there.load_us < 60e6


def test_the_folder_is_named_by_what_is_in_it() -> None:
    environment = fake_environment(pins=("a==1.0", "b==2.5"))
    python = f"python-{sys.version_info.major}.{sys.version_info.minor}"
    assert environment.folder.name == f"fake-{python}-a-1.0-b-2.5-numpy-{np.__version__}"
    assert environment.wanted() == ["a==1.0", "b==2.5", f"numpy=={np.__version__}"]


def test_without_a_cpus_stand_in_the_cpu_is_the_machines_own() -> None:
    assert fake_environment().cpu({"cpu": "AMD EPYC"}) == "AMD EPYC"


def test_one_that_is_not_set_up_says_what_it_would_hold() -> None:
    environment = fake_environment(pins=("onnxruntime-qnn==2.7.0",))
    reason = environment.why_not()
    assert reason is not None
    assert reason.startswith("its environment is not set up (onnxruntime-qnn==2.7.0, numpy==")


def test_what_can_never_be_here_is_said_first() -> None:
    environment = fake_environment(obstacle=lambda: "needs a phone")
    make(environment)
    assert environment.why_not() == "needs a phone"


def test_a_whole_one_is_ready() -> None:
    environment = fake_environment()
    make(environment)
    assert environment.why_not() is None


def break_file(folder: Path) -> None:
    (folder / "library.so").unlink()


def break_size(folder: Path) -> None:
    (folder / "library.so").write_bytes(b"123")


def break_record(folder: Path) -> None:
    (folder / "edgecnn-environment.json").write_text("{")


def break_python(folder: Path) -> None:
    python_in(folder).unlink()
    write_record(folder)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (break_file, "library.so is missing"),
        (break_size, "library.so has 3 bytes, expected 5"),
        (break_record, "edgecnn-environment.json is unreadable"),
        (break_python, "its Python is gone"),
    ],
)
def test_a_broken_one_says_what_is_broken(spoil: object, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = fake_environment()
    folder = make(environment)
    assert callable(spoil)
    spoil(folder)
    with (
        pytest.raises(TargetError, match=f"its environment is broken: {words}") as caught,
        running(plant_environment(monkeypatch, environment), DATA, model_name="float.onnx"),
    ):
        pass
    assert caught.value.exit_code == ExitCode.TARGET_UNAVAILABLE


def test_what_python_compiles_on_the_way_breaks_nothing() -> None:
    environment = fake_environment()
    folder = make(environment)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "x.pyc").touch()
    assert damaged(folder) is None


@pytest.mark.parametrize(("package", "found"), [("onnxruntime", onnxruntime.__version__), ("onnxruntime-qnn", None)])
def test_another_version_than_asked_for_is_refused(
    package: str, found: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = fake_environment(pins=(f"{package}==0.1",))
    make(environment)
    seen = {"versions": {"onnxruntime": onnxruntime.__version__, "numpy": np.__version__}}
    assert environment.differs(seen) == f"expected {package} 0.1, found {found}"


def test_a_worker_of_another_version_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = fake_environment(pins=("onnxruntime==0.1",))
    make(environment)
    with (
        pytest.raises(TargetError, match=r"fake: expected onnxruntime 0\.1, found") as caught,
        running(plant_environment(monkeypatch, environment), DATA, model_name="float.onnx"),
    ):
        pass
    assert caught.value.next_step == "edgecnn targets install fake --force"


def test_a_python_that_does_not_start_is_a_target_that_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = fake_environment()
    make(environment, script="#!/bin/sh\necho cannot import onnxruntime >&2; exit 1\n")
    with (
        pytest.raises(TargetError, match=r"ended with code 1 \(cannot import onnxruntime\)") as caught,
        running(plant_environment(monkeypatch, environment), DATA, model_name="float.onnx"),
    ):
        pass
    assert caught.value.next_step == "edgecnn targets install fake --force"


def test_another_machine_is_refused() -> None:
    environment = fake_environment()
    seen = {"versions": environment.versions, "machine": "riscv64"}
    assert environment.differs(seen) == f"expected {platform.machine()}, found riscv64"
    assert environment.differs({**seen, "machine": platform.machine()}) is None


def test_packages_of_this_python_are_not_seen_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.setenv("VIRTUAL_ENV", "/elsewhere")
    found = fake_environment(variables=lambda: {"A": "b"}).environment()
    assert "/elsewhere" not in found.values()
    assert (found["A"], found["PYTHONHASHSEED"], found["EDGECNN_VERSIONS_OF"]) == ("b", "0", "numpy")


def test_a_model_is_adapted_before_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    other = small_cnn(seed=7).SerializeToString()
    seen: list[bytes] = []

    def adapt(model: bytes) -> bytes:
        seen.append(model)
        return other

    environment: PythonEnvironment = fake_environment(adaptation=adapt)
    make(environment)
    with running(plant_environment(monkeypatch, environment), DATA, model_name="float.onnx") as there:
        assert seen == [DATA]
        np.testing.assert_array_equal(there.run(X), reference_session(other, model_name="float.onnx").run(X))
