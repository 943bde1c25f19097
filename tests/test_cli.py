"""The command line: what it prints, what it exits with, and the whole way through as a user types it."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecnn.cli import _main
from edgecnn.errors import BundleError, TargetError
from edgecnn.targets import TARGETS, states
from edgecnn.targets.install import Installed
from edgecnn.version import __version__
from tests.bundles import (
    fast_model,
    missing_target,
    nan_model,
    plant,
    read_manifest,
    save_npz,
    scramble_int8,
    slow_model,
    snapshot,
    times,
)
from tests.emulation import plant_target
from tests.environments import fake_environment, plant_environment
from tests.golden_files import assert_golden
from tests.program import edgecnn, environment

STAGES = ("train", "export", "simplify", "quantize", "validate", "bench", "report")
READERS = ("targets", "inspect", "profile", "compare", "package", "demo-page")
COMMANDS = ("run", *STAGES, "tune", "sensitivity", *READERS)
RUN = ("run", "--data", "digits", "--epochs", "2", "--max-drop", "100", "--tune-seconds", "0")
TUNE = (
    *("--recipe", "u8s8-pertensor-minmax-reduced", "--images", "64", "--held-out", "64"),
    *("--seconds", "0.1", "--max-drop", "100"),
)
QUICK = ("--pairs", "6", "--rounds", "1", "--seconds", "0.1")


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Return the only line of stdout as an object."""
        assert self.out.count("\n") == 1, self.out
        found = json.loads(self.out)
        assert isinstance(found, dict)
        return found


Call = Callable[..., Result]


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Iterator[Call]:
    """Return a way to run a command in this process; what libraries in C print is caught, too."""

    def run(*arguments: object) -> Result:
        capfd.readouterr()
        code = _main([str(argument) for argument in arguments])
        found = capfd.readouterr()
        return Result(code=code, out=found.out, err=found.err)

    handler = signal.getsignal(signal.SIGTERM)
    yield run
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Return a folder in which ``edgecnn run`` was typed, and what it answered."""
    folder = tmp_path_factory.mktemp("made")
    return folder, edgecnn(*RUN, cwd=folder)


@pytest.fixture
def bundle(made: tuple[Path, object], tmp_path: Path) -> Path:
    """Return a copy of the bundle that ``run`` made, to spoil."""
    return Path(shutil.copytree(made[0] / "artifacts/simplecnn", tmp_path / "bundle"))


# Help.


def test_the_help_lists_every_command(call: Call) -> None:
    found = call("--help")
    assert found.code == 0
    assert_golden("help.txt", found.out)
    assert call().out == found.out


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command(call: Call, command: str) -> None:
    found = call(command, "--help")
    assert found.code == 0
    assert_golden(f"help-{command}.txt", found.out)


def test_the_help_of_a_command_below_a_command(call: Call) -> None:
    found = call("targets", "install", "--help")
    assert found.code == 0
    assert_golden("help-targets-install.txt", found.out)


def test_the_version(call: Call) -> None:
    assert call("--version").out == f"edgecnn {__version__}\n"


# The whole way, as processes.


def test_run_goes_all_the_way(made: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, finished = made
    assert finished.returncode == 0, finished.stderr
    assert "Traceback" not in finished.stderr
    bundle = folder / "artifacts" / "simplecnn"
    assert [path.name for path in folder.iterdir()] == ["artifacts"]
    assert sorted(snapshot(bundle)) == [
        "float.onnx",
        "int8.onnx",
        "manifest.json",
        "model.pt",
        "ranges.json",
        "report.md",
    ]
    assert set(read_manifest(bundle).stages) == set(STAGES)
    for words in ("Top-1 accuracy", "Latency, microseconds", "int8", "PASSED  report: artifacts/simplecnn/report.md"):
        assert words in finished.stdout
    assert "exporting with torch.onnx" in finished.stderr
    assert "exporting" not in finished.stdout


def test_a_second_run_says_that_nothing_changed_and_changes_nothing(
    made: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, first = made
    before = snapshot(folder), times(folder)
    again = edgecnn(*RUN, cwd=folder)
    assert again.returncode == 0
    assert again.stderr.splitlines() == [f"{stage}: nothing changed, not done again" for stage in STAGES]
    assert again.stdout == first.stdout
    assert (snapshot(folder), times(folder)) == before


def test_the_stages_one_by_one_need_no_flags(tmp_path: Path) -> None:
    bundle = Path("artifacts/simplecnn")

    def type_in(*words: str) -> str:
        finished = edgecnn(*words, cwd=tmp_path)
        assert finished.returncode == 0, finished.stderr
        assert "Traceback" not in finished.stderr
        return finished.stdout + finished.stderr

    assert f"bundle: {bundle}" in type_in("train", "--epochs", "1")  # forty, without
    assert f"model.pt is taken from the bundle {bundle}" in type_in("export", "model.pt")
    assert "int8.onnx" in type_in("quantize")
    assert "int8 is" in type_in("bench", "--provider", "cpu")
    assert "Top-1 accuracy" in type_in("validate", "--max-drop", "100")
    assert "report.md" in type_in("report")
    done = set(read_manifest(tmp_path / bundle).stages)
    assert done == {"train", "export", "quantize", "validate", "bench", "report"}
    assert "nodes before" in type_in("simplify")
    assert [path.name for path in tmp_path.iterdir()] == ["artifacts"]


def test_a_bundle_is_measured_and_quantized_where_torch_is_not_installed(bundle: Path, tmp_path: Path) -> None:
    code = """
