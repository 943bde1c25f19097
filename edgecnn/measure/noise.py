"""Drift and noise: what the machine did while something was measured on it, and which of it is too much."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgecnn.bundle.latency import Noise, Trend
from edgecnn.measure import system
from edgecnn.measure.stopwatch import now_us, time_calls
from edgecnn.stats import drift

#: Above these shares the measurement is said to be disturbed.
MAX_SPIN_VARIATION = 0.05
MAX_FREQUENCY_VARIATION = 0.05
MAX_STEAL = 0.01
MAX_OTHER_LOAD = 0.05
#: Where the system does not tell who had the CPUs: processes that ran or waited before the measurement began.
MAX_LOAD = 1.0
#: Times a second that the process was taken off its CPU.
MAX_SWITCHES_PER_S = 50.0
#: A trend counts if chance alone gives it less often than this, and if it is larger than that.
TREND_P = 0.01
MIN_TREND = 0.02
#: Shorter measurements see too few ticks of 10 ms to tell a share of the CPU's time.
MIN_SECONDS = 1.0
_SPIN_STEPS = 4000
_SPINS = 5


def spin() -> int:
    """Do a fixed piece of integer arithmetic of some tenths of a millisecond; memory plays no part in it."""
    value = 1
    for step in range(_SPIN_STEPS):
        value = (value * 1103515245 + step) & 0x7FFFFFFF
    return value


@dataclass(kw_only=True)
class NoiseWatch:
    """Looks at the machine when made, at each :meth:`sample`, and at the end.

    Attributes:
        cpus: that the measured process is pinned to; none means all.
    """

    cpus: Sequence[int]
    _spins_us: list[float] = field(default_factory=list)
    _frequencies_mhz: list[float] = field(default_factory=list)
    _started_us: float = field(default_factory=now_us)
    _own_s: float = field(default_factory=time.process_time)
    _load: float | None = field(default_factory=system.load_average)
    _switches: int | None = field(default_factory=system.involuntary_switches)
    _cpu: system.CpuTime | None = None

    def __post_init__(self) -> None:
        self._cpu = system.cpu_time(self.cpus)
        spin()  # the first one is slower: Python specializes the code
        self.sample()

    def sample(self) -> None:
        """Time the spin, and read the CPUs' frequencies."""
        self._spins_us.append(float(np.median(time_calls(spin, _SPINS))))
        self._frequencies_mhz += system.frequencies_mhz(self.cpus)

    def finish(self, medians_us: NDArray[np.float64], *, sessions: int, unsteady_sessions: int) -> Noise:
        """Return the record, with a warning for each figure that is too high.

        Args:
            medians_us: float64 ``[pairs]``, how long the models took in each pair, in order.
            sessions: how many were opened.
            unsteady_sessions: how many of them were still changing after their warm-up.
        """
        self.sample()
        low, median, high = np.percentile(self._spins_us, [10, 50, 90])
        seconds = (now_us() - self._started_us) / 1e6
        switches = system.involuntary_switches()
        noise = Noise(
            seconds=seconds,
            spin_us=float(median),
            spin_variation=float((high - low) / median),
            frequency_low_mhz=min(self._frequencies_mhz, default=None),
            frequency_high_mhz=max(self._frequencies_mhz, default=None),
            **self._shares(seconds),
            load_average_before=self._load,
            load_average_after=system.load_average(),
            involuntary_switches=None if switches is None or self._switches is None else switches - self._switches,
            trend=trend(medians_us),
            sessions=sessions,
            unsteady_sessions=unsteady_sessions,
        )
        return noise.model_copy(update={"warnings": tuple(warnings(noise))})

    def _shares(self, seconds: float) -> dict[str, float | None]:
        """Return which shares of the CPUs' time a hypervisor and other processes took."""
        before, after = self._cpu, system.cpu_time(self.cpus)
        if before is None or after is None or seconds < MIN_SECONDS:
            return {"steal": None, "other_load": None}
        total = max(after.total_s - before.total_s, 1e-9)
        steal = after.steal_s - before.steal_s
        busy = total - (after.idle_s - before.idle_s) - steal
        others = busy - (time.process_time() - self._own_s)
        return {"steal": _share(steal, total), "other_load": _share(others, total)}


def _share(part: float, whole: float) -> float:
    return float(np.clip(part / whole, 0, 1))  # ticks are coarse: it may come out a little below 0


def trend(medians_us: NDArray[np.float64]) -> Trend:
    """Return whether times rose or fell in the order they were measured."""
    found = drift(medians_us)
    return Trend(tau=found.tau, p_value=found.p_value, change=found.rise / float(np.median(medians_us)))


def warnings(noise: Noise) -> list[str]:
    """Return a sentence for each figure that says the measurement was disturbed."""
    found = [*_speed_warnings(noise), *_load_warnings(noise)]
    if noise.unsteady_sessions * 10 > noise.sessions:
        found.append(
            f"{noise.unsteady_sessions} of {noise.sessions} sessions were still changing by more than 1% "
            "when their warm-up was cut off"
        )
    return found


def _speed_warnings(noise: Noise) -> list[str]:
    found = []
    low, high = noise.frequency_low_mhz, noise.frequency_high_mhz
    if low is not None and high is not None and high / low - 1 > MAX_FREQUENCY_VARIATION:
        found.append(f"the CPU's frequency went from {low:.0f} to {high:.0f} MHz")
    if noise.spin_variation > MAX_SPIN_VARIATION:
        found.append(f"the same arithmetic took {noise.spin_variation:.0%} longer at some times than at others")
    change = noise.trend.change
    if noise.trend.p_value < TREND_P and abs(change) > MIN_TREND:
        found.append(
            f"both models became {'slower' if change > 0 else 'faster'} by {abs(change):.0%} from first to last"
        )
    return found


def _load_warnings(noise: Noise) -> list[str]:
    found = []
    if noise.steal is not None and noise.steal > MAX_STEAL:
        found.append(f"the hypervisor took {noise.steal:.0%} of the CPU's time for others")
    if noise.other_load is not None and noise.other_load > MAX_OTHER_LOAD:
        found.append(f"other processes took {noise.other_load:.0%} of the CPU's time")
    if noise.other_load is None and noise.load_average_before is not None and noise.load_average_before > MAX_LOAD:
        found.append(f"the load average was {noise.load_average_before:.1f} before it began")
    if noise.involuntary_switches is not None:
        rate = noise.involuntary_switches / noise.seconds
        if rate > MAX_SWITCHES_PER_S:
            found.append(f"the process was taken off its CPU {rate:.0f} times a second")
    return found
