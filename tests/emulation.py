"""Emulators to test with: a fake that runs this machine's own Python, and whether the real one is here."""

import dataclasses
import platform
import shutil
from pathlib import Path

import pytest

from edgecnn import targets
from edgecnn.targets import Target
from edgecnn.targets.emulator import HASWELL, EmulatedCpu

FAKE = "cpu@fake"
#: As the emulator is called: -cpu NAME, then the program.
_PASS_ON = '#!/bin/sh\n[ "$1" = -cpu ] && shift 2\nexec "$@"\n'

needs_haswell = pytest.mark.skipif(
    HASWELL.why_not() is not None, reason=f"no emulated Haswell here: {HASWELL.why_not()}"
)


def native_cpu(**changes: object) -> EmulatedCpu:
    """Return a CPU that is the machine's own: anything it can do is right."""
    own = {"architecture": platform.machine(), "has": frozenset(), "lacks": frozenset(), "title": "Fake CPU"}
    return dataclasses.replace(HASWELL, **(own | changes))  # type: ignore[arg-type]


def plant_emulator(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str = _PASS_ON) -> EmulatedCpu:
    """Put a script in the emulator's place on PATH, and return the CPU that it claims to emulate."""
    cpu = native_cpu()
    folder.mkdir(exist_ok=True)
    program = folder / cpu.emulator
    program.write_text(script)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    assert shutil.which(cpu.emulator) == str(program)
    return cpu


def plant_target(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str = _PASS_ON) -> str:
    """Add a row for that CPU to the target table, and return its name."""
    cpu = plant_emulator(folder, monkeypatch, script)
    row = Target(
        provider="CPUExecutionProvider",
        clock="emulated",
        summary="a fake",
        remedy="none",
        runtime=cpu,
    )
    monkeypatch.setitem(targets.TARGETS, FAKE, row)
    return FAKE
