"""The meter by the clock: how candidates are opened, pinned and raced."""

import os

import pytest

from edgecnn.errors import DataError, ModelError, TargetError
from edgecnn.measure.race import LOOKS
from edgecnn.targets import Session
from edgecnn.tuning.candidate import STOCK, Candidate
from edgecnn.tuning.maker import Made
from edgecnn.tuning.meter import FINAL_HEATS, ClockMeter, Trial
from tests.race_clock import FakeSession, Machine
from tests.support import make_images

PIXELS = make_images(2, size=4).pixels


def made(candidate: Candidate, data: bytes) -> Made:
    return Made(candidate=candidate, data=data, plain=data, float_layers=(), drop_pp=None)


class Place:
    """A target on which a file takes as many microseconds as its bytes say, and some raise."""

    def __init__(self, *, error: Exception | None = None) -> None:
        self.machine, self.error = Machine(), error
        self.asked: set[tuple[str, str, int, str]] = set()
        self.cpus: set[frozenset[int]] = set()

    def __call__(self, name: str, model: bytes, *, model_name: str, threads: int, options_name: str) -> Session:
        self.asked.add((name, model_name, threads, options_name))
        if hasattr(os, "sched_getaffinity"):
            self.cpus.add(frozenset(os.sched_getaffinity(0)))
        if self.error is not None:
            raise self.error
        return FakeSession(self.machine, model_name, float(model))


def meter(place: Place, *, threads: int = 2) -> ClockMeter:
    return ClockMeter(target="cpu", pixels=PIXELS, opener=place, clock=place.machine.clock_ns, threads=threads)


STOCK_TRIAL = Trial(made=made(STOCK, b"20"), group="float")
TUNED = Candidate(session="no-arena", threads=2)


def test_each_is_opened_on_the_target_as_its_candidate_says() -> None:
    place = Place()
    meter(place).measure([STOCK_TRIAL, Trial(made=made(TUNED, b"10"), group="float")], 1.0, drops=True)
    assert place.asked == {("cpu", "float", 1, "default"), ("cpu", TUNED.name, 2, "no-arena")}


def test_costs_are_microseconds_in_the_order_of_the_trials() -> None:
    place = Place()
    found = meter(place).measure([STOCK_TRIAL, Trial(made=made(TUNED, b"10"), group="float")], 1.0, drops=True)
    assert [(one.name, round(one.cost, 6)) for one in found] == [("float", 20), (TUNED.name, 10)]
    assert found[1].against_reference.delta == pytest.approx(0.5)


def test_a_race_that_drops_looks_and_one_that_does_not_has_a_fixed_number_of_heats() -> None:
    slow = Trial(made=made(TUNED, b"10"), group="int8")
    slower = Trial(made=made(Candidate(rewrites=("a",)), b"30"), group="int8")
    drops = meter(Place()).measure([STOCK_TRIAL, slow, slower], 1e6, drops=True)
    assert [one.dropped_after for one in drops] == [None, None, min(LOOKS)]
    fixed = meter(Place()).measure([STOCK_TRIAL, slow, slower], 1e6, drops=False)
    assert [(one.dropped_after, len(one.costs)) for one in fixed] == [(None, FINAL_HEATS)] * 3


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no pinning here")
def test_the_process_is_pinned_while_it_measures_and_free_again_after() -> None:
    place, before = Place(), os.sched_getaffinity(0)
    used = meter(place, threads=1)
    used.measure([STOCK_TRIAL], 1e-3, drops=True)
    assert place.cpus == {frozenset(used.cpus)}
    assert len(used.cpus) == 1
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize(
    "error", [ModelError("cannot load", next_step="x"), TargetError("leaves a node", next_step="x")]
)
def test_a_file_that_does_not_open_there_is_told(error: ModelError | TargetError) -> None:
    assert meter(Place(error=error)).why_not(made(STOCK, b"1")) == error.message
    assert meter(Place()).why_not(made(STOCK, b"1")) is None


def test_other_errors_are_not_swallowed() -> None:
    with pytest.raises(DataError, match="lost"):
        meter(Place(error=DataError("lost", next_step="x"))).why_not(made(STOCK, b"1"))
