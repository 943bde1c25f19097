"""One ``edgecnn bench`` on the terminal: what was measured and nothing else."""

import pytest

from edgecnn.bundle.manifest import Check
from edgecnn.bundle.measurement import Measurement
from edgecnn.report.measurement import measurement_items
from tests.bundles import full_latency_result, measurement, operator_profile, tiny_result
from tests.terminal import shown

CHECK = Check(name="speedup on cpu", measured=1.2, limit=1, unit="times", passed=True)
LATENCY, PROTOCOL, PROFILE = "Latency, microseconds", "MLPerf Tiny", "Layers on cpu"


def text(found: Measurement, *checks: Check) -> str:
    return "\n".join(shown(item) for item in measurement_items("folder", found, checks, passed=True))


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
