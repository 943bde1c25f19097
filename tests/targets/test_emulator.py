"""The CPUs that can be emulated: how they are started, and why they are not here."""

import dataclasses
import platform
import sys
from pathlib import Path

import pytest

from edgecnn.targets import sysroot
from edgecnn.targets.emulator import ARM64, CORTEX_A53, CORTEX_A76, HASWELL, WORKER, EmulatedCpu
from tests.emulation import native_cpu, plant_emulator

CPUS = pytest.mark.parametrize("cpu", [HASWELL, *ARM64], ids=lambda cpu: cpu.name)


def test_another_system_cannot_emulate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    assert HASWELL.why_not() == "user-mode emulation needs Linux, this is Darwin"


def test_this_environment_runs_on_its_own_architecture_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert "which is aarch64, not x86_64" in (HASWELL.why_not() or "")


@CPUS
def test_no_emulator_no_cpu(cpu: EmulatedCpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setenv("PATH", "/nowhere")
    assert cpu.why_not() == f"qemu-{cpu.architecture}-static is not on PATH"


def test_an_emulator_on_path_is_enough_for_this_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = plant_emulator(tmp_path, monkeypatch)
    assert cpu.why_not() is None
    program = str(tmp_path / cpu.emulator)
    assert cpu.command() == [program, "-cpu", "Haswell", sys.executable, "-P", str(WORKER)]


def test_a_foreign_python_must_be_set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant_emulator(tmp_path / "bin", monkeypatch)
    (tmp_path / "bin" / "qemu-aarch64-static").symlink_to(next((tmp_path / "bin").iterdir()))
    monkeypatch.setenv("EDGECNN_CACHE", str(tmp_path / "cache"))
    assert CORTEX_A53.why_not() == f"its Python is not set up for {sysroot.wanted()}"
    root = sysroot.folder()
    (root / "usr" / "bin").mkdir(parents=True)
    (root / "usr" / "bin" / "python3.11").touch()
    sysroot.plant(root, {"cortex-a53": "text"})
    assert CORTEX_A53.why_not() is None
    assert CORTEX_A76.why_not() is not None, "it was set up before there was this CPU"
    words = CORTEX_A53.command()
    assert words[1:3] == ["-cpu", "cortex-a53"]
    assert words[words.index("-L") + 1] == str(root / "cpu" / "cortex-a53")
    assert f"PYTHONPATH={root}/site" in words
    assert words[-3:] == [str(root / "usr" / "bin" / "python3.11"), "-P", str(WORKER)]


def test_a_foreign_python_does_not_inherit_this_ones_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONPATH", "LD_PRELOAD", "OTHER"):
        monkeypatch.setenv(name, "here")
    assert {"PYTHONPATH", "LD_PRELOAD"} & set(CORTEX_A53.environment()) == set()
    assert HASWELL.environment()["PYTHONPATH"] == "here"
    for cpu in (CORTEX_A53, HASWELL):
        told = cpu.environment()
        assert (told["OTHER"], told["PYTHONHASHSEED"], told["OMP_NUM_THREADS"]) == ("here", "0", "1")


@pytest.mark.parametrize(
    ("has", "lacks", "features", "machine", "reason"),
    [
        ({"A"}, {"B"}, {"A", "C"}, "m", None),
        ({"A"}, set(), {"C"}, "m", "the emulated CPU has no A"),
        (set(), {"B"}, {"B"}, "m", "the emulated CPU has B, which a Fake CPU has not"),
        (set(), set(), set(), "n", "expected m, found n"),
    ],
)
def test_what_is_emulated_must_be_that_cpu(
    has: set[str], lacks: set[str], features: set[str], machine: str, reason: str | None
) -> None:
    cpu = native_cpu(has=frozenset(has), lacks=frozenset(lacks), architecture="m")
    assert cpu.differs({"features": sorted(features), "machine": machine}) == reason


def test_only_a_haswell_without_vnni_shows_what_the_audit_looks_for() -> None:
    assert HASWELL.differs({"features": frozenset({"AVX2", "FMA3"}), "machine": "x86_64"}) is None
    assert HASWELL.differs({"features": frozenset({"AVX2", "FMA3", "AVX512VNNI"}), "machine": "x86_64"}) is not None
    assert CORTEX_A53.differs({"features": frozenset({"ASIMD", "ASIMDDP"}), "machine": "aarch64"}) is not None
    assert CORTEX_A76.differs({"features": frozenset({"ASIMD"}), "machine": "aarch64"}) is not None


@pytest.mark.parametrize(("cpu", "part", "dot_product"), [(CORTEX_A53, "0xd03", False), (CORTEX_A76, "0xd0b", True)])
def test_the_planted_part_is_that_of_the_cpu(cpu: EmulatedCpu, part: str, dot_product: bool) -> None:
    lines = [line.partition(":") for line in (cpu.cpuinfo or "").splitlines() if line]
    fields = {name.strip(): value.strip() for name, _, value in lines}
    assert fields["CPU part"] == part  # Arm's Technical Reference Manuals, MIDR_EL1
    assert ("asimddp" in fields["Features"].split()) is dot_product
    assert (cpu.cpuinfo or "").endswith("\n\n")


def test_cpus_differ() -> None:
    assert len({dataclasses.astuple(cpu) for cpu in (HASWELL, *ARM64)}) == 3
