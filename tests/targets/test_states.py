"""Every target is ready, to be had by a command, or not possible; all that can be are set up at once."""

from pathlib import Path

import pytest

from edgecnn.errors import StorageError, TargetError
from edgecnn.targets import TARGETS, states
from edgecnn.targets.install import Installed
from edgecnn.targets.states import TargetState, install_all, is_installable, target_states
from tests.environments import fake_environment, make, plant_environment


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECNN_CACHE", str(tmp_path / "cache"))


def state(name: str) -> TargetState:
    return next(each for each in target_states() if each.target == name)


def test_there_is_one_for_each_row() -> None:
    found = target_states()
    assert [each.target for each in found] == list(TARGETS)
    assert all(each.remedy for each in found if each.state != "ready")


def test_the_cpu_is_ready() -> None:
    assert (state("cpu").state, state("cpu").why_not) == ("ready", None)


def test_what_could_be_set_up_says_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = fake_environment()
    name = plant_environment(monkeypatch, environment)
    assert (state(name).state, state(name).remedy) == ("installable", f"edgecnn targets install {name}")
    make(environment)
    assert state(name).state == "ready"


def test_what_nothing_would_help_is_impossible(monkeypatch: pytest.MonkeyPatch) -> None:
    name = plant_environment(monkeypatch, fake_environment(obstacle=lambda: "needs a phone"), remedy="buy a phone")
    assert state(name) == TargetState(
        target=name, summary="a fake", state="impossible", why_not="needs a phone", remedy="buy a phone"
    )


def test_an_emulated_cpu_on_another_system_is_impossible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    assert state("cpu@cortex-a53").state == "impossible"
    assert "needs Linux" in str(state("cpu@cortex-a53").why_not)


def test_a_provider_of_this_process_is_not_installed() -> None:
    assert not is_installable("coreml")


def test_all_are_set_up_and_one_that_fails_does_not_keep_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def install(name: str, *, force: bool, progress: object) -> Installed:
        asked.append(name)
        if name == "qnn":
            raise TargetError("no network", next_step="x")
        if name == "openvino":
            raise StorageError("full", next_step="x")
        return Installed(target=name, folder=None, program="p", unchanged=False)

    monkeypatch.setattr(states, "install_target", install)
    monkeypatch.setattr(states, "is_installable", lambda name: TARGETS[name].runtime is not None)
    found, failed = install_all()
    assert {"cpu@haswell", "webgpu"} <= {each.target for each in found}
    assert {name: str(error.message) for name, error in failed.items()} == {"qnn": "no network", "openvino": "full"}
    assert "qnn@sm8550" not in asked, "its environment is that of qnn"
    assert "cpu" not in asked
