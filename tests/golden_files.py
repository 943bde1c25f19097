"""Golden files: what the program prints, kept to be read in a diff."""

import os
from pathlib import Path

FOLDER = Path(__file__).parent / "golden"
UPDATE = "EDGECNN_UPDATE_GOLDEN"


def assert_golden(name: str, found: str) -> None:
    """Compare text with ``tests/golden/<name>``; with ``EDGECNN_UPDATE_GOLDEN=1`` write it instead."""
    path = FOLDER / name
    if os.environ.get(UPDATE) == "1":
        path.write_text(found, encoding="utf-8")
    expected = path.read_text(encoding="utf-8") if path.is_file() else ""
    assert found == expected, (
        f"{name} is not what tests/golden/{name} holds. If the change is meant: "
        f"{UPDATE}=1 .venv/bin/pytest tests/test_cli.py tests/report, then read the diff."
    )