import sys

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "onnxscript"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, NotInstalled())
from edgecnn.cli import _main
for words in sys.argv[1:]:
    print(words, _main(words.split()), file=sys.stderr)
"""
    commands = [
        f"validate --bundle {bundle} --max-drop 100",
        f"bench --bundle {bundle} {' '.join(QUICK)}",
        f"quantize --bundle {bundle} --force",
        f"report --bundle {bundle}",
        f"inspect --bundle {bundle} --int8",
        "targets",
    ]
    finished = subprocess.run(
        [sys.executable, "-c", code, *commands],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=environment(),
    )
    assert [line for line in finished.stderr.splitlines() if line.endswith(" 0")] == [
        f"{words} 0" for words in commands
    ]


# JSON.

ARTIFACTS = {"bundle", "artifacts", "unchanged", "verdict"}
JSON_FIELDS: dict[tuple[str, ...], set[str]] = {
    ("run", *RUN[3:]): {
        *("bundle", "artifacts", "unchanged", "validation", "latency", "checks", "recommendation", "fitted"),
        *("failures", "predictions", "verdict"),
    },
    ("train", "--epochs", "1", "--force"): ARTIFACTS,
    ("export", "--force"): ARTIFACTS,
    ("simplify", "--force"): ARTIFACTS | {"simplification"},
    ("quantize", "--force"): ARTIFACTS,
    ("tune", *TUNE): {"bundle", "unchanged", "tuning", "recommendation", "verdict"},
    ("sensitivity", "--images", "64", "--held-out", "64"): {"bundle", "recipe", "n", "whole", "layers"},
    ("validate",): {"bundle", "n", "results", "checks", "failures", "predictions", "saturation", "fusion", "verdict"},
    ("bench", *QUICK): {"bundle", "machine", "results", "failures", "profiles", "protocol"},
    ("report",): ARTIFACTS,
}


@pytest.mark.parametrize("arguments", JSON_FIELDS, ids=lambda arguments: str(arguments[0]))
def test_json_is_one_object_with_exactly_its_fields(call: Call, bundle: Path, arguments: tuple[str, ...]) -> None:
    found = call(*arguments, "--bundle", bundle, "--json")
    assert found.code == 0
    assert found.json.keys() == JSON_FIELDS[arguments]
    assert found.json["bundle"] == str(bundle)


def test_every_command_that_writes_a_bundle_is_among_them() -> None:
    assert {arguments[0] for arguments in JSON_FIELDS} | {*READERS} == set(COMMANDS)


def test_only_a_search_adds_itself_to_the_json_of_quantize(call: Call, bundle: Path) -> None:
    few = ("--images", "64", "--held-out", "64", "--recipe", "u8s8-perchannel-minmax-reduced")
    found = call("quantize", "--bundle", bundle, "--max-drop", "100", *few, "--json").json
    assert found.keys() == ARTIFACTS | {"search"}
    assert found["search"].keys() == {"max_drop_pp", "met", "n", "tries"}
    assert call("quantize", "--bundle", bundle, "--json").json.keys() == ARTIFACTS, "that search is over"


def test_tune_shows_what_it_measured_and_what_to_ship(call: Call, bundle: Path) -> None:
    found = call("tune", "--bundle", bundle, *TUNE)
    assert found.code == 0
    assert "final on cpu, microseconds a call" in found.out
    assert "Ship " in found.out
    assert "times as long" in found.out or "times as fast as float.onnx" in found.out or "no difference" in found.out
    again = call("tune", "--bundle", bundle, *TUNE)
    assert again.err == "tune: nothing changed, not done again (--force does it again)\n"


def test_tune_fails_where_no_int8_holds_the_budget(call: Call, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgecnn.tuning.search.holds", lambda drop_pp, budget_pp: False)
    found = call("tune", "--bundle", bundle, *TUNE, "--json")
    assert (found.code, found.json["verdict"]) == (1, "failed")
    assert found.json["recommendation"]["configuration"]["form"] == "float"
    assert found.json["recommendation"]["why"] == "no int8 that was tried loses at most 100 points"


def test_targets_ends_with_the_one_command_that_sets_up_what_is_missing(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGECNN_CACHE", str(tmp_path))
    states = [row["state"] for row in call("targets", "--json").json["targets"]]
    told = f"edgecnn targets install all sets up the {states.count('installable')} that are installable."
    assert (told in call("targets").out) == ("installable" in states)


def test_targets_as_json(call: Call) -> None:
    found = call("targets", "--json").json
    assert found.keys() == {"targets"}
    assert [row["target"] for row in found["targets"]] == list(TARGETS)
    assert next(row for row in found["targets"] if row["target"] == "cpu")["ready"] is True
    assert all(row["remedy"] for row in found["targets"] if not row["ready"])


def test_targets_without_a_command_lists_them(call: Call) -> None:
    found = call("targets")
    assert found.code == 0
    for name in ("cpu@haswell", "cpu@cortex-a53", "cpu@cortex-a76"):
        assert name in found.out


def test_a_target_is_installed_once(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = plant_target(tmp_path / "bin", monkeypatch)
    found = call("targets", "install", name, "--force", "--json")
    assert found.code == 0
    assert found.json == {
        "target": name,
        "folder": None,
        "program": str(next((tmp_path / "bin").iterdir())),
        "unchanged": False,
    }
    assert "starting this Python on Fake CPU" in found.err
    assert call("targets", "--json", "install", name).json["unchanged"] is True
    again = call("targets", "install", name)
    assert (again.out, again.err) == (f"{name}: was ready before; --force sets it up anew\n", "")


def test_what_cannot_be_installed_here_says_what_to_type(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    found = call("targets", "install", "cpu@haswell", "--json")
    assert found.code == 5
    assert "qemu-x86_64-static is not on PATH" in found.err
    assert "Next: as root: apt-get install qemu-user-static" in found.err
    assert found.json["error"]["exit_code"] == 5


def test_an_emulated_cpu_beside_this_one(
    call: Call, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = plant_target(tmp_path / "bin", monkeypatch)
    arguments = ("validate", "--bundle", bundle, "--provider", "cpu", "--provider", name, "--images", "90")
    found = call(*arguments, "--max-drop", "100")
    assert found.code == 0
    assert "against this CPU" in found.out
    assert "90/360" in found.out
    assert found.out.count("Drop by class on") == 1, "the same answers are shown once"
    assert "no dot product can saturate" in found.out
    view = call(*arguments, "--max-drop", "100", "--json").json
    against = view["results"][1]["int8_against_cpu"]
    assert (against["argmax_flips"], against["max_abs_logit_difference"], against["top1_change_pp"]) == (0, 0.0, 0.0)
    assert (view["n"], view["results"][1]["n_available"]) == (90, 360)
    assert view["results"][1]["machine"]["cpu"] == "Fake CPU, emulated by QEMU"


def test_a_target_that_is_missing_is_told_beside_the_others_figures(call: Call, bundle: Path) -> None:
    missing = missing_target()
    arguments = ("validate", "--bundle", bundle, "--provider", "cpu", "--provider", missing, "--max-drop", "100")
    found = call(*arguments)
    assert found.code == 5
    assert "No figures" in found.out
    assert "accuracy drop on cpu" in found.out
    view = call(*arguments, "--json").json
    assert [row["target"] for row in view["results"]] == ["cpu"]
    (failure,) = view["failures"]
    assert (failure["target"], failure["exit_code"], view["verdict"]) == (missing, 5, "failed")
    assert TARGETS[missing].provider in failure["reason"]


def test_a_run_tells_what_failed_beside_the_others_figures(
    call: Call, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = plant_target(tmp_path / "bin", monkeypatch, '#!/bin/sh\necho "no such CPU" >&2; exit 1\n')
    monkeypatch.setattr("edgecnn.targets.choice._ready", lambda timed: ["cpu", name])
    arguments = (*RUN, "--bundle", bundle, "--provider", "all")
    found = call(*arguments)
    assert found.code == 5
    for words in ("Top-1 accuracy", "Latency, microseconds", "No figures", "no such CPU", "coreml", "FAILED  report:"):
        assert words in found.out
    view = call(*arguments, "--json")
    assert (view.code, view.json["verdict"]) == (5, "failed")
    assert [(one["target"], one["exit_code"]) for one in view.json["failures"]] == [(name, 5)]
    assert {one["target"] for one in view.json["predictions"]} == {"coreml", "nnapi"}


def test_targets_that_run_elsewhere_are_neither_profiled_nor_put_through_a_protocol(
    call: Call, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = plant_environment(monkeypatch, fake_environment(), clock="measured")
    found = call("bench", "--bundle", bundle, "--provider", name, "--profile")
    assert (found.code, found.out) == (2, "")
    assert f"{name} runs in a process of its own" in found.err


def test_everything_that_can_be_is_set_up_by_one_command(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = fake_environment()
    name = plant_environment(monkeypatch, environment)
    broken = TargetError("no network", next_step="find one")

    def install(target: str, *, force: bool, progress: object) -> Installed:
        if target != name:
            raise broken
        return Installed(target=target, folder=None, program="/bin/python", unchanged=True)

    monkeypatch.setattr(states, "install_target", install)
    monkeypatch.setattr(states, "is_installable", lambda target: target in (name, "qnn"))
    found = call("targets", "install", "all", "--json")
    assert found.code == 5
    (ready,) = found.json["installed"]
    assert ready == {"target": name, "folder": None, "program": "/bin/python", "unchanged": True}
    (failure,) = found.json["failures"]
    assert failure["target"] == "qnn"
    assert failure["error"]["message"] == "no network"
    assert "find one" in call("targets", "install", "all").out


def test_validate_as_json_has_the_figures_of_the_manifest(call: Call, bundle: Path) -> None:
    found = call("validate", "--bundle", bundle, "--max-drop", "100", "--json").json
    (row,) = found["results"]
    assert row.keys() == {
        "target", "int8_model", "float_bits", "float_top1", "int8_top1", "drop_pp", "drop_pp_low", "drop_pp_high",
        "agreement", "p_value", "n", "n_available", "max_drop_pp", "passed", "per_class", "float_against_cpu",
        "int8_against_cpu", "machine", "how", "provider", "float_nodes", "int8_nodes",
    }  # fmt: skip
    (record,) = read_manifest(bundle).validation
    for name in row.keys() - {"max_drop_pp", "passed", "per_class", "machine"}:
        assert row[name] == getattr(record, name)
    assert (found["n"], found["verdict"], row["passed"]) == (360, "passed", True)


def test_bench_as_json_has_the_figures_of_the_manifest(call: Call, bundle: Path) -> None:
    found = call("bench", "--bundle", bundle, *QUICK, "--json").json
    (row,) = found["results"]
    (record,) = read_manifest(bundle).latency
    assert row == record.model_dump(mode="json", exclude={"machine", "measured_at"})
    assert row["float"] == record.float_latency.model_dump()
    assert row["int8"] == record.int8_latency.model_dump()
    assert row["speedup"] == record.speedup.model_dump()
    assert row["verdict"] == record.verdict
    assert found["machine"] == json.loads(record.machine.model_dump_json())


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["validate", "--bundle", "nowhere"], 3), (["train", "--epochs", "x"], 2), (["bench", "--provider", "x"], 2)],
)
def test_under_json_a_failure_is_one_object_too(call: Call, arguments: list[str], code: int) -> None:
    found = call(*arguments, "--json")
    assert found.code == code
    assert found.json["error"].keys() == {"type", "message", "next_step", "exit_code"}
    assert found.json["error"]["exit_code"] == code
    assert found.json["error"]["next_step"]
    assert found.json["error"]["message"] in found.err


# Gates.


def test_scrambled_weights_fail_validate(call: Call, bundle: Path) -> None:
    plant(bundle, "int8.onnx", scramble_int8((bundle / "int8.onnx").read_bytes()))
    found = call("validate", "--bundle", bundle, "--max-drop", "5")
    assert found.code == 1
    assert "FAILED" in found.out
    assert "PASSED" not in found.out
    view = call("validate", "--bundle", bundle, "--max-drop", "5", "--json")
    assert (view.code, view.json["verdict"], view.json["results"][0]["passed"]) == (1, "failed", False)
    assert view.json["results"][0]["drop_pp"] > 5


def test_a_slower_int8_fails_if_speed_is_required(call: Call, bundle: Path) -> None:
    plant(bundle, "int8.onnx", slow_model())
    found = call("bench", "--bundle", bundle, *QUICK, "--require-speedup")
    assert found.code == 1
    assert "int8 is SLOWER than float here" in found.out
    assert "FAILED" in found.out


def test_a_slower_int8_is_said_even_if_nobody_asked(call: Call, bundle: Path) -> None:
    plant(bundle, "int8.onnx", slow_model())
    found = call("bench", "--bundle", bundle, *QUICK)
    assert found.code == 0
    assert "int8 is SLOWER than float here" in found.out


def test_a_faster_int8_passes_where_speed_is_required(call: Call, bundle: Path) -> None:
    plant(bundle, "float.onnx", slow_model())
    plant(bundle, "int8.onnx", fast_model())
    found = call("bench", "--bundle", bundle, *QUICK, "--require-speedup")
    assert found.code == 0
    assert "times as fast as float here" in found.out


def test_a_machine_too_noisy_to_answer_is_said_and_fails_only_a_gate(call: Call, bundle: Path) -> None:
    wish = ("--until", "0.000001%", "--max-seconds", "0.01")
    found = call("bench", "--bundle", bundle, *QUICK, *wish)
    assert found.code == 0
    assert "too noisy to answer" in found.out
    plant(bundle, "float.onnx", slow_model())
    plant(bundle, "int8.onnx", fast_model())
    found = call("bench", "--bundle", bundle, *QUICK, *wish, "--require-speedup")
    assert found.code == 1
    assert "too noisy to answer" in found.out
    assert "FAILED" in found.out


def test_several_batches_and_ways_are_rows_of_one_table(call: Call, bundle: Path) -> None:
    ways = ("--batch", "1", "--batch", "2", "--through", "run", "--through", "iobinding")
    found = call("bench", "--bundle", bundle, *QUICK, *ways)
    assert found.code == 0
    assert found.out.count("Latency, microseconds") == 1
    for place in ("cpu: ", "cpu, iobinding: ", "cpu, batch 2: ", "cpu, batch 2, iobinding: "):
        assert f"\n{place}" in found.out


def test_a_profile_names_the_layers(call: Call, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgecnn.measure.operators.PROFILE_S", 0.01)
    found = call("bench", "--bundle", bundle, *QUICK, "--profile")
    assert found.code == 0
    for words in ("Layers on cpu, batch 1, 1 threads", "node_conv2d_1", "only converts or rearranges", "QLinearConv"):
        assert words in found.out


def test_the_protocol_in_short_is_marked(call: Call, bundle: Path) -> None:
    protocol = ("--protocol", "mlperf-tiny", "--seconds", "0.02")
    found = call("bench", "--bundle", bundle, *protocol)
    assert found.code == 0
    assert "MLPerf Tiny, median of 5 windows" in found.out
    assert "NOT according to the protocol: windows of 0.02 s; the protocol asks for 10 s" in found.out
    assert "Latency, microseconds" not in found.out


def test_what_was_saved_is_compared(call: Call, bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "m.json"
    assert call("bench", "--bundle", bundle, *QUICK, "--save", file).code == 0
    found = call("compare", bundle, file, "--fail-if-slower", "5%")
    assert found.code == 0
    assert "int8.onnx: the same file" in found.out
    assert "passed" in found.out
    plant(bundle, "int8.onnx", slow_model())
    assert call("bench", "--bundle", bundle, *QUICK).code == 0
    found = call("compare", file, bundle, "--fail-if-slower", "5%")
    assert found.code == 1
    assert "FAILED" in found.out
    assert call("compare", file, bundle).code == 0
    view = call("compare", file, bundle, "--fail-if-slower", "5%", "--json")
    assert (view.code, view.json["verdict"]) == (1, "failed")


@pytest.mark.parametrize("limit", ["5", "0%", "-5%", "100%", "lots"])
def test_a_limit_that_is_no_percentage_is_refused(call: Call, bundle: Path, limit: str) -> None:
    found = call("compare", bundle, bundle, "--fail-if-slower", limit)
    assert found.code == 2
    assert "--fail-if-slower: expected a share above 0% and below 100%" in found.err


def test_a_torn_file_is_bad_input(call: Call, bundle: Path, tmp_path: Path) -> None:
    file = tmp_path / "m.json"
    file.write_text('{"format": "edgecnn-measurement", "schema')
    found = call("compare", bundle, file)
    assert (found.code, found.out) == (3, "")
    assert "expected a measurement of edgecnn" in found.err


def test_a_place_that_cannot_be_written_is_bad_input_and_nothing_is_measured(
    call: Call, bundle: Path, tmp_path: Path
) -> None:
    before = snapshot(bundle)
    found = call("bench", "--bundle", bundle, *QUICK, "--save", tmp_path / "none" / "m.json")
    assert (found.code, found.out) == (3, "")
    assert "--save" in found.err
    assert snapshot(bundle) == before


@pytest.mark.parametrize(("size", "code", "word"), [("1kB", 1, "FAILED"), ("1MiB", 0, "PASSED")])
def test_the_size_gate(call: Call, bundle: Path, size: str, code: int, word: str) -> None:
    found = call(*RUN, "--bundle", bundle, "--max-size", size)
    assert found.code == code
    assert f"{word}  report:" in found.out
    assert "size of int8.onnx" in found.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--max-size", "large"),
        ("run", "--max-drop", "-1"),
        ("validate", "--max-drop", "101"),
        ("validate", "--max-drop", "nan"),
        ("validate", "--provider", "gpu"),
        ("validate", "--provider", "cpu@i486"),
        ("validate", "--images", "0"),
        ("bench", "--provider", "cpu@haswell"),
        ("bench", "--provider", "gpu"),
        ("bench", "--batch", "0"),
        ("bench", "--threads", "4096"),
        ("bench", "--rounds", "0"),
        ("bench", "--pairs", "5"),
        ("bench", "--seconds", "nan"),
        ("bench", "--seconds", "inf"),
        ("bench", "--seconds", "0"),
        ("bench", "--batch", "1", "--batch", "-3"),
        ("bench", "--threads", "0"),
        ("bench", "--through", "dma"),
        ("bench", "--pairs", "1001"),
        ("bench", "--until", "0%"),
        ("bench", "--until", "2"),
        ("bench", "--until", "-1%"),
        ("bench", "--until", "two percent"),
        ("bench", "--max-seconds", "0"),
        ("bench", "--max-seconds", "nan"),
        ("bench", "--protocol", "mlperf"),
        ("bench", "--protocol", "mlperf-tiny", "--batch", "8"),
        ("bench", "--protocol", "mlperf-tiny", "--until", "2%"),
        ("bench", "--protocol", "mlperf-tiny", "--seconds", "-1"),
        ("bench", "--protocol", "mlperf-tiny", "--require-speedup"),
        ("quantize", "--recipe", "int4"),
        ("quantize", "--seed", "-1"),
        ("quantize", "--max-drop", "nan"),
        ("quantize", "--max-drop", "-1"),
        ("quantize", "--max-drop", "101"),
        ("quantize", "--held-out", "100"),
        ("quantize", "--held-out", "0"),
        ("tune", "--objective", "speed"),
        ("tune", "--target", "gpu"),
        ("tune", "--target", "cpu@i486"),
        ("tune", "--seconds", "0"),
        ("tune", "--seconds", "-1"),
        ("tune", "--seconds", "nan"),
        ("tune", "--threads", "0"),
        ("tune", "--threads", "4096"),
        ("tune", "--batch", "0"),
        ("tune", "--max-drop", "-1"),
        ("tune", "--recipe", "int4"),
        ("tune", "--held-out", "0"),
        ("run", "--tune-seconds", "-1"),
        ("run", "--allow-cpu-nodes", "-1"),
        ("run", "--tune-seconds", "inf"),
        ("sensitivity", "--held-out", "0"),
        ("sensitivity", "--recipe", "int4"),
        ("sensitivity", "--seed", "-1"),
        ("sensitivity", "--force"),
        ("run", "--model", "vgg"),
        ("train", "--epochs", "0"),
        ("train", "--seed", "-1"),
        ("train", "--learning-rate", "nan"),
        ("export", "--input-type", "int8"),
        ("export", "--input-layout", "chw"),
        ("export", "--batch", "0"),
        ("report", "--force"),
        ("bench", "--bundel", "x"),
        ("benchmark",),
    ],
    ids=" ".join,
)
def test_a_wrong_option_is_named_and_touches_nothing(call: Call, bundle: Path, arguments: tuple[str, ...]) -> None:
    before = snapshot(bundle), times(bundle)
    found = call(*arguments, *(("--bundle", bundle) if len(arguments) > 1 else ()))
    assert found.code == 2
    assert found.out == ""
    *notes, error, remedy = found.err.splitlines()
    assert error.startswith("edgecnn: ")
    assert remedy.startswith("Next: ")
    assert notes == [] or arguments[0] == "export"
    named = (arguments[1:] or arguments)[0].lstrip("-")
    assert named in error or arguments[-1] in error
    assert (snapshot(bundle), times(bundle)) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("install", "cpu@i486"), "unknown provider 'cpu@i486'; known: cpu, cpu@haswell, "),
        (("install", "cpu"), "cpu: is not installed by edgecnn"),
        (("install",), "Missing argument"),
        (("instal",), "No such command 'instal'"),
    ],
)
def test_a_wrong_word_after_targets_is_named(call: Call, arguments: tuple[str, ...], words: str) -> None:
    found = call("targets", *arguments)
    assert (found.code, found.out) == (2, "")
    assert words in found.err
    assert "Next: " in found.err


@pytest.mark.parametrize("command", [("validate",), ("bench", *QUICK)], ids=["validate", "bench"])
def test_a_changed_model_is_not_measured(call: Call, bundle: Path, command: tuple[str, ...]) -> None:
    (bundle / "int8.onnx").write_bytes(fast_model())
    before = snapshot(bundle)
    found = call(*command, "--bundle", bundle)
    assert found.code == 3
    assert "int8.onnx: expected SHA-256" in found.err
    assert "Next: edgecnn quantize" in found.err
    assert snapshot(bundle) == before


def test_run_makes_a_changed_model_anew(call: Call, bundle: Path) -> None:
    before = snapshot(bundle)
    (bundle / "int8.onnx").write_bytes(fast_model())
    found = call(*RUN, "--bundle", bundle)
    assert found.code == 0
    assert "quantize: nothing changed" not in found.err
    assert "validate: nothing changed" in found.err
    assert snapshot(bundle)["int8.onnx"] == before["int8.onnx"]


def test_answers_of_nan_are_a_failed_stage(call: Call, bundle: Path) -> None:
    plant(bundle, "int8.onnx", nan_model())
    found = call("validate", "--bundle", bundle)
    assert found.code == 4
    assert "int8.onnx gives NaN or infinite logits" in found.err
    assert "Next: " in found.err


def test_calibration_on_test_images_is_bad_input(call: Call, bundle: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), np.uint8)
    y = np.arange(30) % 10
    np.savez(tmp_path / "leak.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    before = snapshot(bundle)
    found = call("quantize", "--bundle", bundle, "--data", tmp_path / "leak.npz")
    assert found.code == 3
    assert "leak.npz has 30 training images, of which 30 are test images as well and were refused" in found.err
    assert "Next: give training images that are not test images" in found.err
    assert snapshot(bundle) == before


@pytest.mark.parametrize("command", [("validate",), ("bench", *QUICK), RUN], ids=["validate", "bench", "run"])
def test_a_provider_that_is_not_here_changes_nothing(call: Call, bundle: Path, command: tuple[str, ...]) -> None:
    before, target = (snapshot(bundle), times(bundle)), missing_target()
    found = call(*command, "--bundle", bundle, "--provider", target)
    assert found.code == 5
    assert f"edgecnn: {target}: not available here" in found.err
    assert f"Next: {TARGETS[target].remedy}" in found.err
    assert found.out == ""
    assert (snapshot(bundle), times(bundle)) == before


# What else a command may meet.


def test_a_stage_that_has_nothing_to_do_says_so(call: Call, bundle: Path) -> None:
    found = call("quantize", "--bundle", bundle)
    assert found.code == 0
    assert found.err == "quantize: nothing changed, not done again (--force does it again)\n"
    assert "int8.onnx" in found.out


def test_a_report_that_has_nothing_to_do_does_not_speak_of_force(call: Call, bundle: Path) -> None:
    call("report", "--bundle", bundle)  # the folder has another name than the one it was copied from
    assert call("report", "--bundle", bundle).err == "report: nothing changed, not done again\n"


def test_a_folder_with_brackets_is_shown_as_it_is(call: Call, bundle: Path) -> None:
    folder = bundle.rename(bundle.parent / "models[v2]")
    assert f"bundle: {folder.name}" in call("report", "--bundle", folder).out.replace("\n", "").replace(
        str(bundle.parent) + "/", ""
    )


def test_a_target_in_a_strangers_manifest_is_no_markup(call: Call, bundle: Path) -> None:
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["validation"].append({**manifest["validation"][0], "target": "[/x]"})
    path.write_text(json.dumps(manifest))
    found = call(*RUN, "--bundle", bundle)
    assert found.code == 0
    assert "[/x]" in found.out


def test_without_a_bundle_the_newest_is_taken_and_named(
    call: Call, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(bundle, "artifacts/old")
    shutil.copytree(bundle, "artifacts/new")
    (Path("artifacts/new") / "manifest.json").touch()
    assert call("report", "--json").json["bundle"] == "artifacts/new"


def test_a_model_of_ones_own_becomes_a_bundle(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.onnx").write_bytes(fast_model())
    save_npz(tmp_path / "images.npz", n_train=40, n_test=20, classes=10)
    assert call("quantize", "mine.onnx", "--data", "images.npz").code == 0
    found = call("validate", "--max-drop", "100", "--json").json
    assert (found["bundle"], found["n"]) == ("artifacts/mine", 20)


def test_debug_shows_the_exception(call: Call, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="expected a bundle"):
        call("--debug", "validate", "--bundle", tmp_path)


def test_a_keyboard_interrupt_anywhere_is_130(call: Call, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def press(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("edgecnn.pipeline.report.write_report", press)
    found = call("report", "--bundle", bundle, "--json")
    assert found.code == 130
    assert found.json["error"]["type"] == "Interrupted"
    assert "finished stages are kept" in found.err
    assert "Next: the same command again" in found.err


def test_a_defect_keeps_its_traceback(call: Call, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_down(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("edgecnn.pipeline.report.write_report", break_down)
    with pytest.raises(ZeroDivisionError):
        call("report", "--bundle", bundle)


# Commands that only read.


def test_inspect_shows_a_bundles_layers_and_changes_nothing(call: Call, bundle: Path) -> None:
    before = snapshot(bundle), times(bundle)
    found = call("inspect", "--bundle", bundle, "--dense")
    assert (found.code, found.err) == (0, "")
    for words in ("(32 - 5 + 2*0)/1 + 1 = 28", "62,006", "651,720", "Peak activation memory", "(on a 200x200x3 image"):
        assert words in " ".join(found.out.split())
    assert (snapshot(bundle), times(bundle)) == before


@pytest.mark.parametrize("name", ["model.pt", "float.onnx", "int8.onnx"])
def test_inspect_as_json_is_one_object(call: Call, bundle: Path, name: str) -> None:
    found = call("inspect", bundle / name, "--json").json
    assert found.keys() == {"model", "batch", "input", "layers", "totals", "peak_activation", "doubts"}
    assert (found["totals"]["parameters"], found["totals"]["macs"]) == (62_006, 651_720)
    assert found["model"] == str(bundle / name)
    assert call("inspect", bundle, "--int8", "--json").json["model"] == str(bundle / "int8.onnx")


def test_profile_as_json_is_one_object(call: Call, bundle: Path) -> None:
    found = call("profile", bundle, "--seconds", "0.001", "--max-memory", "10MB", "--json").json
    assert found.keys() == {"model", "machine", "threads", "max_dense_bytes", "layers"}
    assert [layer["dense"] is None for layer in found["layers"]] == [True, False]
    assert found["max_dense_bytes"] == 10_000_000


def test_profile_draws_a_chart(call: Call, bundle: Path) -> None:
    found = call("profile", bundle, "--seconds", "0.001", "--max-memory", "10MB")
    assert found.code == 0
    assert "dense █" in found.out or "conv  █" in found.out
    assert "more than 10,000,000 bytes (--max-memory)" in " ".join(found.out.split())


@pytest.mark.parametrize("command", ["inspect", "profile"])
def test_a_truncated_model_is_one_message(call: Call, tmp_path: Path, command: str) -> None:
    (tmp_path / "net.onnx").write_bytes(fast_model()[:-99])
    found = call(command, tmp_path / "net.onnx")
    assert (found.code, found.out) == (3, "")
    error, remedy = found.err.splitlines()
    assert "net.onnx" in error
    assert remedy.startswith("Next: ")


@pytest.mark.parametrize(("option", "value"), [("--seconds", "0"), ("--max-memory", "much")])
def test_a_profile_that_cannot_be_is_a_wrong_option(call: Call, bundle: Path, option: str, value: str) -> None:
    found = call("profile", bundle, option, value)
    assert found.code == 2
    assert option in found.err


def test_an_export_leaves_nothing_on_stderr_but_its_notes(bundle_copy: Path, tmp_path: Path) -> None:
    finished = edgecnn("export", str(bundle_copy / "model.pt"), "--force", cwd=tmp_path)
    assert finished.returncode == 0
    assert finished.stderr.splitlines() == [
        "exporting with torch.onnx",
        "exported with torch.export; the normalization was folded into the first convolution",
    ]


def test_a_package_is_written_shown_and_not_replaced(call: Call, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "package"
    found = call("package", "--bundle", bundle, "--out", out, "--json")
    assert (found.code, found.json["package"], found.json["checked_on_target"]) == (0, str(out), True)
    assert {file["path"] for file in found.json["files"]} == {path.name for path in out.iterdir()}
    again = call("package", "--bundle", bundle, "--out", out)
    assert (again.code, again.out) == (2, "")
    assert "package: exists already" in again.err
    assert "Next: --force replaces it" in again.err
    forced = call("package", "--bundle", bundle, "--out", out, "--force")
    assert forced.code == 0
    assert "Package for cpu" in forced.out
