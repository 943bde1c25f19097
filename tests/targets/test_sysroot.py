"""Where the Python of another architecture lies."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edgecnn.targets import sysroot


def test_its_name_says_which_versions_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECNN_CACHE", str(tmp_path))
    name = f"aarch64-onnxruntime-{onnxruntime.__version__}-numpy-{np.__version__}"
    assert sysroot.folder() == tmp_path / "targets" / name
    assert sysroot.wanted() == f"onnxruntime {onnxruntime.__version__} and numpy {np.__version__}"


def test_other_versions_are_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    before = sysroot.folder()
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.0")
    assert sysroot.folder() != before


def test_a_relative_cache_folder_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGECNN_CACHE", "here")
    assert sysroot.targets_folder() == tmp_path / "here" / "targets"


def test_each_cpu_sees_its_own_cpuinfo_and_the_shared_rest_wherever_it_is_moved(tmp_path: Path) -> None:
    built = tmp_path / "built"
    (built / "usr").mkdir(parents=True)
    (built / "usr" / "file").write_text("shared")
    sysroot.plant(built, {"a": "I am a\n", "b": "I am b\n"})
    moved = built.rename(tmp_path / "moved")
    for cpu in "ab":
        place = sysroot.prefix(moved, cpu)
        assert (place / "proc" / "cpuinfo").read_text() == f"I am {cpu}\n"
        assert (place / "usr" / "file").read_text() == "shared"


def test_its_python_is_found_among_the_tools(tmp_path: Path) -> None:
    (tmp_path / "usr" / "bin").mkdir(parents=True)
    for name in ("python3.13", "python3.13-config", "pdb3.13"):
        (tmp_path / "usr" / "bin" / name).touch()
    assert sysroot.python(tmp_path).name == "python3.13"
