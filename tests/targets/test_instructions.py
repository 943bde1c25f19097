"""Counting with an emulator that only pretends: what is asked, what is subtracted, and what is refused."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.errors import ExitCode, ModelError, StageError, TargetError, UsageError
from edgecnn.targets import instructions
from edgecnn.targets.instructions import COUNTED_CALLS, InstructionCounter, count_instructions, counted
from tests.emulation import plant_target
from tests.graphs import small_cnn

MODEL = small_cnn().SerializeToString()
COMPILERS = ("cc", "gcc", "clang")
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)

#: As QEMU with plugins: its help names the option. It writes down what a plugin would, were each call of a model 1,000
#: instructions and each mark 10.
_PRETENDER = """#!{python}
import os, runpy, sys
arguments = sys.argv[1:]
if arguments == ["-help"]:
    print("-plugin [file=]<file>")
    sys.exit()
if arguments == ["--version"]:
    print("qemu-any version 7.2.17")
    sys.exit()
told = dict(part.partition("=")[::2] for part in arguments[arguments.index("-plugin") + 1].split(",")[1:])
assert int(told["syscall"]) in (121, 155), told
out = open(told["out"], "w")
total = [0]

def getpgid(process):
    total[0] += {{1: 10, 3: 1010}}.get(process & 0xFFFF, 77)
    print(process & 0xFFFF, total[0], file=out, flush=True)
    raise ProcessLookupError

os.getpgid = getpgid
worker = arguments[-1]
sys.path.pop(0)
runpy.run_path(worker, run_name="__main__")
"""


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return an emulated target that can be counted on."""
    name = plant_target(tmp_path / "bin", monkeypatch)
    architecture = instructions._emulated(name).architecture
    program = tmp_path / "bin" / f"qemu-{architecture}"
    program.write_text(_PRETENDER.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setattr(instructions, "compile_plugin", lambda qemu, path: path.write_bytes(b"plugin"))
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if name in COMPILERS else which(name))
    return name


def marks(nothing: list[int], calls: list[int]) -> list[tuple[int, int]]:
    found, total = [], 0
    for kind, spans in ((0, nothing), (2, calls)):
        for span in spans:
            total += 77
            found.append((kind, total))
            total += span
            found.append((kind + 1, total))
    return found


SPANS = st.lists(st.integers(1, 10**9), min_size=COUNTED_CALLS, max_size=COUNTED_CALLS)


@given(SPANS, SPANS)
def test_a_count_is_the_median_call_less_the_median_of_nothing(nothing: list[int], calls: list[int]) -> None:
    assert counted(marks(nothing, calls)) == sorted(calls)[2] - sorted(nothing)[2]


@pytest.mark.parametrize("lost", [0, 1, 9, 10, 19])
def test_a_mark_that_is_missing_is_an_error(lost: int) -> None:
    found = marks([10] * 5, [1000] * 5)
    del found[lost]
    with pytest.raises(StageError, match="pairs of marks of each kind"):
        counted(found)
    with pytest.raises(StageError, match=r"found \[\]"):
        counted([])


def test_a_model_is_counted_and_another_one_after_it(target: str) -> None:
    with InstructionCounter(target) as counter:
        assert [counter.count(MODEL, PIXELS[:n], model_name="m") for n in (1, 4)] == [1000, 1000]
        assert counter.count(MODEL, PIXELS, model_name="m", options_name="no-arena") == 1000
    assert count_instructions(target, MODEL, PIXELS) == 1000


def test_what_was_written_is_removed_and_the_process_ended(target: str) -> None:
    counter = InstructionCounter(target)
    scratch = Path(counter._scratch.name)
    assert (scratch / "plugin.so").is_file()
    counter.close()
    assert not scratch.exists()
    assert counter._worker._process.poll() is not None


def test_a_model_that_cannot_be_loaded_or_fed_is_refused_and_counting_goes_on(target: str) -> None:
    fixed = small_cnn(batch=2).SerializeToString()
    with InstructionCounter(target) as counter:
        with pytest.raises(ModelError, match="torn: ONNX Runtime cannot load it"):
            counter.count(MODEL[:-50], PIXELS, model_name="torn")
        with pytest.raises(ModelError, match="takes batches of 2, not of 4"):
            counter.count(fixed, PIXELS, model_name="fixed")
        with pytest.raises(UsageError, match="unknown session options 'fast'"):
            counter.count(MODEL, PIXELS, model_name="m", options_name="fast")
        assert counter.count(MODEL, PIXELS, model_name="m") == 1000


def test_a_target_that_is_not_emulated_has_a_clock() -> None:
    with pytest.raises(UsageError, match="cpu: is not emulated") as caught:
        count_instructions("cpu", MODEL, PIXELS)
    assert caught.value.next_step == "edgecnn bench --provider cpu measures time"


def test_without_a_qemu_that_takes_plugins_the_command_is_told(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instructions, "find_qemu", lambda architecture: None)
    with pytest.raises(TargetError, match=r"no qemu-.* that takes plugins") as caught:
        count_instructions(target, MODEL, PIXELS)
    assert caught.value.next_step == f"edgecnn targets install {target} --count"
    assert caught.value.exit_code == ExitCode.TARGET_UNAVAILABLE


def test_without_a_compiler_the_command_is_told(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instructions, "find_qemu", lambda architecture: ["qemu"])
    monkeypatch.setattr(shutil, "which", lambda name: None if name in COMPILERS else f"/usr/bin/{name}")
    with pytest.raises(TargetError, match="no C compiler is on PATH") as caught:
        count_instructions(target, MODEL, PIXELS)
    assert caught.value.next_step == "as root: apt-get install gcc libc6-dev"
