"""The program as a user starts it: a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

#: As ``python -m edgecnn``, whatever the process that runs the tests does with Ctrl-C.
_MAIN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv[0] = "edgecnn"
from edgecnn.cli import main
main()
"""


def environment() -> dict[str, str]:
    """Return the environment of a child: one thread, for tests run beside each other."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def edgecnn(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run ``python -m edgecnn`` to its end in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "edgecnn", *arguments],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def start(*arguments: str, cwd: Path, before: str = "") -> subprocess.Popen[str]:
    """Start the program; ``before`` is Python that runs first."""
    return subprocess.Popen(
        [sys.executable, "-c", before + _MAIN, *arguments],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
