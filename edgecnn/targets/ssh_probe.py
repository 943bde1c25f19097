"""What a board is asked first: which machine it is, and what it has.

It stands alone, is sent as text, and runs on any Python 3, so that an old one can be named.
"""

import json
import os
import platform
import sys
from typing import Any


def look() -> Any:
    """Return the machine, and of each library the version or why it cannot be imported."""
    versions, errors = {}, {}
    for name in ("numpy", "onnxruntime"):
        try:
            versions[name] = __import__(name).__version__
        except Exception as error:  # noqa: BLE001 - carried over to the process that asked
            errors[name] = f"{type(error).__name__}: {telling_line(str(error))}"
    python = platform.python_version()
    return {"machine": platform.machine(), "python": python, "versions": versions, "errors": errors}


def telling_line(said: str) -> str:
    """Return the line that says what is wrong: numpy puts a page of advice in front of it."""
    lines = [line.strip() for line in said.split("\n") if line.strip()]
    told = [line for line in lines if line.startswith("Original error was")]
    return (told + lines + [""])[0]


if __name__ == "__main__":
    sys.path[:] = [place for place in sys.path if place]  # what lies in the home folder is no library
    sys.dont_write_bytecode = True
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # it would write to the user's cache
    print("\n" + json.dumps(look()))
