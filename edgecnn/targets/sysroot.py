"""Where the Python of another architecture lies: one folder in the cache, whole or not there at all.

::

    targets/aarch64-onnxruntime-1.32.0-numpy-2.4.6/
        usr/, lib/      Debian's packages, unpacked
        site/           the wheels
        cpu/cortex-a53/ what ``qemu -L`` is given: proc/cpuinfo, and links to lib and usr
"""

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path

from edgecnn.bundle.locate import cache_folder

#: The wheels whose kernels are audited: of the same versions as here.
WHEELS = ("onnxruntime", "numpy")


def targets_folder() -> Path:
    """Return where targets are set up: ``targets`` in edgecnn's cache folder."""
    return cache_folder().resolve() / "targets"


def versions() -> dict[str, str]:
    """Return the version that each wheel must have: the one that is installed here."""
    return {name: importlib.metadata.version(name) for name in WHEELS}


def folder() -> Path:
    """Return where the arm64 sysroot for this environment's versions is, or would be."""
    return targets_folder() / "-".join(("aarch64", *(word for pair in versions().items() for word in pair)))


def wanted() -> str:
    """Return the versions it must have, in words."""
    return " and ".join(f"{name} {version}" for name, version in versions().items())


def python(root: Path) -> Path:
    """Return the sysroot's Python: the only one in it; a sysroot without it is a defect of the installer."""
    (found,) = (path for path in (root / "usr" / "bin").glob("python3.*") if path.name[8:].isdigit())
    return found


def prefix(root: Path, cpu: str) -> Path:
    """Return what ``qemu -L`` is given for a CPU."""
    return root / "cpu" / cpu


def plant(root: Path, cpuinfo: Mapping[str, str]) -> None:
    """Write the ``/proc/cpuinfo`` of each CPU, beside links to what all of them share."""
    for cpu, text in cpuinfo.items():
        place = prefix(root, cpu)
        (place / "proc").mkdir(parents=True)
        (place / "proc" / "cpuinfo").write_text(text)
        for shared in ("usr", "lib"):
            (place / shared).symlink_to(Path("../..") / shared)
