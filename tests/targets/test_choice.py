"""Which targets a command means."""

import pytest

from edgecnn.errors import UsageError
from edgecnn.targets import TARGETS, Target
from edgecnn.targets.choice import choose_targets
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
