"""Accuracy and latency of all who take part."""

from pathlib import Path

import pytest

from edgecnn.errors import StageError
from edgecnn.progress import SILENT
from scripts.peer_bench.contest import compete
from scripts.peer_bench.inputs import Inputs
from scripts.peer_bench.rows import Failed, Measured
from scripts.peer_bench.timing import TimingSettings
from tests.peer_bench.made_up import prepared

QUICK = TimingSettings(pairs=6, rounds=1, block_ms=0.01, warmup=1)


def run(names: list[str], inputs: Inputs, scratch: Path, reference: str = "Ours int8 twice") -> list[Measured | Failed]:
    everyone = prepared(["ours", *names], inputs, scratch)
    return compete(everyone.entrants, inputs, scratch, QUICK, reference, SILENT)


@pytest.mark.usefixtures("nothing_installed")
def test_a_row_holds_the_accuracy_on_the_same_images_and_a_ratio_to_the_reference(
    inputs: Inputs, tmp_path: Path
) -> None:
    float_row, int8_row, other_float, other_int8 = run(["steady"], inputs, tmp_path)
    assert isinstance(float_row, Measured)
    assert isinstance(int8_row, Measured)
    assert isinstance(other_int8, Measured)
    assert other_float.name == "Steady float"
    assert float_row.top1 == 1.0
    assert int8_row.top1 == pytest.approx(35 / 40)  # each eighth is wrong
    assert other_int8.drop.delta == pytest.approx(5 / 40)
    assert (int8_row.ratio.low, int8_row.ratio.delta, int8_row.ratio.high) == (1, 1, 1)
    assert other_int8.ratio.low <= other_int8.ratio.delta <= other_int8.ratio.high
    assert other_int8.input == "bytes"
    assert other_int8.calls >= 6 * 30


@pytest.mark.usefixtures("nothing_installed")
def test_a_float_form_that_answers_otherwise_is_another_network(inputs: Inputs, tmp_path: Path) -> None:
    rows = run(["another network"], inputs, tmp_path)
    failed = [row for row in rows if isinstance(row, Failed)]
    assert [row.name for row in failed] == ["Another Network float"]
    assert "0.0% of the images" in failed[0].reason


@pytest.mark.usefixtures("nothing_installed")
def test_one_that_dies_while_it_is_timed_is_a_row_and_the_others_are_timed_to_the_end(
    inputs: Inputs, tmp_path: Path
) -> None:
    rows = {row.name: row for row in run(["dies when timed", "steady"], inputs, tmp_path)}
    died = rows["Dies When Timed float"]
    assert isinstance(died, Failed)
    assert "SIGKILL" in died.reason
    assert isinstance(rows["Steady int8 twice"], Measured)


@pytest.mark.usefixtures("nothing_installed")
def test_without_the_reference_there_is_nothing_to_compare_with(inputs: Inputs, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"Dies When Timed float: failed .*SIGKILL") as caught:
        run(["dies when timed"], inputs, tmp_path, reference="Dies When Timed float")
    assert "--reference" in caught.value.next_step
