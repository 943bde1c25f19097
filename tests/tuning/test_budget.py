"""Time: how it is divided, and that the last race keeps its share."""

import pytest

from edgecnn.errors import UsageError
from edgecnn.tuning.budget import SHARES, Budget


class Watch:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_time_of_the_last_race_is_kept_back() -> None:
    watch = Watch()
    budget = Budget(seconds=100, clock=watch)
    assert not budget.is_over()
    watch.now += 100 * (1 - SHARES["final"]) - 1
    assert (budget.is_over(), round(budget.left_s(), 6)) == (False, 1)
    watch.now += 1
    assert budget.is_over()
    assert budget.race_s("final") == 100 * SHARES["final"]


def test_a_race_takes_its_share_or_what_is_left_but_never_nothing() -> None:
    watch = Watch()
    budget = Budget(seconds=100, clock=watch)
    assert budget.race_s("recipes") == 100 * SHARES["recipes"]
    watch.now += 82
    assert budget.race_s("recipes") == pytest.approx(3)
    watch.now += 500
    assert 0 < budget.race_s("recipes") < 0.01


def test_making_files_is_left_a_fifth_of_the_time_at_least() -> None:
    assert sum(SHARES.values()) <= 0.8


@pytest.mark.parametrize("seconds", [0.0, -3.0, float("nan"), float("inf")])
def test_no_time_is_refused(seconds: float) -> None:
    with pytest.raises(UsageError, match="--seconds must be above 0 and finite") as caught:
        Budget(seconds=seconds)
    assert "--seconds 60" in caught.value.next_step
