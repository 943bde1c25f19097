"""Records of latency: those written before there were more fields are still read."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from edgecnn.bundle.latency import LatencyResult, Speedup
from tests.bundles import full_latency_result, latency_result

#: As edgecnn wrote it before ``through``, ``noise`` and the other newer fields.
OLD = """{"target": "cpu", "batch": 1, "threads": 1, "clock": "measured",
 "float": {"p50_us": 23.5, "p90_us": 23.9, "p99_us": 26.5, "n": 85210},
 "int8": {"p50_us": 38.0, "p90_us": 39.5, "p99_us": 56.0, "n": 52340},
 "speedup": {"median": 0.62, "low": 0.608, "high": 0.636}, "verdict": "slower", "pairs": 10, "rounds": 4,
 "pinned_cpus": [1], "measured_at": "2026-07-01T10:00:00Z",
 "machine": {"system": "Linux 6.1", "architecture": "x86_64", "cpu": "x", "cores": 2, "cpu_features": ["AVX2"],
             "versions": {"python": "3.11.7"}, "load_average": 0.1}}"""


def test_an_old_record_is_read_and_says_what_it_does_not_know() -> None:
    found = LatencyResult.model_validate_json(OLD)
    assert (found.through, found.noise, found.precision, found.float_startup) == ("run", None, None, None)
    assert (found.float_latency.max_us, found.float_latency.images_per_second) == (None, None)
    assert found.float_medians_us == ()
    assert not found.too_noisy


def test_the_committed_bundles_are_read() -> None:
    for path in sorted((Path(__file__).parents[2] / "artifacts").glob("*/manifest.json")):
        rows = json.loads(path.read_text())["latency"]
        assert rows
        assert all(LatencyResult.model_validate(row).speedup.median > 0 for row in rows)


def test_a_record_is_written_and_read_the_same() -> None:
    for result in (latency_result(), full_latency_result()):
        assert LatencyResult.model_validate_json(result.model_dump_json()) == result


def test_more_pairs_than_are_ever_measured_are_refused() -> None:
    tree = json.loads(full_latency_result().model_dump_json())
    with pytest.raises(ValidationError, match="at most 1000 items"):
        LatencyResult.model_validate(tree | {"int8_medians_us": [1.0] * 1001})


def test_the_width_of_an_interval_is_a_share_of_its_median() -> None:
    assert Speedup(median=2.0, low=1.9, high=2.2).relative_width == pytest.approx(0.15)


def test_only_a_precision_that_was_asked_for_can_be_missed() -> None:
    assert full_latency_result().too_noisy
    precision = full_latency_result().precision
    assert precision is not None
    assert not full_latency_result(precision=precision.model_copy(update={"met": True})).too_noisy
