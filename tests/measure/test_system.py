"""What the system tells of its CPUs, from made-up files."""

import os
import sys
from pathlib import Path

import pytest

from edgecnn.measure import system

STAT = """cpu  300 10 50 1000 20 5 5 30 7 0
cpu0 100 5 20 600 10 2 3 10 7 0
cpu1 200 5 30 400 10 3 2 20 0 0
cpu11 1 1 1 1 1 1 1 1 0 0
intr 5 5
"""


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(system, "_PROC", tmp_path)
    monkeypatch.setattr(os, "sysconf", lambda name: 100 if name == "SC_CLK_TCK" else None)
    return tmp_path


@pytest.mark.parametrize(
    ("cpus", "idle", "steal", "total"),
    [((), 10.2, 0.3, 14.2), ((1,), 4.1, 0.2, 6.7), ((0, 1), 10.2, 0.3, 14.2), ((11,), 0.02, 0.01, 0.08)],
)
def test_time_of_the_cpus_asked_for_is_added_up(
    proc: Path, cpus: tuple[int, ...], idle: float, steal: float, total: float
) -> None:
    (proc / "stat").write_text(STAT)
    found = system.cpu_time(cpus)
    assert found is not None
    # guest time (the ninth column) is part of user time already
    assert (found.idle_s, found.steal_s, found.total_s) == pytest.approx((idle, steal, total))


def test_an_old_kernel_has_fewer_columns(proc: Path) -> None:
    (proc / "stat").write_text("cpu  100 0 0 300\n")
    found = system.cpu_time(())
    assert found is not None
    assert (found.idle_s, found.steal_s, found.total_s) == (3, 0, 4)


def test_a_system_without_proc_tells_nothing(proc: Path) -> None:
    assert system.cpu_time((0,)) is None


def test_frequencies_are_those_of_the_cpus_that_tell_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "_CPUS", tmp_path)
    for cpu, text in ((0, "2400000\n"), (1, "800000\n"), (2, "<unknown>\n"), (3, "0\n")):
        (tmp_path / f"cpu{cpu}" / "cpufreq").mkdir(parents=True)
        (tmp_path / f"cpu{cpu}" / "cpufreq" / "scaling_cur_freq").write_text(text)
    assert system.frequencies_mhz((0, 1)) == [2400.0, 800.0]
    assert system.frequencies_mhz((1, 2, 3, 7)) == [800.0]


def test_this_system_counts_up() -> None:
    before, cpu = system.involuntary_switches(), system.cpu_time(())
    after, later = system.involuntary_switches(), system.cpu_time(())
    if before is not None and after is not None:
        assert 0 <= before <= after
    if cpu is not None and later is not None:
        assert 0 < cpu.total_s <= later.total_s


def test_windows_has_no_load_average_and_counts_no_switches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "getloadavg", raising=False)
    assert system.load_average() is None
    monkeypatch.setattr(sys, "platform", "win32")
    assert system.involuntary_switches() is None
