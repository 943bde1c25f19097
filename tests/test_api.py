"""The public Python API: a list that only grows on purpose, and costs nothing to import."""

import ast
import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import edgecnn

PUBLIC = [
    "RECIPES",
    "TARGETS",
    "BenchSettings",
    "Bundle",
    "Compared",
    "EdgecnnError",
    "ExportSettings",
    "Fitted",
    "Gates",
    "Inspection",
    "Limits",
    "Manifest",
    "MeasureSettings",
    "Measured",
    "Options",
    "Outcome",
    "Package",
    "Predicted",
    "Profile",
    "QuantizeSettings",
    "RunResult",
    "RunSettings",
    "SimplifiedFile",
    "TrainingSettings",
    "TuneSettings",
    "Validated",
    "Verdict",
    "__version__",
    "bench",
    "compare",
    "count_instructions",
    "export",
    "fit",
    "inspect",
    "package",
    "predict",
    "profile",
    "quantize",
    "run",
    "sensitivity",
    "simplify",
    "simplify_file",
    "take_measurement",
    "train",
    "tune",
    "validate",
    "write_demo_page",
    "write_report",
]
HEAVY = ("torch", "torchvision", "onnx", "onnxruntime", "onnxsim", "numpy", "scipy", "sklearn", "PIL", "rich", "jinja2")


def heavy_modules_after(code: str) -> list[str]:
    script = f"import sys\n{code}\nprint(sorted(set({HEAVY!r}) & set(sys.modules)), file=sys.stderr)"
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    found = finished.stderr.splitlines()[-1]
    return [name for name in HEAVY if repr(name) in found]


def test_the_public_names_are_these() -> None:
    assert edgecnn.__all__ == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_can_be_imported(name: str) -> None:
    value = getattr(edgecnn, name)
    assert value is getattr(edgecnn, name)
    if name not in ("RECIPES", "TARGETS", "__version__"):
        assert callable(value)


def test_dir_lists_the_public_names_and_no_others() -> None:
    assert dir(edgecnn) == sorted(PUBLIC)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'quantise'"):
        _ = edgecnn.quantise


def test_no_public_name_is_also_a_submodule() -> None:
    # Python would rebind edgecnn.train from the function to the module when the module is imported.
    submodules = {module.name for module in pkgutil.iter_modules(edgecnn.__path__)}
    assert submodules >= {"bundle", "pipeline", "training", "quantization"}
    assert not submodules & set(PUBLIC)


def test_public_functions_survive_the_import_of_every_room() -> None:
    code = (
        "import edgecnn, importlib, pkgutil\n"
        "for m in pkgutil.walk_packages(edgecnn.__path__, 'edgecnn.'):\n"
        "    if m.name not in ('edgecnn.__main__', 'edgecnn.graph.onnxsim_worker'): importlib.import_module(m.name)\n"
        "print([n for n in edgecnn.__all__ if type(getattr(edgecnn, n)).__name__ == 'module'])"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "[]"


def test_type_checkers_see_the_same_names_from_the_same_homes() -> None:
    tree = ast.parse(Path(edgecnn.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.name: node.module for node in imports for alias in node.names}
    assert seen == edgecnn._HOMES
    assert set(seen) | {"__version__"} == set(PUBLIC)
    for name, home in seen.items():
        assert home is not None
        assert getattr(importlib.import_module(home), name) is getattr(edgecnn, name)


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert heavy_modules_after("import edgecnn") == []


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["run", "--help"], []])
def test_asking_for_help_imports_nothing_heavy(arguments: list[str]) -> None:
    assert heavy_modules_after(f"from edgecnn.cli import _main\nassert _main({arguments!r}) == 0") == []


def test_the_probe_for_heavy_modules_sees_them() -> None:
    assert heavy_modules_after("import numpy") == ["numpy"]


def test_python_dash_m_edgecnn_prints_the_version() -> None:
    finished = subprocess.run(
        [sys.executable, "-m", "edgecnn", "--version"], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert finished.stdout == f"edgecnn {edgecnn.__version__}\n"
