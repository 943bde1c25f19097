"""Setting a target up: wholly or not at all, once, and never with a sudo. Once with the real Debian, where it can."""

import importlib.metadata
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edgecnn.errors import EdgecnnError, ExitCode, ModelError, TargetError, UsageError
from edgecnn.quantization.saturation import audit_saturation
from edgecnn.targets import TARGETS, install, reference_session, running, sysroot
from edgecnn.targets.debian import ForeignPackages
from edgecnn.targets.emulator import ARM64, CORTEX_A53, HASWELL
from edgecnn.targets.install import install_target
from edgecnn.targets.instructions import InstructionCounter, count_instructions
from edgecnn.targets.worker_session import WorkerSession
from tests.emulation import plant_target
from tests.graphs import small_cnn
from tests.integer_layers import layer_model

A53 = "cpu@cortex-a53"
MODEL = small_cnn().SerializeToString()
X = np.random.default_rng(0).random((4, 3, 8, 8), np.float32)


class Told:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def update(self, task: str, done: int, total: int, detail: str = "") -> None:
        assert done <= total


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGECNN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "targets"


@pytest.fixture
def built(cache: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Stand in for apt, pip and the emulator; return the folders that were built."""
    builds: list[Path] = []

    def build(root: Path, *_: object) -> None:
        builds.append(root)
        (root / "usr" / "bin").mkdir(parents=True)
        (root / "usr" / "bin" / "python3.11").touch()
        sysroot.plant(root, {cpu.name: cpu.cpuinfo or "" for cpu in ARM64})

    monkeypatch.setattr(install, "_build", build)
    monkeypatch.setattr(install, "_require_emulator", lambda *_: None)
    original = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}" if "qemu" in name else original(name))
    monkeypatch.setattr("platform.system", lambda: "Linux")
    return builds


def failing(error: BaseException) -> Callable[..., None]:
    def build(root: Path, *_: object) -> None:
        (root / "half").touch()
        raise error

    return build


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="unknown provider 'cpu@i486'; known: cpu, cpu@haswell, ") as caught:
        install_target("cpu@i486")
    assert caught.value.exit_code == ExitCode.USAGE


@pytest.mark.parametrize("name", [name for name, row in TARGETS.items() if row.runtime is None])
def test_what_runs_in_this_process_is_not_installed(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name}: is not installed by edgecnn; these are: cpu@haswell, ") as caught:
        install_target(name)
    assert caught.value.next_step == TARGETS[name].remedy


def test_all_cpus_of_an_architecture_are_set_up_at_once_and_only_once(cache: Path, built: list[Path]) -> None:
    first = install_target(A53)
    assert (first.unchanged, first.folder, first.target) == (False, sysroot.folder(), A53)
    assert install_target(A53).unchanged
    assert install_target("cpu@cortex-a76").unchanged
    assert len(built) == 1
    assert [path.name for path in cache.iterdir()] == [sysroot.folder().name]


def test_force_makes_it_anew_in_its_place(cache: Path, built: list[Path]) -> None:
    install_target(A53)
    (sysroot.folder() / "old").touch()
    again = install_target(A53, force=True)
    assert not again.unchanged
    assert len(built) == 2
    assert not (sysroot.folder() / "old").exists()
    assert [path.name for path in cache.iterdir()] == [sysroot.folder().name]


@pytest.mark.parametrize("error", [TargetError("no network.", next_step="x"), KeyboardInterrupt()])
def test_what_fails_leaves_nothing_and_keeps_what_was_there(
    cache: Path, built: list[Path], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    good = install._build
    monkeypatch.setattr(install, "_build", failing(error))
    with pytest.raises(type(error)):
        install_target(A53)
    assert list(cache.iterdir()) == []
    assert CORTEX_A53.why_not() is not None
    monkeypatch.setattr(install, "_build", good)
    install_target(A53)
    monkeypatch.setattr(install, "_build", failing(error))
    with pytest.raises(type(error)):
        install_target(A53, force=True)
    assert CORTEX_A53.why_not() is None


def test_a_full_disk_is_named(cache: Path, built: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "_build", failing(OSError(28, "No space left on device")))
    with pytest.raises(EdgecnnError, match="the disk is full") as caught:
        install_target(A53)
    assert caught.value.exit_code == ExitCode.STAGE_FAILED


def test_killed_in_between_it_is_not_there_and_the_next_one_cleans_up(cache: Path, built: list[Path]) -> None:
    code = """
import time
from edgecnn.targets import install
def build(root, *_):
    (root / "usr").mkdir()
    print("building", flush=True)
    time.sleep(60)
install._build, install._require_emulator = build, lambda *_: None
install.install_target("cpu@cortex-a53")
"""
    killed = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None
    assert killed.stdout.readline() == "building\n"
    assert CORTEX_A53.why_not() is not None
    with pytest.raises(TargetError, match="another edgecnn targets install is at work"):
        install_target(A53)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=30)
    assert len(list(cache.iterdir())) == 1
    assert CORTEX_A53.why_not() is not None
    install_target(A53)
    assert [path.name for path in cache.iterdir()] == [sysroot.folder().name]


def test_each_step_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Packages:
        def __init__(self, architecture: str, scratch: Path) -> None:
            assert architecture == "arm64"

        def update(self) -> None: ...

        def python_version(self) -> str:
            return "3.13"

        def unpack(self, packages: list[str], root: Path) -> None:
            assert packages[0] == "python3.13-minimal"
            (root / "usr").mkdir()

    proved: list[str] = []
    monkeypatch.setattr(install, "ForeignPackages", Packages)
    monkeypatch.setattr(install, "_fetch_wheels", lambda site, version: proved.append(version))
    monkeypatch.setattr(install, "_prove", lambda cpu, root: proved.append(cpu.name))
    told = Told()
    install._build(tmp_path, tmp_path, CORTEX_A53, told)
    assert proved == ["3.13", "cortex-a53", "cortex-a76"]
    assert [line[:3] for line in told.said] == ["1/5", "2/5", "3/5", "4/5", "5/5"]
    assert (tmp_path / "cpu" / "cortex-a76" / "proc" / "cpuinfo").read_text() == ARM64[1].cpuinfo


def test_the_wheels_are_of_this_environments_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(install, "call", lambda command, **_: commands.append(command))
    install._fetch_wheels(tmp_path, "3.13")
    (words,) = commands
    versions = sysroot.versions()
    assert words[-2:] == [f"onnxruntime=={versions['onnxruntime']}", f"numpy=={versions['numpy']}"]
    assert words[words.index("--python-version") + 1] == "3.13"
    assert "manylinux_2_28_aarch64" in words
    assert "--no-deps" in words


def test_an_environment_without_pip_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", missing)
    with pytest.raises(TargetError, match="has no pip") as caught:
        install._fetch_wheels(tmp_path, "3.11")
    assert "ensurepip" in caught.value.next_step


def fake_apt(folder: Path, monkeypatch: pytest.MonkeyPatch, *, fails_at_first: bool = False) -> Path:
    """Put an apt-get on an otherwise empty PATH that installs the emulator there, and logs its calls."""
    folder.mkdir()
    log = folder / "log"
    lacking = f'case "$1" in install) [ -e {folder}/lists ] || exit 100;; update) > {folder}/lists;; esac'
    program = folder / "apt-get"
    program.write_text(
        f'#!/bin/sh\necho "$@" >>{log}\n{lacking if fails_at_first else ""}\n'
        f'[ "$1" = install ] && > {folder}/{HASWELL.emulator} && /bin/chmod 755 {folder}/{HASWELL.emulator}\nexit 0\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return log


def test_root_gets_the_emulator_from_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = fake_apt(tmp_path / "bin", monkeypatch)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    install._require_emulator(HASWELL, Told())
    assert log.read_text().splitlines() == ["install --yes -qq --no-install-recommends qemu-user-static"]
    install._require_emulator(HASWELL, Told())
    assert len(log.read_text().splitlines()) == 1, "it is there now"


def test_a_bare_container_reads_the_lists_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = fake_apt(tmp_path / "bin", monkeypatch, fails_at_first=True)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    told = Told()
    install._require_emulator(HASWELL, told)
    assert [line.split()[0] for line in log.read_text().splitlines()] == ["install", "update", "install"]
    assert "qemu-user-static" in told.said[0]


def test_who_is_not_root_is_told_what_to_type_and_nothing_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = fake_apt(tmp_path / "bin", monkeypatch)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(TargetError, match=f"{HASWELL.emulator} is not on PATH") as caught:
        install._require_emulator(HASWELL, Told())
    assert caught.value.next_step == "as root: apt-get install qemu-user-static"
    assert not log.exists()


def test_a_target_of_this_environment_is_tried_before_it_counts_as_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = plant_target(tmp_path / "good", monkeypatch)
    found = install_target(name, force=True)
    assert (found.folder, found.unchanged) == (None, False)
    assert found.program.startswith(str(tmp_path))
    plant_target(tmp_path / "bad", monkeypatch, "#!/bin/sh\necho cannot emulate >&2\nexit 1\n")
    with pytest.raises(TargetError, match="cannot emulate"):
        install_target(name, force=True)


def test_counting_is_fetched_when_asked_for_and_proved(
    cache: Path, built: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    did: list[str] = []

    class Counter:
        def __init__(self, name: str) -> None:
            did.append(f"count on {name}")

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(install, "InstructionCounter", Counter)
    monkeypatch.setattr(install, "install_qemu", lambda progress: did.append("fetch"))
    monkeypatch.setattr(install, "find_qemu", lambda architecture: None)
    install_target(A53)
    assert did == [], "only who asks for it gets it"
    assert not install_target(A53, count=True).unchanged
    assert did == ["fetch", f"count on {A53}"]
    monkeypatch.setattr(install, "find_qemu", lambda architecture: ["qemu"])
    assert install_target(A53, count=True).unchanged
    assert did[2:] == [f"count on {A53}"]


# The real thing.


@pytest.fixture(scope="session")
def arm64(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a cache folder in which the arm64 Python was set up with the real apt and pip."""
    if CORTEX_A53.why_not() is not None and shutil.which(CORTEX_A53.emulator) is None:
        pytest.skip(f"{CORTEX_A53.emulator} is not on PATH")
    folder = tmp_path_factory.mktemp("arm64")
    try:
        packages = ForeignPackages("arm64", folder / "probe")
        packages.update()
        packages.python_version()
    except TargetError as error:
        pytest.skip(f"Debian's packages cannot be had here: {error.message}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGECNN_CACHE", str(folder))
        install_target(A53)
    yield folder
    shutil.rmtree(folder)


def test_an_arm64_python_is_set_up_and_answers_on_both_cpus(arm64: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECNN_CACHE", str(arm64))
    here = reference_session(MODEL, model_name="float.onnx").run(X)
    for name in (A53, "cpu@cortex-a76"):
        with running(name, MODEL, model_name="float.onnx") as there:
            assert isinstance(there, WorkerSession)
            np.testing.assert_allclose(there.run(X), here, rtol=1e-4, atol=1e-5)
            assert there.machine.architecture == "aarch64"
            assert ("ASIMDDP" in there.machine.cpu_features) == (name == "cpu@cortex-a76")
            assert there.machine.versions["onnxruntime"] == sysroot.versions()["onnxruntime"]


def test_what_the_audit_says_of_arm_is_so_there(arm64: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECNN_CACHE", str(arm64))
    rows = np.full((3, 32), -127, np.int8)
    rows[0, [3, 11]] = rows[1, 3] = -128
    depthwise = np.full((16, 1, 3, 3), -128, np.int8)
    matrix = layer_model("MatMul", rows.T.copy(), [], shape=[32])
    kernel = layer_model("Conv", depthwise, [100] * 16, shape=[16, 3, 3], group=16)
    for model, shape, differ in (
        (matrix, (1, 32), {A53: [True, False, False], "cpu@cortex-a76": [False] * 3}),
        (kernel, (1, 16, 3, 3), {A53: [True] * 16, "cpu@cortex-a76": [True] * 16}),
    ):
        batch = np.zeros(shape, np.float32)
        here = reference_session(model, model_name="x").run(batch).ravel()
        for name, expected in differ.items():
            with running(name, model, model_name="x") as there:
                assert (there.run(batch).ravel() != here).tolist() == expected
        audited = audit_saturation(model, name="x").may_overflow_on_arm["layer"]
        assert audited == sum(differ[A53])


def test_instructions_are_counted_and_repeat_to_the_last_one(arm64: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECNN_CACHE", str(arm64))
    if shutil.which("cc") is None:
        pytest.skip("no C compiler is on PATH")
    install_target(A53, count=True)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
    counts = [count_instructions(A53, MODEL, pixels[:1]) for _ in range(2)]
    assert counts[0] == counts[1]
    with InstructionCounter(A53) as counter:
        assert counter.count(MODEL, pixels[:1], model_name="one") == counts[0]
        assert counter.count(MODEL, pixels, model_name="two images") > counts[0] * 1.01
        assert counter.machine.architecture == "aarch64"
        with pytest.raises(ModelError, match="cannot load it"):
            counter.count(MODEL[:-50], pixels, model_name="torn")
