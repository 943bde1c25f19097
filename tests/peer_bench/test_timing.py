"""Blocks in turns."""

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecnn.errors import UsageError
from edgecnn.progress import SILENT
from scripts.peer_bench.timing import TimingSettings, time_in_turns


class Clockwork:
    """Takes as long as it is told, and writes down when it was asked."""

    def __init__(self, name: str, us: float, asked: list[str]) -> None:
        self.name, self.us, self.asked, self.opened = name, us, asked, 0

    def reopen(self) -> None:
        self.opened += 1

    def time_block(self, warmup: int, calls: int) -> NDArray[np.float64]:
        self.asked.append(self.name)
        return np.full(calls, self.us)


def test_each_round_asks_everyone_once_in_an_order_that_the_seed_gives() -> None:
    asked: list[str] = []
    people = {name: Clockwork(name, us, asked) for name, us in (("a", 10.0), ("b", 20.0), ("c", 40.0))}
    settings = TimingSettings(pairs=6, rounds=3, block_ms=1.2)
    times, failures = time_in_turns(people, settings, SILENT)
    again: list[str] = []
    time_in_turns({name: Clockwork(name, 10.0, again) for name in people}, settings, SILENT)
    assert not failures
    assert asked == again
    rounds = [asked[start : start + 3] for start in range(0, len(asked), 3)]
    assert len(rounds) == 6 * (1 + 3)  # a pilot, then the rounds
    assert all(sorted(each) == ["a", "b", "c"] for each in rounds)
    assert len({tuple(each) for each in rounds}) > 2
    assert people["a"].opened == 6
    assert times["a"].calls_us.size == 6 * 3 * 120  # 1.2 ms of calls of 10 us
    assert times["c"].calls_us.size == 6 * 3 * 30
    assert times["b"].pair_medians_us.tolist() == [20.0] * 6


def test_too_few_pairs_for_an_interval_are_refused() -> None:
    with pytest.raises(UsageError, match="--pairs must be at least 6, found 5"):
        TimingSettings(pairs=5)
