"""What machine this is: the part of a figure that people leave out."""

import importlib.metadata
import os
import platform
from pathlib import Path

from edgecnn.bundle.manifest import MachineRecord
from edgecnn.targets.emulator import TELLING_FEATURES

_PACKAGES = ("numpy", "onnx", "onnxruntime")


def describe_machine() -> MachineRecord:
    """Return this machine and the versions that run here, as they are now."""
    return MachineRecord(
        system=f"{platform.system()} {platform.release()}",
        architecture=platform.machine(),
        cpu=_cpu_name(),
        cores=os.cpu_count() or 1,
        cpu_features=_cpu_features(),
        versions={"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in _PACKAGES},
        load_average=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    )


def _cpu_name() -> str:
    """Return the CPU's brand as Linux tells it, else what Python knows."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith(("model name", "Hardware")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cpu_features() -> tuple[str, ...]:
    """Return the relevant features that the CPU itself reports; also right under an emulator."""
    # numpy has no public name for it; np.show_runtime() prints the same.
    from numpy._core._multiarray_umath import __cpu_features__ as features  # type: ignore[import-not-found]

    return tuple(name for name in TELLING_FEATURES if features.get(name))
