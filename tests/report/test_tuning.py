"""A tuning in words: what is shipped and why, and every candidate with what was measured of it."""

import io
import json

import pytest
from rich.console import Console

from edgecnn.bundle.manifest import Manifest
from edgecnn.bundle.tuning import RatioRecord
from edgecnn.report.markdown import render
from edgecnn.report.tuning import recommendation_sentence, tuning_items, tuning_view
from tests.tunings import recommendation_record, tuning_record


def shown() -> str:
    out = io.StringIO()
    console = Console(file=out, width=200)
    for item in tuning_items(tuning_record(), recommendation_record()):
        console.print(item)
    return out.getvalue()


def test_each_stage_is_a_table_with_what_was_measured() -> None:
    text = shown()
    assert "recipes on cpu, microseconds a call" in text
    assert "final on cpu, microseconds a call" in text
    (row,) = (line for line in text.splitlines() if "out after 6 heats" in line)
    for word in ("41.6", "1.617", "1.598..1.695", "+0.10", "73,417", "u8s8-perchannel-minmax-reduced"):
        assert word in row
    assert [line for line in text.splitlines() if "blocked-conv (front)" in line]
    assert "no layer of int8 is faster in float" in text


def test_what_was_not_measured_has_no_figure_and_a_reason() -> None:
    (row,) = (line for line in shown().splitlines() if "u8u8" in line)
    assert "(refused: rewritten, it puts 4524 of 5,000 images into another class)" in row
    assert not any(character.isdigit() for character in row.split("u8u8")[0])


def test_the_recommendation_names_the_file_the_reason_the_speed_and_the_drop() -> None:
    assert recommendation_sentence(recommendation_record()) == (
        "Ship int8.onnx on cpu with session options no-arena: the best in latency that loses at most 0.5 points. "
        "1.57 (1.56..1.58) times as fast as float.onnx. It loses +0.14 points (-0.15..+0.43) on training images held "
        "apart."
    )


def test_instructions_are_not_called_time() -> None:
    counted = recommendation_record().model_copy(update={"unit": "instructions", "target": "cpu@cortex-a53"})
    text = recommendation_sentence(counted)
    assert "1.57 (1.56..1.58) times fewer instructions than float.onnx" in text
    assert "as fast" not in text


def test_the_stock_float_is_not_compared_with_itself() -> None:
    one = recommendation_record()
    stock = one.model_copy(
        update={
            "model": "float.onnx",
            "configuration": one.configuration.model_copy(update={"session": "default", "threads": 1}),
            "why": "float is faster here: the best int8 takes 1.50 times as long (1.40 to 1.60)",
            "speedup": RatioRecord(median=1, low=1, high=1),
        }
    )
    text = recommendation_sentence(stock)
    assert text.startswith("Ship float.onnx on cpu: float is faster here: the best int8 takes 1.50 times as long")
    assert "1.00" not in text


def test_what_is_slower_is_not_called_so_many_times_as_fast() -> None:
    slow = recommendation_record().model_copy(update={"speedup": RatioRecord(median=0.5, low=0.4, high=0.8)})
    assert "It takes 2.00 (1.25..2.50) times as long as float.onnx." in recommendation_sentence(slow)
    counted = slow.model_copy(update={"unit": "instructions"})
    assert "It takes 2.00 (1.25..2.50) times the instructions of float.onnx." in recommendation_sentence(counted)


def test_threads_are_told() -> None:
    one = recommendation_record()
    more = one.model_copy(update={"configuration": one.configuration.model_copy(update={"threads": 2})})
    assert "with session options no-arena and 2 threads:" in recommendation_sentence(more)


def test_the_report_holds_every_candidate_and_the_recommendation() -> None:
    manifest = Manifest(edgecnn_version="0", tuning=tuning_record(), recommendation=recommendation_record())
    text = render(manifest, title="t").decode()
    assert "**Ship int8.onnx on cpu with session options no-arena:" in text
    assert text.count("\n| recipes |") + text.count("\n| final |") == len(tuning_record().candidates)
    assert "after 6 heats: slower than" in text
    assert "1.598 to 1.695" in text
    assert "no layer of int8 is faster in float" in text
    assert "does not hold the drop budget" not in text
    over = manifest.model_copy(update={"tuning": tuning_record().model_copy(update={"met": False})})
    assert "**which does not hold the drop budget**" in render(over, title="t").decode()


@pytest.mark.parametrize("met", [True, False])
def test_json_holds_the_records_and_a_verdict(met: bool) -> None:
    record = tuning_record().model_copy(update={"met": met})
    manifest = Manifest(edgecnn_version="0", tuning=record, recommendation=recommendation_record())
    view = tuning_view("b", manifest, unchanged=False)
    assert view.keys() == {"bundle", "unchanged", "tuning", "recommendation", "verdict"}
    assert view["verdict"] == ("passed" if met else "failed")
    assert json.loads(json.dumps(view, allow_nan=False))["tuning"]["candidates"][1]["heats"] == 6
