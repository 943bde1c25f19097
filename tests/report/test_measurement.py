"""One ``edgecnn bench`` on the terminal: what was measured and nothing else."""

from collections.abc import Sequence

import pytest

from edgecnn.bundle.manifest import Check, ValidationFailure
from edgecnn.bundle.measurement import Measurement
from edgecnn.report.measurement import measurement_items
from tests.bundles import full_latency_result, measurement, operator_profile, tiny_result, validation_failure
from tests.terminal import shown

CHECK = Check(name="speedup on cpu", measured=1.2, limit=1, unit="times", passed=True)
LATENCY, PROTOCOL, PROFILE = "Latency, microseconds", "MLPerf Tiny", "Layers on cpu"


def text(found: Measurement, *checks: Check, failures: Sequence[ValidationFailure] = ()) -> str:
    items = measurement_items("folder", found, checks, failures, passed=not failures)
    return "\n".join(shown(item) for item in items)


@pytest.mark.parametrize(
    ("found", "heads"),
    [
        (measurement(full_latency_result()), {LATENCY}),
        (measurement(protocol=tiny_result()), {PROTOCOL}),
        (measurement(full_latency_result(), profiles=(operator_profile(),)), {LATENCY, PROFILE}),
    ],
    ids=["latency", "protocol", "profile"],
)
def test_what_was_measured_is_shown_and_nothing_else(found: Measurement, heads: set[str]) -> None:
    assert {head for head in (LATENCY, PROTOCOL, PROFILE) if head in text(found)} == heads


def test_without_a_gate_there_is_no_verdict() -> None:
    assert "report:" not in text(measurement(full_latency_result()))
    judged = text(measurement(full_latency_result()), CHECK)
    assert CHECK.name in judged
    assert judged.endswith("PASSED report: folder/report.md")


def test_a_target_without_figures_is_told_under_those_of_the_others() -> None:
    told = text(measurement(full_latency_result()), failures=[validation_failure()])
    assert told.index(LATENCY) < told.index("its process failed: SIGSEGV")
    assert told.endswith("FAILED report: folder/report.md")
