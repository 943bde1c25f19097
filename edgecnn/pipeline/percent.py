"""Shares as they are typed: always with a percent sign, for 0.02 and 2 could both be meant by a bare number."""

import re

from edgecnn.errors import UsageError

_PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)%", re.ASCII)


def parse_percent(option: str, text: str) -> float:
    """Return ``2%`` as 0.02.

    Raises:
        UsageError: it is not a number above 0 and below 100 with a percent sign.
    """
    match = _PERCENT.fullmatch(text.strip())
    value = float(match[1]) / 100 if match else 0.0
    if not 0 < value < 1:
        raise UsageError(
            f"{option}: expected a share above 0% and below 100%, such as 2%; found {text!r}.", next_step=f"{option} 2%"
        )
    return value
