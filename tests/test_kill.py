"""Killed or interrupted at any moment, the same command goes on, and ends in the same bytes."""

import contextlib
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bundles import read_manifest, snapshot
from tests.program import environment, start

EPOCHS = 6
KILLS = 10
TIMEOUT_S = 120

#: Imports what takes seconds once, then makes a process of its own of each line that it is sent.
NURSERY = """
import ast, os, sys, traceback
import onnx, onnxscript, sklearn.datasets, sklearn.model_selection, scipy.stats, torch._dynamo, torch.onnx
from edgecnn.cli import _main
from edgecnn.measure.latency import BenchSettings
import edgecnn.graph.export, edgecnn.training.loop
assert "onnxruntime" not in sys.modules, "it starts a thread, and a process with threads must not be forked"

# a benchmark of a tenth of a second; `run` has no option for that
BenchSettings.__init__.__kwdefaults__.update(pairs=6, rounds=1, seconds=0.1)
print("ready", flush=True)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        os.dup2(os.open("log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.dup2(2, 1)
        try:
            exec(ast.literal_eval(line))
        except BaseException:
            traceback.print_exc()
        os._exit(99)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
RUN = f"""
import os, sys
os.chdir({{folder!r}})
gates = ["--max-drop", "100", "--tune-seconds", "0"]
code = _main(["run", "--data", "digits", "--epochs", "{EPOCHS}", *gates, "--bundle", "bundle"])
sys.stdout.flush()
os._exit(code)
"""


def _kill(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


class Nursery:
    """Starts children that have imported everything already: a kill then hits the work, not the imports."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "log"
        self._process = subprocess.Popen(
            [sys.executable, "-c", NURSERY],
            cwd=folder,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders, self._answers = self._process.stdin, self._process.stdout
        assert self._answers.readline() == "ready\n"

    def run(self, code: str, *, kill_after_s: float | None = None) -> int:
        """Run code in a child, kill it after a while if so told, and return how it ended."""
        print(repr(code), file=self._orders, flush=True)
        child = int(self._answers.readline())
        alarm = threading.Timer(TIMEOUT_S if kill_after_s is None else kill_after_s, _kill, (child,))
        alarm.start()
        ended = int(self._answers.readline())
        alarm.cancel()
        alarm.join()
        return ended

    def log(self) -> str:
        """Return what the last child printed."""
        return self._log.read_text()

    def close(self) -> None:
        self._process.communicate(timeout=TIMEOUT_S)


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    nursery = Nursery(tmp_path_factory.mktemp("nursery"))
    yield nursery
    nursery.close()


@pytest.fixture(scope="module")
def undisturbed(nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """Return the bundle of a run that nobody disturbed, and how long it took."""
    folder = tmp_path_factory.mktemp("undisturbed")
    started = time.monotonic()
    assert nursery.run(RUN.format(folder=str(folder))) == 0, nursery.log()
    return folder / "bundle", time.monotonic() - started


def assert_good(bundle: Path, reference: Path) -> None:
    """Every file is what the manifest says and what an undisturbed run makes, and there is no other."""
    manifest, found = read_manifest(bundle), snapshot(bundle)
    assert sorted(found) == ["float.onnx", "int8.onnx", "manifest.json", "model.pt", "ranges.json", "report.md"]
    for name in found.keys() - {"manifest.json"}:
        artifact = manifest.artifact(name)
        assert artifact is not None
        assert artifact.sha256 == found[name]
    for name in ("model.pt", "float.onnx", "int8.onnx"):
        assert found[name] == hashlib.sha256((reference / name).read_bytes()).hexdigest(), name
    expected = read_manifest(reference)
    assert set(manifest.stages) == set(expected.stages)
    assert manifest.training_curve == expected.training_curve
    assert manifest.validation[0].int8_top1 == expected.validation[0].int8_top1


def test_a_run_killed_at_ten_moments_ends_in_a_good_bundle(
    nursery: Nursery, undisturbed: tuple[Path, float], tmp_path: Path
) -> None:
    reference, seconds = undisturbed
    run = RUN.format(folder=str(tmp_path))
    chance = random.Random(20261123)
    # one moment in each tenth of the whole, in random order
    moments = [(index + chance.random()) / KILLS * seconds for index in range(KILLS)]
    chance.shuffle(moments)
    killed = 0
    for moment in moments:
        code = nursery.run(run, kill_after_s=moment)
        assert code in (0, -signal.SIGKILL), nursery.log()
        killed += code != 0
        if code == 0:  # what was left took less than the moment: the next one finds an empty folder
            assert_good(tmp_path / "bundle", reference)
            shutil.rmtree(tmp_path / "bundle")
    assert killed >= KILLS / 2
    assert nursery.run(run) == 0, nursery.log()
    assert_good(tmp_path / "bundle", reference)


#: Dies of SIGKILL instead of the n-th rename or removal of a file in the bundle.
DIE_AT = """
import os, signal, sys
from pathlib import Path

left = [{step}]

def mortal(method):
    def call(path, *arguments, **options):
        if path.parent.name == "bundle":
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return method(path, *arguments, **options)
    return call

os.chdir({folder!r})
Path.replace, Path.unlink = mortal(Path.replace), mortal(Path.unlink)
gates = ["--max-drop", "100", "--tune-seconds", "0"]
arguments = ["--epochs", "2", *gates, "--recipe", "u8s8-pertensor-minmax", "--bundle", "bundle"]
code = _main(["run", *arguments])
print("left", left[0], flush=True)
os._exit(code)
"""
FOREVER = 1_000_000


def test_a_run_killed_at_every_rename_ends_in_a_good_bundle(
    nursery: Nursery, finished_bundle: Path, tmp_path: Path
) -> None:
    # Another recipe on a finished bundle: quantize, validate, bench and report, each with its renames.
    def go(folder: Path, *, step: int = FOREVER) -> int:
        return nursery.run(DIE_AT.format(step=step, folder=str(folder)))

    whole = tmp_path / "whole"
    shutil.copytree(finished_bundle, whole / "bundle")
    assert go(whole) == 0, nursery.log()
    steps = FOREVER - int(nursery.log().split()[-1])
    assert steps >= 10
    for step in range(1, steps + 1):
        folder = tmp_path / str(step)
        shutil.copytree(finished_bundle, folder / "bundle")
        assert go(folder, step=step) == -signal.SIGKILL, (step, nursery.log())
        assert go(folder) == 0, (step, nursery.log())
        assert_good(folder / "bundle", whole / "bundle")


#: Tunes, and dies of SIGKILL instead of the n-th rename in the bundle, or when so many heats of a race were run.
TUNE_AT = """
import os, signal, sys
from pathlib import Path
from edgecnn.measure import race

left, heats = [{step}], [{heats}]

def mortal(method, counter, matters):
    def call(first, *arguments, **options):
        if matters(first):
            counter[0] -= 1
            if counter[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return method(first, *arguments, **options)
    return call

os.chdir({folder!r})
Path.replace = mortal(Path.replace, left, lambda path: path.parent.name == "bundle")
race._Track.run_heat = mortal(race._Track.run_heat, heats, lambda _: True)
images = ["--images", "64", "--held-out", "64", "--max-drop", "100"]
code = _main(["tune", *images, "--recipe", "u8s8-pertensor-minmax", "--seconds", "0.05", "--bundle", "bundle"])
print("left", left[0], flush=True)
os._exit(code)
"""


def test_a_tuning_killed_in_a_race_has_changed_nothing_and_at_any_rename_leaves_no_torn_file(
    nursery: Nursery, finished_bundle: Path, tmp_path: Path
) -> None:
    def go(folder: Path, *, step: int = FOREVER, heats: int = FOREVER) -> int:
        return nursery.run(TUNE_AT.format(step=step, heats=heats, folder=str(folder)))

    raced = tmp_path / "raced"
    shutil.copytree(finished_bundle, raced / "bundle")
    before = snapshot(raced / "bundle")
    assert go(raced, heats=8) == -signal.SIGKILL, nursery.log()
    assert snapshot(raced / "bundle") == before
    assert go(raced) == 0, nursery.log()
    steps = FOREVER - int(nursery.log().split()[-1])
    assert steps >= 4
    for step in range(1, steps + 1):
        folder = tmp_path / str(step)
        shutil.copytree(finished_bundle, folder / "bundle")
        assert go(folder, step=step) == -signal.SIGKILL, (step, nursery.log())
        manifest = read_manifest(folder / "bundle")
        assert (manifest.tuning is None) == (manifest.recommendation is None) == ("tune" not in manifest.stages)
        assert go(folder) == 0, (step, nursery.log())
        manifest, found = read_manifest(folder / "bundle"), snapshot(folder / "bundle")
        assert {name: manifest.artifact(name).sha256 for name in found if name != "manifest.json"} == {  # type: ignore[union-attr]
            name: sha256 for name, sha256 in found.items() if name != "manifest.json"
        }
        assert manifest.tuning is not None
        assert manifest.tuning.int8_sha256 == found["int8.onnx"]


@pytest.mark.parametrize("signal_name", ["SIGINT", "SIGTERM"])
def test_an_interrupted_training_goes_on_to_the_same_bytes(
    undisturbed: tuple[Path, float], tmp_path: Path, signal_name: str
) -> None:
    reference, _ = undisturbed
    command = ("train", "--data", "digits", "--epochs", str(EPOCHS), "--bundle", "bundle")
    process = start(*command, cwd=tmp_path)
    state = tmp_path / "bundle" / "training.pt"
    patience = time.monotonic() + TIMEOUT_S
    while not state.exists() and process.poll() is None and time.monotonic() < patience:
        time.sleep(0.005)
    process.send_signal(getattr(signal, signal_name))
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130, err
    assert out == ""
    assert "edgecnn: train: interrupted; bundle/training.pt keeps the last finished epoch." in err
    assert "Next: the same command again; it goes on from there" in err
    assert "Traceback" not in err
    assert sorted(snapshot(tmp_path / "bundle")) == ["training.pt"]
    again = start(*command, cwd=tmp_path)
    _, err = again.communicate(timeout=TIMEOUT_S)
    assert again.returncode == 0, err
    assert "going on with training after epoch" in err
    assert (tmp_path / "bundle" / "model.pt").read_bytes() == (reference / "model.pt").read_bytes()
    assert not state.exists()
