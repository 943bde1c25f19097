"""The meter that counts: each file once, and equals within the tolerance."""

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecnn.errors import ModelError, StageError
from edgecnn.tuning.candidate import STOCK, Candidate
from edgecnn.tuning.instruction_meter import TOLERANCE, InstructionMeter
from edgecnn.tuning.maker import Made
from edgecnn.tuning.meter import Trial
from tests.support import make_images

PIXELS = make_images(2, size=4).pixels


class Counter:
    """Counts what the bytes say."""

    def __init__(self, error: Exception | None = None) -> None:
        self.asked: list[tuple[bytes, str]] = []
        self.error = error

    def count(self, model: bytes, pixels: NDArray[np.uint8], *, model_name: str, options_name: str) -> int:
        self.asked.append((model, options_name))
        assert pixels is PIXELS
        if self.error:
            raise self.error
        return int(model)


def trial(candidate: Candidate, count: int) -> Trial:
    return Trial(
        made=Made(candidate=candidate, data=str(count).encode(), plain=b"", float_layers=(), drop_pp=None), group=""
    )


def test_counts_are_held_against_the_first_with_a_tolerance() -> None:
    meter = InstructionMeter(counter=Counter(), pixels=PIXELS)
    found = meter.measure([trial(STOCK, 1000), trial(Candidate(rewrites=("a",)), 800)], 1.0, drops=True)
    assert [one.cost for one in found] == [1000, 800]
    ratio = found[1].against_reference
    assert (ratio.delta, ratio.low, ratio.high) == (0.8, 0.8 * (1 - TOLERANCE), 0.8 * (1 + TOLERANCE))
    assert [one.dropped_after for one in found] == [None, None]
    assert (meter.unit, meter.cpus) == ("instructions", ())


def test_a_file_is_counted_once_for_each_way_to_open_it() -> None:
    counter = Counter()
    meter = InstructionMeter(counter=counter, pixels=PIXELS)
    other = trial(Candidate(session="no-arena"), 1000)
    for _ in range(2):
        assert meter.why_not(other.made) is None
        meter.measure([trial(STOCK, 1000), other], 1.0, drops=True)
    assert sorted(counter.asked) == [(b"1000", "default"), (b"1000", "no-arena")]


def test_a_file_that_does_not_run_there_is_told_and_a_dead_emulator_is_an_error() -> None:
    refused = InstructionMeter(counter=Counter(ModelError("no kernel", next_step="x")), pixels=PIXELS)
    assert refused.why_not(trial(STOCK, 1).made) == "no kernel"
    dead = InstructionMeter(counter=Counter(StageError("SIGILL", next_step="x")), pixels=PIXELS)
    with pytest.raises(StageError, match="SIGILL"):
        dead.why_not(trial(STOCK, 1).made)
