"""Finding a QEMU that takes plugins, and compiling ours for it."""

import shutil
import subprocess
from pathlib import Path

import pytest

from edgecnn.errors import EdgecnnError, TargetError
from edgecnn.progress import SILENT
from edgecnn.targets import qemu_user
from edgecnn.targets.qemu_user import compile_plugin, find_qemu, install_qemu, takes_plugins

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler is on PATH")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGECNN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "targets"


def plant(path: Path, *, plugins: bool = True, version: str = "7.2.17") -> Path:
    """Write a program that answers as QEMU does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    option = "-plugin [file=]file" if plugins else "-L path"
    path.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && echo "qemu-aarch64 version {version} (Debian)"\necho "{option}"\n'
    )
    path.chmod(0o755)
    return path


def plant_unpacked(root: Path) -> None:
    """Write what unpacking leaves: a loader that starts what it is given, libraries, programs."""
    loader = root / "lib64" / "ld-linux-x86-64.so.2"
    loader.parent.mkdir(parents=True)
    loader.write_text('#!/bin/sh\n[ "$1" = --library-path ] || exit 9\nshift 2\nexec "$@"\n')
    loader.chmod(0o755)
    for place in ("lib", "usr/lib"):
        (root / place / "x86_64-linux-gnu").mkdir(parents=True)
        (root / place / "x86_64-linux-gnu" / "libx.so.1").touch()
    for name in ("aarch64", "x86_64", "mips"):
        plant(root / "usr" / "bin" / f"qemu-{name}")


def test_only_a_qemu_whose_help_names_the_option_takes_plugins(tmp_path: Path) -> None:
    assert takes_plugins([str(plant(tmp_path / "with"))])
    assert not takes_plugins([str(plant(tmp_path / "without", plugins=False))])
    assert not takes_plugins([str(tmp_path / "nothing")])


def test_the_systems_qemu_is_taken_first_and_a_static_one_is_not(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    program = plant(tmp_path / "bin" / "qemu-aarch64")
    plant_unpacked(cache / "qemu-user")
    assert find_qemu("aarch64") == [str(program)]
    plant(program, plugins=False)
    found = find_qemu("aarch64")
    assert found is not None
    assert found[0].endswith("ld-linux-x86-64.so.2")
    assert found[-1] == str(cache / "qemu-user" / "usr" / "bin" / "qemu-aarch64")
    assert found[2].split(":") == [
        str(cache / "qemu-user" / place / "x86_64-linux-gnu") for place in ("lib", "usr/lib")
    ]


def test_without_any_there_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_qemu("aarch64") is None


class Packages:
    """Stands in for apt."""

    def __init__(self, architecture: str, scratch: Path) -> None:
        assert scratch.is_dir()

    def update(self) -> None: ...

    def unpack(self, packages: list[str], root: Path) -> None:
        assert packages == ["qemu-user"]
        plant_unpacked(root)


@pytest.fixture
def apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(qemu_user, "ForeignPackages", Packages)
    monkeypatch.setattr(qemu_user, "call", lambda command, **_: "amd64\n")


@pytest.mark.usefixtures("apt")
def test_debians_package_is_unpacked_without_the_programs_that_are_not_needed(cache: Path) -> None:
    install_qemu(SILENT)
    assert sorted(path.name for path in (cache / "qemu-user" / "usr" / "bin").iterdir()) == [
        "qemu-aarch64", "qemu-x86_64"
    ]  # fmt: skip
    assert find_qemu("aarch64") is not None
    install_qemu(SILENT)
    assert [path.name for path in cache.iterdir()] == ["qemu-user"]


@pytest.mark.usefixtures("apt")
def test_a_package_whose_qemu_takes_no_plugins_is_not_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu_user, "takes_plugins", lambda command: False)
    with pytest.raises(TargetError, match="has no QEMU that takes plugins") as caught:
        install_qemu(SILENT)
    assert "--enable-plugins" in caught.value.next_step
    assert list(cache.iterdir()) == []


@pytest.mark.usefixtures("apt")
def test_what_fails_on_the_way_leaves_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Packages, packages: list[str], root: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Packages, "unpack", full)
    with pytest.raises(EdgecnnError, match="the disk is full"):
        install_qemu(SILENT)
    assert list(cache.iterdir()) == []


@needs_compiler
@pytest.mark.parametrize(("version", "interface"), [("7.2.17", 1), ("8.2.2", 1), ("9.0.0", 2), ("10.0.2", 2)])
def test_the_plugin_is_compiled_for_the_interface_of_the_version(tmp_path: Path, version: str, interface: int) -> None:
    target = tmp_path / "plugin.so"
    compile_plugin([str(plant(tmp_path / "qemu", version=version))], target)
    probe = (
        "import ctypes, os; "
        f"print(ctypes.c_int.in_dll(ctypes.CDLL({str(target)!r}, os.RTLD_LAZY), 'qemu_plugin_version').value)"
    )
    done = subprocess.run(["python3", "-c", probe], capture_output=True, text=True, check=True)
    assert int(done.stdout) == interface


def test_without_a_compiler_the_command_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = plant(tmp_path / "qemu")
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(TargetError, match="no C compiler is on PATH") as caught:
        compile_plugin([str(program)], tmp_path / "plugin.so")
    assert caught.value.next_step == "as root: apt-get install gcc libc6-dev"


def test_a_qemu_that_says_no_version_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/cc")
    with pytest.raises(TargetError, match="says no version"):
        compile_plugin([str(plant(tmp_path / "qemu", version="unknown"))], tmp_path / "plugin.so")
