"""The clock, read around each call."""

import time

import pytest

from edgecnn.measure.stopwatch import now_us, time_calls
from tests.clockwork import take_over


def test_each_call_gets_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = take_over(monkeypatch)
    waits = iter([5.5, 1.25, 9.0])
    found = time_calls(lambda: machine.pass_us(next(waits)), 3)
    assert found.tolist() == [5.5, 1.25, 9.0]
    assert now_us() == 15.75


def test_the_real_clock_goes_on() -> None:
    before = now_us()
    assert float(time_calls(lambda: time.sleep(0.002), 1)[0]) >= 2000
    assert now_us() - before >= 2000
