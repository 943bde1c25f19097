"""Which disturbances are said, told from figures that are made up."""

import time
from typing import Any

import numpy as np
import pytest

from edgecnn.bundle.latency import Noise, Trend
from edgecnn.measure import noise as room
from edgecnn.measure import system
from edgecnn.measure.noise import NoiseWatch, trend, warnings
from tests.clockwork import Machine, take_over

QUIET = Noise(
    seconds=10,
    spin_us=250,
    spin_variation=0.01,
    frequency_low_mhz=2400,
    frequency_high_mhz=2450,
    steal=0.0,
    other_load=0.01,
    load_average_before=0.1,
    load_average_after=1.1,
    involuntary_switches=30,
    trend=Trend(tau=0.1, p_value=0.6, change=0.001),
    sessions=20,
    unsteady_sessions=0,
)


def test_a_quiet_machine_is_not_warned_of() -> None:
    assert warnings(QUIET) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"spin_variation": 0.12}, "the same arithmetic took 12% longer at some times than at others"),
        ({"frequency_low_mhz": 1200.0}, "the CPU's frequency went from 1200 to 2450 MHz"),
        ({"steal": 0.03}, "the hypervisor took 3% of the CPU's time for others"),
        ({"other_load": 0.4}, "other processes took 40% of the CPU's time"),
        ({"other_load": None, "load_average_before": 3.14}, "the load average was 3.1 before it began"),
        ({"involuntary_switches": 900}, "the process was taken off its CPU 90 times a second"),
        ({"trend": Trend(tau=0.9, p_value=0.001, change=0.08)}, "both models became slower by 8% from first to last"),
        ({"trend": Trend(tau=-0.9, p_value=0.001, change=-0.08)}, "both models became faster by 8% from first to last"),
        ({"unsteady_sessions": 3}, "3 of 20 sessions were still changing by more than 1% when their warm-up was cut"),
    ],
)
def test_each_disturbance_is_a_sentence_of_its_own(changed: dict[str, Any], words: str) -> None:
    (found,) = warnings(QUIET.model_copy(update=changed))
    assert words in found


@pytest.mark.parametrize(
    "changed",
    [
        {"trend": Trend(tau=0.9, p_value=0.001, change=0.01)},  # sure, but too small to matter
        {"trend": Trend(tau=0.3, p_value=0.2, change=0.3)},  # large, but perhaps by chance
        {"unsteady_sessions": 2},
        {"frequency_low_mhz": None, "frequency_high_mhz": None, "steal": None, "other_load": None},
        {"involuntary_switches": None},
        {"load_average_before": 3.14},  # what others took of these CPUs is known
        {"other_load": None, "load_average_before": None},
    ],
)
def test_what_is_small_by_chance_or_unknown_is_not(changed: dict[str, Any]) -> None:
    assert warnings(QUIET.model_copy(update=changed)) == []


def test_a_trend_is_the_change_over_the_whole_measurement() -> None:
    found = trend(np.linspace(100, 120, 21))
    assert (found.tau, found.change) == pytest.approx((1, 20 / 110))
    assert found.p_value < 1e-6
    assert trend(np.full(10, 5.0)) == Trend(tau=0, p_value=1, change=0)


class Computer(Machine):
    """A clock, CPU times and frequencies that a test moves."""

    steal_s = other_s = 0.0
    switches = 7
    mhz = 2000.0
    spin_us = 100.0

    def cpu_time(self, cpus: object) -> system.CpuTime:
        wall, own = self.now_ns / 1e9, self.now_ns / 1e9 / 2  # this process takes half of the CPU
        idle = wall - own - self.other_s - self.steal_s
        return system.CpuTime(idle_s=idle, steal_s=self.steal_s, total_s=wall)


@pytest.fixture
def computer(monkeypatch: pytest.MonkeyPatch) -> Computer:
    made = Computer()
    clock = take_over(monkeypatch)
    monkeypatch.setattr(clock, "pass_us", None)
    monkeypatch.setattr(room, "now_us", lambda: made.now_ns / 1e3)
    monkeypatch.setattr(room, "time_calls", lambda call, calls: np.full(calls, made.spin_us))
    monkeypatch.setattr(time, "process_time", lambda: made.now_ns / 1e9 / 2)
    monkeypatch.setattr(system, "cpu_time", made.cpu_time)
    monkeypatch.setattr(system, "frequencies_mhz", lambda cpus: [made.mhz])
    return made


def watched(computer: Computer, monkeypatch: pytest.MonkeyPatch) -> NoiseWatch:
    # bound when the class was made
    monkeypatch.setattr(system, "involuntary_switches", lambda: computer.switches)
    watch = NoiseWatch(cpus=(1,))
    watch._switches, watch._own_s, watch._started_us = computer.switches, 0.0, 0.0
    return watch


def test_shares_are_of_the_time_the_cpu_had(computer: Computer, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = watched(computer, monkeypatch)
    computer.pass_us(10e6)
    computer.steal_s, computer.other_s, computer.switches = 1.0, 2.5, 107
    found = watch.finish(np.array([3.0, 3.0, 3.0]), sessions=6, unsteady_sessions=0)
    assert (found.steal, found.other_load) == pytest.approx((0.1, 0.25))
    assert (found.seconds, found.involuntary_switches) == (10, 100)
    assert [words.split()[0] for words in found.warnings] == ["the", "other"]


def test_a_measurement_too_short_for_the_ticks_tells_no_share(
    computer: Computer, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = watched(computer, monkeypatch)
    computer.pass_us(0.9e6)
    computer.other_s = 0.4
    found = watch.finish(np.array([3.0, 3.0, 3.0]), sessions=6, unsteady_sessions=0)
    assert (found.steal, found.other_load) == (None, None)


def test_a_cpu_that_slows_down_between_the_pairs_is_seen(computer: Computer, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = watched(computer, monkeypatch)
    for spin_us, mhz in ((100, 2000), (100, 2000), (130, 1500), (130, 1500)):
        computer.spin_us, computer.mhz = spin_us, mhz
        computer.pass_us(1e6)
        watch.sample()
    found = watch.finish(np.array([3.0, 3.0, 3.0]), sessions=6, unsteady_sessions=0)
    assert found.spin_variation == pytest.approx(0.3 / 1.15, rel=0.2)
    assert (found.frequency_low_mhz, found.frequency_high_mhz) == (1500, 2000)
    assert len(found.warnings) == 2


def test_the_arithmetic_is_always_the_same() -> None:
    assert room.spin() == room.spin() == 963484849


def test_on_this_machine_the_record_is_whole() -> None:
    watch = NoiseWatch(cpus=())
    watch.sample()
    found = watch.finish(np.array([5.0, 5.1, 5.0]), sessions=6, unsteady_sessions=1)
    assert found.spin_us > 1
    assert found.seconds > 0
    assert found.warnings == tuple(warnings(found))
