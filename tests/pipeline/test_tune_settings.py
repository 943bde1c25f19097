"""What a user may say of a tuning, and what is refused before anything is read."""

import pytest

from edgecnn.bundle.tuning import Objective
from edgecnn.errors import ExitCode, UsageError
from edgecnn.measure.latency import available_cpus
from edgecnn.pipeline.tune_settings import TuneSettings, parse_objective
from edgecnn.tuning.recipes_tried import recipes_tried


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"seconds": 0.0}, "--seconds must be above 0 and finite, found 0"),
        ({"seconds": -5.0}, "--seconds must be above 0 and finite, found -5"),
        ({"seconds": float("nan")}, "--seconds must be above 0"),
        ({"seconds": float("inf")}, "--seconds must be above 0"),
        ({"threads": 0}, "--threads must be 1 to"),
        ({"threads": -1}, "--threads must be 1 to"),
        ({"threads": available_cpus() + 1}, f"--threads must be 1 to {available_cpus()}, the CPUs of this process"),
        ({"batch": 0}, "--batch must be at least 1, found 0"),
        ({"max_drop_pp": -0.1}, "--max-drop is in percentage points, 0 to 100; found -0.1"),
        ({"max_drop_pp": float("nan")}, "--max-drop is in percentage points"),
        ({"objective": "speed"}, "unknown objective 'speed'; known: latency, throughput, size"),
        ({"seed": -1}, "--seed must be at least 0"),
        ({"n_held_out": 0}, "--held-out must be at least 1"),
    ],
)
def test_nonsense_is_refused(fields: dict[str, float | str], words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        TuneSettings(**fields)  # type: ignore[arg-type]
    assert caught.value.exit_code == ExitCode.USAGE


@pytest.mark.parametrize("name", ["latency", "throughput", "size"])
def test_objectives_are_taken_by_name(name: str) -> None:
    assert parse_objective(name) == name


@pytest.mark.parametrize(
    ("objective", "batch", "expected"),
    [("latency", None, 1), ("size", None, 1), ("throughput", None, 64), ("throughput", 8, 8), ("latency", 8, 8)],
)
def test_throughput_is_measured_on_batches(objective: Objective, batch: int | None, expected: int) -> None:
    assert TuneSettings(objective=objective, batch=batch).images_a_call == expected


def test_a_named_recipe_is_tried_alone_and_an_unknown_one_lists_the_known_ones() -> None:
    assert TuneSettings().recipes() == recipes_tried()
    assert [one.name for one in TuneSettings(recipe="u8u8-pertensor-mse").recipes()] == ["u8u8-pertensor-mse"]
    with pytest.raises(UsageError, match="unknown recipe 'int4'"):
        TuneSettings(recipe="int4").recipes()
