"""Which targets a command means."""

import pytest

from edgecnn.errors import UsageError
from edgecnn.targets import TARGETS, Target
from edgecnn.targets.choice import choose_targets, cpu_nodes_allowed
from tests.environments import fake_environment, plant_environment


def test_names_stay_in_their_order_and_once() -> None:
    assert choose_targets(["cpu@haswell", "cpu", "cpu"]) == ("cpu@haswell", "cpu")


def test_all_is_every_target_that_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    name = plant_environment(monkeypatch, fake_environment(), in_all=True)
    ready = [each for each, row in TARGETS.items() if row.why_not() is None and row.in_all]
    assert "cpu" in ready
    assert name not in ready
    assert choose_targets(["all"]) == tuple(ready)
    assert choose_targets(["xnnpack", "all"])[0] == "xnnpack"


def test_all_of_those_with_a_clock_leaves_the_others_out(monkeypatch: pytest.MonkeyPatch) -> None:
    ready = [TARGETS[name] for name in ("cpu", "cpu@haswell", "xnnpack")]
    monkeypatch.setattr(Target, "why_not", lambda self: None if self in ready else "no")
    assert choose_targets(["all"]) == ("cpu", "cpu@haswell", "xnnpack")
    assert choose_targets(["all"], timed=True) == ("cpu", "xnnpack")


def test_another_of_its_kind_is_not_among_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Target, "why_not", lambda self: None)
    assert "qnn" in choose_targets(["all"])
    assert "qnn@sm8550" not in choose_targets(["all"])
    assert choose_targets(["qnn@sm8550"]) == ("qnn@sm8550",)


@pytest.mark.parametrize("name", ["gpu", "ALL", ""])
def test_an_unknown_one_lists_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError, match=f"unknown provider '{name}'; known: cpu, "):
        choose_targets(["cpu", name])


def test_none_is_too_few() -> None:
    with pytest.raises(UsageError, match="no target was named"):
        choose_targets([])


# How many nodes the CPU may run in a provider's place.

PARTS = sorted(name for name, row in TARGETS.items() if row.takes_parts)


def test_xnnpack_alone_takes_parts_by_design() -> None:
    assert PARTS == ["xnnpack"]


@pytest.mark.parametrize("name", TARGETS)
def test_nobody_said_how_many_and_only_what_takes_parts_may_leave_any_if_all_meant_it(name: str) -> None:
    lenient = name in PARTS
    assert (cpu_nodes_allowed([name], ["all"], None)[name] >= 10_000) is lenient
    assert cpu_nodes_allowed([name], [name], None) == {name: 0}
    assert cpu_nodes_allowed([name], ["all", name], None) == {name: 0}, "who names it wants it as it is"


@pytest.mark.parametrize("told", [0, 3])
@pytest.mark.parametrize("asked", [["all"], [*TARGETS]])
def test_what_the_user_says_holds_for_every_target(told: int, asked: list[str]) -> None:
    assert cpu_nodes_allowed([*TARGETS], asked, told) == dict.fromkeys(TARGETS, told)


def test_fewer_nodes_than_none_are_refused_even_for_no_target() -> None:
    with pytest.raises(UsageError, match="--allow-cpu-nodes must not be below 0, found -1") as caught:
        cpu_nodes_allowed([], [], -1)
    assert (caught.value.exit_code, caught.value.next_step) == (2, "--allow-cpu-nodes 0")
