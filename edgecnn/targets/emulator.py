"""The CPUs that can be emulated: how each is started, what it must be able to do, and whether it is here."""

import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgecnn.targets import sysroot
from edgecnn.targets.worker import Header

#: The features that decide how fast int8 is, and whether it saturates.
TELLING_FEATURES = ("AVX2", "FMA3", "AVX512F", "AVX512VNNI", "ASIMD", "ASIMDDP")
WORKER = Path(__file__).with_name("worker.py")
#: Debian's package of the user-mode emulators.
PACKAGE = "qemu-user-static"


@dataclass(frozen=True, kw_only=True)
class EmulatedCpu:
    """A CPU that QEMU's user mode stands in for.

    Attributes:
        name: what QEMU calls it, for ``-cpu``.
        title: what people call it.
        architecture: as ``platform.machine()`` says it there.
        has: features, in numpy's words, without which it is not this CPU.
        lacks: features that it must not have: they would hide what the audit looks for.
        cpuinfo: the ``/proc/cpuinfo`` to plant, or None where the program asks the CPU itself.
    """

    name: str
    title: str
    architecture: str
    has: frozenset[str]
    lacks: frozenset[str]
    cpuinfo: str | None = None

    @property
    def emulator(self) -> str:
        """The program that emulates this architecture."""
        return f"qemu-{self.architecture}-static"

    @property
    def program(self) -> str:
        """The emulator's path, or its name where it is not on PATH."""
        return shutil.which(self.emulator) or self.emulator

    @property
    def folder(self) -> Path | None:
        """The Python of its architecture, in the cache; None where this one will do."""
        return sysroot.folder() if self.cpuinfo is not None else None

    @property
    def call_limit_s(self) -> float:
        """Opening a model optimizes its graph; 64 images of 224x224 take a minute or two on one core."""
        return 900.0

    def obstacle(self) -> str | None:
        """Return why nothing that could be installed would help here, or None."""
        if platform.system() != "Linux":
            return f"user-mode emulation needs Linux, this is {platform.system()}"
        if self.cpuinfo is None and platform.machine() != self.architecture:
            return f"it runs this very environment, which is {platform.machine()}, not {self.architecture}"
        return None

    def why_not(self) -> str | None:
        """Return why it cannot be emulated here, or None if it can."""
        if reason := self.obstacle():
            return reason
        if shutil.which(self.emulator) is None:
            return f"{self.emulator} is not on PATH"
        if self.cpuinfo is not None and not sysroot.prefix(sysroot.folder(), self.name).is_dir():
            return f"its Python is not set up for {sysroot.wanted()}"
        return None

    def command(self) -> list[str]:
        """Return what starts the worker on this CPU; call it only where :meth:`why_not` is None."""
        return self.command_in(sysroot.folder())

    def command_in(self, root: Path) -> list[str]:
        """Return what starts the worker, with a sysroot at another place: where one is being made."""
        start = [self.program, "-cpu", self.name]
        python = sys.executable
        if self.cpuinfo is not None:
            python = str(sysroot.python(root))
            start += ["-L", str(sysroot.prefix(root, self.name))]
            start += ["-E", f"PYTHONHOME={root / 'usr'}", "-E", f"PYTHONPATH={root / 'site'}"]
        return [*start, python, "-P", str(WORKER)]

    def environment(self) -> Mapping[str, str]:
        """Return the worker's environment: this process's, made to repeat and to keep quiet."""
        told = {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
        # Python's settings for this machine are not those of a Python from elsewhere.
        own = {k: v for k, v in os.environ.items() if self.cpuinfo is None or not k.startswith(("PYTHON", "LD_"))}
        return own | told

    def cpu(self, seen: Header) -> str:
        """Return its name, and that it is not the real one."""
        return f"{self.title}, emulated by QEMU"

    def adapt(self, model: bytes) -> bytes:
        """Return the model as it is: the same onnxruntime reads it there."""
        return model

    def differs(self, seen: Header) -> str | None:
        """Return how what the worker sees is not this CPU, or None."""
        features, machine = frozenset(seen["features"]), seen["machine"]
        if machine != self.architecture:
            return f"expected {self.architecture}, found {machine}"
        if missing := sorted(self.has - features):
            return f"the emulated CPU has no {', '.join(missing)}"
        if extra := sorted(self.lacks & features):
            return f"the emulated CPU has {', '.join(extra)}, which a {self.title} has not"
        return None


HASWELL = EmulatedCpu(
    name="Haswell",
    title="Intel Haswell",
    architecture="x86_64",
    has=frozenset({"AVX2", "FMA3"}),
    lacks=frozenset({"AVX512F", "AVX512VNNI"}),
)

# onnxruntime's cpuinfo infers from the part number whether there is a dot product: another part than the one that
# is emulated ends in SIGILL, and the host's x86 file in SIGSEGV.
_CPUINFO = """\
processor\t: 0
BogoMIPS\t: 48.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 {features}
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: {variant}
CPU part\t: {part}
CPU revision\t: {revision}

"""

CORTEX_A53 = EmulatedCpu(
    name="cortex-a53",
    title="Arm Cortex-A53",
    architecture="aarch64",
    has=frozenset({"ASIMD"}),
    lacks=frozenset({"ASIMDDP", "SVE"}),
    cpuinfo=_CPUINFO.format(features="cpuid", variant="0x0", part="0xd03", revision=4),
)

CORTEX_A76 = EmulatedCpu(
    name="cortex-a76",
    title="Arm Cortex-A76",
    architecture="aarch64",
    has=frozenset({"ASIMD", "ASIMDDP"}),
    lacks=frozenset({"SVE"}),
    cpuinfo=_CPUINFO.format(
        features="atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp", variant="0x4", part="0xd0b", revision=1
    ),
)

ARM64 = (CORTEX_A53, CORTEX_A76)
