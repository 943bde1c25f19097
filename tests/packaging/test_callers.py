"""The programs of a package, in each language that can be run here: they pass, and they fail where they must."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgecnn.packaging.callers import accept
from tests.packages import HEADERS, LIBRARY, NODE_FOLDER, make_package, needs_cpp, needs_node, run, sabotage

Caller = Callable[..., "subprocess.CompletedProcess[str]"]
QUICK = ["python", pytest.param("cpp", marks=needs_cpp)]
#: Node compiles twenty megabytes of wasm at each start.
ALL = [*QUICK, pytest.param("node", marks=needs_node)]
MODELS = ["float.onnx", "int8.onnx", "float.ort", "int8.ort"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_package(tmp_path_factory.mktemp("packages") / "package")


@pytest.fixture
def package(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "package"))


@pytest.fixture(scope="module")
def program(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cpp")
    (folder / "libonnxruntime.so").symlink_to(LIBRARY)
    (folder / "libonnxruntime.so.1").symlink_to(LIBRARY)
    built = folder / "accept"
    include = ["-isystem", str(HEADERS)]
    link = ["-L", str(folder), "-lonnxruntime", f"-Wl,-rpath,{folder}", "-o", str(built)]
    warnings = ["-Wall", "-Wextra", "-Werror"]
    done = run("g++", "-std=c++17", *warnings, str(whole / "accept.cpp"), *include, *link)
    assert done.returncode == 0, done.stderr
    return built


@pytest.fixture(params=QUICK)
def caller(request: pytest.FixtureRequest) -> Caller:
    def call(folder: Path, *models: str) -> "subprocess.CompletedProcess[str]":
        if request.param == "python":
            return run(sys.executable, "-P", str(folder / "accept.py"), str(folder), *models)
        if request.param == "node":
            return run("node", str(folder / "accept.mjs"), str(folder), *models, cwd=NODE_FOLDER)
        return run(str(request.getfixturevalue("program")), str(folder), *models)

    return call


@pytest.mark.parametrize("caller", ALL, indirect=True)
def test_every_model_passes(caller: Caller, package: Path) -> None:
    done = caller(package)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[1].rstrip(":") for line in done.stdout.splitlines() if "passed" in line] == MODELS
    assert "FAILED" not in done.stdout


@pytest.mark.parametrize("caller", ALL, indirect=True)
def test_one_changed_weight_in_each_fails(caller: Caller, package: Path) -> None:
    sabotage(package, "float.onnx")
    sabotage(package, "int8.onnx")
    done = caller(package)
    assert done.returncode == 1, done.stdout + done.stderr
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert len(failed) == 2
    for name, line in zip(["float.onnx", "int8.onnx"], failed, strict=True):
        assert line.startswith(f"FAILED  {name}: largest difference ")


def test_only_the_models_that_are_named_are_run(caller: Caller, package: Path) -> None:
    sabotage(package, "float.onnx")
    assert caller(package, "int8.onnx", "int8.ort").returncode == 0
    assert caller(package, "float.onnx").returncode == 1
    assert caller(package, "no.onnx").returncode == 2


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_answer_that_is_no_number_never_passes(caller: Caller, package: Path, value: float) -> None:
    path = package / "int8-logits.bin"
    logits = np.frombuffer(path.read_bytes(), "<f4").copy()
    logits[-1] = value
    path.write_bytes(logits.tobytes())
    done = caller(package)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.count("FAILED") == 2


def test_a_difference_in_the_last_image_alone_fails(caller: Caller, package: Path) -> None:
    path = package / "float-logits.bin"
    logits = np.frombuffer(path.read_bytes(), "<f4").copy()
    logits[-1] += 1
    path.write_bytes(logits.tobytes())
    assert caller(package, "float.onnx").returncode == 1


def test_python_refuses_another_file_even_if_it_answers_the_same(package: Path) -> None:
    sabotage(package, "float.onnx", vouch=False)
    done = run(sys.executable, "-P", str(package / "accept.py"))
    assert done.returncode == 1
    assert "FAILED  float.onnx: largest difference inf" in done.stdout
    assert "(is not the file that was packed)" in done.stdout


def test_python_does_not_fall_back_to_another_provider(package: Path) -> None:
    told = json.loads((package / "acceptance.json").read_text())
    told["models"] = [{**entry, "provider": "XnnpackExecutionProvider"} for entry in told["models"]]
    (package / "acceptance.json").write_text(json.dumps(told))
    done = run(sys.executable, "-P", str(package / "accept.py"))
    assert done.returncode == 2
    assert "passed" not in done.stdout
    assert "this onnxruntime has no XnnpackExecutionProvider: pip install onnxruntime==" in done.stderr


class Told:
    """A session that says which provider runs how many of its nodes."""

    def __init__(self, **nodes: int) -> None:
        self._nodes = nodes

    def get_provider_graph_assignment_info(self) -> list[SimpleNamespace]:
        parts = self._nodes.items()
        return [SimpleNamespace(ep_name=name, get_nodes=lambda count=count: [None] * count) for name, count in parts]


@pytest.mark.parametrize(
    ("nodes", "allowed", "fails"),
    [
        ({"QNN": 3}, 0, False),
        ({"QNN": 3, "CPUExecutionProvider": 1}, 0, True),
        ({"QNN": 3, "CPUExecutionProvider": 1}, 1, False),
        ({"QNN": 3, "CPUExecutionProvider": 2}, 1, True),
        ({"CPUExecutionProvider": 1}, 9, True),
        ({"QNN": 3, "Other": 1}, 9, True),
        ({}, 9, True),
    ],
)
def test_python_reads_from_the_session_where_each_node_ran(nodes: dict[str, int], allowed: int, fails: bool) -> None:
    why = accept.elsewhere(Told(**nodes), "QNN", {"allow_cpu_nodes": allowed})
    assert bool(why) == fails
    assert not fails or f"elsewhere than on QNN: {nodes}" in why


def test_python_does_not_run_a_model_of_which_a_node_ran_elsewhere(
    package: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = json.loads((package / "acceptance.json").read_text())
    told["models"] = [{**entry, "provider": "QNN"} for entry in told["models"]]
    (package / "acceptance.json").write_text(json.dumps(told))
    monkeypatch.setattr(accept, "opened", lambda *_: Told(QNN=3, CPUExecutionProvider=1))
    assert accept.main([str(package)]) == 1
    out = capsys.readouterr().out
    assert out.count("FAILED") == 4
    assert "nodes run elsewhere than on QNN" in out


def test_python_without_the_plugin_says_which_versions_to_install(package: Path) -> None:
    told = json.loads((package / "acceptance.json").read_text())
    told["models"] = [{**entry, "provider": "QNNExecutionProvider"} for entry in told["models"]]
    told["plugin"] = {"module": "no_such_plugin", "paths": {}}
    told["requires"] = ["onnxruntime==1.32.0", "no-such-plugin==2.7.0"]
    (package / "acceptance.json").write_text(json.dumps(told))
    done = run(sys.executable, "-P", str(package / "accept.py"))
    assert done.returncode == 2
    assert "passed" not in done.stdout
    assert "pip install onnxruntime==1.32.0 no-such-plugin==2.7.0 numpy" in done.stderr


@needs_node
def test_node_without_a_runtime_says_what_to_install(package: Path) -> None:
    done = run("node", str(package / "accept.mjs"), cwd=package)
    assert done.returncode == 2
    assert "npm install onnxruntime-web" in done.stderr


@pytest.mark.parametrize("name", ["Accept.kt", "Accept.swift"])
def test_what_was_never_compiled_says_so_in_its_first_line(whole: Path, name: str) -> None:
    assert (whole / name).read_text().startswith("// UNTESTED")
