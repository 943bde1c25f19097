"""When a session has settled: by a clock that only its calls move."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.measure.warmup import LIMIT_US, warm_up
from tests.clockwork import Machine, take_over


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return take_over(monkeypatch)


def calls_of(machine: Machine, took_us: Callable[[int], float]) -> tuple[Callable[[], None], list[int]]:
    """Return a call whose n-th run takes ``took_us(n)``, and the list of runs."""
    runs: list[int] = []

    def call() -> None:
        machine.pass_us(took_us(len(runs)))
        runs.append(len(runs))

    return call, runs


def test_a_steady_session_has_settled_after_three_blocks(machine: Machine) -> None:
    call, runs = calls_of(machine, lambda n: 100)
    found = warm_up(call)
    assert (found.settled, found.call_us) == (True, 100)
    assert found.calls == len(runs) == 1 + 3 * 10  # blocks of a millisecond


@pytest.mark.parametrize("cold", [5, 40, 90])
def test_a_session_that_starts_slowly_is_called_until_it_no_longer_gets_faster(machine: Machine, cold: int) -> None:
    call, runs = calls_of(machine, lambda n: 100 + 10 * max(0, cold - n))
    found = warm_up(call)
    assert found.settled
    assert found.call_us == pytest.approx(100, rel=0.011)
    assert len(runs) >= cold


def test_a_session_that_never_settles_is_cut_off_and_said_to_be(machine: Machine) -> None:
    call, _ = calls_of(machine, lambda n: 100 * (1.5 if (n // 10) % 2 else 1.0))
    found = warm_up(call)
    assert not found.settled
    assert LIMIT_US <= machine.now_ns / 1e3 < LIMIT_US + 2000


def test_a_slow_session_is_called_no_more_than_it_takes_to_compare_three_blocks(machine: Machine) -> None:
    call, runs = calls_of(machine, lambda n: 2e6)
    assert warm_up(call).settled
    assert len(runs) == 1 + 3 * 3


def test_a_call_too_fast_for_the_clock_is_no_division_by_zero(machine: Machine) -> None:
    call, runs = calls_of(machine, lambda n: 0)
    assert warm_up(call).settled
    assert len(runs) == 1 + 3 * 50


@given(us=st.floats(1, 5000), step=st.floats(0, 0.2))
def test_blocks_settle_exactly_if_three_medians_lie_within_a_percent(us: float, step: float) -> None:
    with pytest.MonkeyPatch.context() as patch:
        machine = take_over(patch)
        size = int(min(max(1000 / (round(us * 1000) / 1000), 3), 50))
        # each block is slower than the one before by the same factor, so any three in a row are alike
        call, _ = calls_of(machine, lambda n: us * (1 + step) ** ((n - 1) // size if n else 0))
        assert warm_up(call).settled == ((1 + step) ** 2 - 1 <= 0.01) or abs((1 + step) ** 2 - 1.01) < 1e-3
