"""What machine this is, as the machine itself says."""

import importlib.metadata
import os
import platform
import sys
from pathlib import Path

import pytest

from edgecnn.measure import machine
from edgecnn.measure.machine import describe_machine

#: NumPy's name of a feature, and that of Linux on x86.
LINUX_FLAGS = {"AVX2": "avx2", "FMA3": "fma", "AVX512F": "avx512f", "AVX512VNNI": "avx512_vnni"}


def test_the_versions_are_those_that_run_here() -> None:
    versions = describe_machine().versions
    assert versions == {
        "python": ".".join(str(part) for part in sys.version_info[:3]),
        "numpy": importlib.metadata.version("numpy"),
        "onnx": importlib.metadata.version("onnx"),
        "onnxruntime": importlib.metadata.version("onnxruntime"),
    }


def test_the_machine_is_this_one() -> None:
    found = describe_machine()
    uname = os.uname()
    assert found.system == f"{uname.sysname} {uname.release}"
    assert found.architecture == uname.machine
    assert found.cores == os.cpu_count()
    assert found.cpu


@pytest.mark.skipif(platform.machine() != "x86_64" or sys.platform != "linux", reason="needs Linux on x86")
def test_the_features_are_those_that_linux_lists() -> None:
    line = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    flags = line.split(":")[1].split()
    assert describe_machine().cpu_features == tuple(name for name, flag in LINUX_FLAGS.items() if flag in flags)


@pytest.mark.parametrize(
    ("cpuinfo", "name"),
    [
        (
            "processor\t: 0\nmodel\t\t: 143\nmodel name\t: Intel(R) Xeon(R) Platinum 8488C\n",
            "Intel(R) Xeon(R) Platinum 8488C",
        ),
        ("processor\t: 0\nBogoMIPS\t: 108.00\n\nHardware\t: BCM2711\nModel\t\t: Raspberry Pi 4\n", "BCM2711"),
        ("model name\t: first: with a colon\nmodel name\t: second\n", "first: with a colon"),
    ],
)
def test_the_cpu_is_named_as_linux_names_it(
    cpuinfo: str, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(machine, "Path", lambda path: tmp_path / "cpuinfo" if path == "/proc/cpuinfo" else Path(path))
    assert describe_machine().cpu == name


@pytest.mark.parametrize(("processor", "name"), [("arm", "arm"), ("", "riscv64")])
def test_a_cpu_that_linux_does_not_name_is_named_as_python_does(
    processor: str, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(machine, "Path", lambda path: tmp_path / "missing")
    monkeypatch.setattr(platform, "processor", lambda: processor)
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert describe_machine().cpu == name


def test_the_load_is_that_of_the_last_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (1.23456, 7.0, 8.0))
    assert describe_machine().load_average == 1.23


def test_a_system_without_a_load_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "getloadavg")
    assert describe_machine().load_average is None
