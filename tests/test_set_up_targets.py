"""scripts/targets says one line for each target, and what cannot be had keeps nothing else."""

from pathlib import Path

import pytest

from edgecnn.errors import StorageError, TargetError
from edgecnn.targets import TARGETS
from edgecnn.targets.states import is_installable
from scripts import set_up_targets
from scripts.set_up_targets import LIMIT_S, NODE, use_folder

ROWS = [NODE, *(name for name, row in TARGETS.items() if row.in_all and row.runtime_here is not None)]


class Machine:
    """Stands in for what is installed: which rows are ready, what installing takes, and which fail."""

    def __init__(self) -> None:
        self.ready: set[str] = set()
        self.asked: list[str] = []
        self.fails: dict[str, Exception] = {}
        self.seconds = 0.0
        self.now = 100.0

    def install(self, name: str, **_: object) -> None:
        self.asked.append(name)
        self.now += self.seconds
        if name in self.fails:
            raise self.fails[name]
        self.ready.add(name)

    def missing(self, name: str) -> str | None:
        return None if name in self.ready else f"{name} is not set up"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(set_up_targets, "_missing", made.missing)
    monkeypatch.setattr(set_up_targets, "install_target", made.install)
    monkeypatch.setattr(set_up_targets, "fetch_node", lambda *_, **__: made.install(NODE))
    monkeypatch.setattr(set_up_targets, "is_installable", lambda name: name != "webgpu")
    monkeypatch.setattr("time.monotonic", lambda: made.now)
    return made


def states(*, install: bool = True) -> dict[str, str]:
    return dict(set_up_targets.set_up(install=install))


def test_each_is_set_up_once_and_then_was_there(machine: Machine) -> None:
    machine.seconds = 7.2
    possible = [name for name in ROWS if name != "webgpu"]
    assert {name: said for name, said in states().items() if name != "webgpu"} == dict.fromkeys(
        possible, "set up in 7 s"
    )
    assert machine.asked == possible
    assert {name: said for name, said in states().items() if name != "webgpu"} == dict.fromkeys(possible, "was there")
    assert machine.asked == possible


def test_what_cannot_be_had_is_said_and_the_others_are_set_up(machine: Machine) -> None:
    machine.fails = {
        "qnn": TargetError("pip failed (no network).", next_step="x"),
        "openvino": StorageError("the disk is full.", next_step="x"),
    }
    said = states()
    assert said["qnn"] == "left out: pip failed (no network)."
    assert said["openvino"] == "left out: the disk is full."
    assert said["webgpu"] == "left out: webgpu is not set up"
    assert "webgpu" not in machine.asked, "it needs what is not here"
    assert [name for name, state in said.items() if not state.startswith("left out")] == [
        name for name in ROWS if name not in ("qnn", "openvino", "webgpu")
    ]


def test_a_defect_is_no_target_that_cannot_be_had(machine: Machine) -> None:
    machine.fails = {"wasm": TypeError("no installer")}
    with pytest.raises(TypeError, match="no installer"):
        states()


def test_a_slow_network_does_not_keep_the_tests_waiting(machine: Machine) -> None:
    machine.seconds = LIMIT_S / 2 + 1
    said = states()
    assert machine.asked == ROWS[:2]
    assert said[ROWS[-2]] == f"left out: {LIMIT_S} s were spent on the others"


def test_a_folder_of_the_users_is_only_looked_at(machine: Machine) -> None:
    machine.ready = {"wasm"}
    said = states(install=False)
    assert said["wasm"] == "was there"
    assert said["qnn"] == "left out: qnn is not set up"
    assert machine.asked == []


@pytest.mark.parametrize(
    ("set_to", "folder", "install"),
    [
        ({}, "default", True),
        ({"EDGECNN_CACHE": "mine"}, "mine", True),
        ({"EDGECNN_TEST_TARGETS": "theirs"}, "theirs", False),
        ({"EDGECNN_CACHE": "mine", "EDGECNN_TEST_TARGETS": "theirs"}, "theirs", False),
    ],
)
def test_which_folder_it_is_and_whether_it_may_be_changed(set_to: dict[str, str], folder: str, install: bool) -> None:
    environment = dict(set_to)
    assert use_folder(environment, Path("default")) == install
    assert environment["EDGECNN_CACHE"] == folder


def test_the_real_table_has_a_line_for_each_that_can_be_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGECNN_CACHE", str(tmp_path))
    said = states(install=False)
    installable = {name for name, row in TARGETS.items() if row.in_all and is_installable(name)}
    assert installable <= said.keys()
    assert "is not set up" in said[NODE]
    assert "is not set up" in said["qnn"]
