"""What the operating system tells of its CPUs; None where it does not."""

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_CPUS = Path("/sys/devices/system/cpu")
#: Columns of a CPU's line in /proc/stat, see proc(5); guest time is part of user time already.
_COLUMNS = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")


@dataclass(frozen=True, kw_only=True)
class CpuTime:
    """Seconds of some CPUs since the system started: idle, taken by a hypervisor, and all together."""

    idle_s: float
    steal_s: float
    total_s: float


def cpu_time(cpus: Iterable[int]) -> CpuTime | None:
    """Return the time of some CPUs together, from /proc/stat, in steps of 10 ms as a rule."""
    names = {f"cpu{number}" for number in cpus} or {"cpu"}
    path = _PROC / "stat"
    if not path.is_file():
        return None
    rows = [line.split() for line in path.read_text(encoding="ascii", errors="replace").splitlines()]
    ticks = dict.fromkeys(_COLUMNS, 0)
    for row in rows:
        if row and row[0] in names:
            for name, value in zip(_COLUMNS, row[1:], strict=False):
                ticks[name] += int(value)
    per_second = os.sysconf("SC_CLK_TCK")
    return CpuTime(
        idle_s=(ticks["idle"] + ticks["iowait"]) / per_second,
        steal_s=ticks["steal"] / per_second,
        total_s=sum(ticks.values()) / per_second,
    )


def frequencies_mhz(cpus: Iterable[int]) -> list[float]:
    """Return the present frequency of each of these CPUs that tells it; virtual machines as a rule do not."""
    files = [_CPUS / f"cpu{number}" / "cpufreq" / "scaling_cur_freq" for number in cpus]
    texts = [file.read_text(encoding="ascii").strip() for file in files if file.is_file()]
    return [int(text) / 1000 for text in texts if text.isdigit() and int(text) > 0]


def load_average() -> float | None:
    """Return how many processes ran or waited for a CPU, on average over the last minute."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def involuntary_switches() -> int | None:
    """Return how often this process was taken off a CPU since it started."""
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
