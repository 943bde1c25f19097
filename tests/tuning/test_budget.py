"""Time: how it is divided, and that the last race keeps its share."""

import pytest

from edgecnn.errors import UsageError
from edgecnn.tuning.budget import REFINING, SHARES, Budget


class Watch:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_time_of_the_last_race_is_kept_back_and_until_then_that_of_refining() -> None:
    watch = Watch()
    budget = Budget(seconds=100, clock=watch)
    assert not budget.is_over("recipes")
    watch.now += 100 * (1 - SHARES["final"] - REFINING) - 1
    assert [round(budget.left_s(stage), 6) for stage in ("recipes", "rewrites", "float layers")] == [1, 1, 1]
    watch.now += 1
    assert [budget.is_over(stage) for stage in ("float layers", "refined", "session")] == [True, False, False]
    watch.now += 100 * REFINING
    assert budget.is_over("session")
    assert budget.race_s("final") == 100 * SHARES["final"]


def test_a_race_takes_its_share_or_what_is_left_but_never_nothing() -> None:
    watch = Watch()
    budget = Budget(seconds=100, clock=watch)
    assert budget.race_s("session") == 100 * SHARES["session"]
    watch.now += 100 * (1 - SHARES["final"]) - 3
    assert budget.race_s("session") == pytest.approx(3)
    watch.now += 500
    assert 0 < budget.race_s("session") < 0.01


def test_races_and_refining_leave_time_to_make_files() -> None:
    assert sum(SHARES.values()) + REFINING <= 0.85


@pytest.mark.parametrize("seconds", [0.0, -3.0, float("nan"), float("inf")])
def test_no_time_is_refused(seconds: float) -> None:
    with pytest.raises(UsageError, match="--seconds must be above 0 and finite") as caught:
        Budget(seconds=seconds)
    assert "--seconds 60" in caught.value.next_step
