"""Shares as they are typed."""

import pytest

from edgecnn.errors import ExitCode, UsageError
from edgecnn.pipeline.percent import parse_percent


@pytest.mark.parametrize(("text", "value"), [("2%", 0.02), (" 0.5% ", 0.005), ("99.9%", 0.999), ("05%", 0.05)])
def test_a_share_is_a_number_with_a_percent_sign(text: str, value: float) -> None:
    assert parse_percent("--until", text) == pytest.approx(value)


@pytest.mark.parametrize(
    "text", ["0%", "0.0%", "100%", "-2%", "2", "0.02", "", "%", "two%", "2%%", "1e0%", "nan%", "inf%", "2 %", "٢%"]
)
def test_anything_else_is_refused_by_name(text: str) -> None:
    with pytest.raises(UsageError, match="--fail-if-slower: expected a share above 0% and below 100%") as caught:
        parse_percent("--fail-if-slower", text)
    assert caught.value.exit_code == ExitCode.USAGE
    assert repr(text) in caught.value.message
    assert caught.value.next_step == "--fail-if-slower 2%"
