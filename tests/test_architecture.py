"""The floors of the house: a module imports from floors below its own, or from its own room."""

import ast
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import edgecnn

PACKAGE = Path(edgecnn.__file__).parent
DOCUMENT = PACKAGE.parent / "docs" / "architecture.md"

#: Every module and package right under ``edgecnn``; a new one needs a place here and in docs/architecture.md.
FLOORS = {
    "errors": 0,
    "version": 0,
    "progress": 0,
    "bundle": 1,
    "stats": 1,
    "data": 2,
    "models": 2,
    "targets": 2,
    "training": 3,
    "graph": 3,
    "quantization": 4,
    "measure": 4,
    "rewriting": 4,
    "report": 4,
    "packaging": 5,
    "tuning": 5,
    "pipeline": 6,
    "console": 7,
    "options": 7,
    "cli": 8,
    "__init__": 8,
    "__main__": 8,
}
#: In the pipeline a module may import what stands before it: a stage knows the files of earlier ones.
PIPELINE = (
    "context",
    "train",
    "export_settings",
    "export",
    "simplify",
    "simplify_file",
    "quantize_settings",
    "calibration_job",
    "tuned",
    "kept_ranges",
    "quantize_file",
    "quantize",
    "answers",
    "verdict",
    "report",
    "sensitivity",
    "sampling",
    "fit_plan",
    "fit_model",
    "fit_records",
    "fit_commit",
    "fit",
    "int8_choice",
    "stand_ins",
    "predict",
    "target_accuracy",
    "validation_job",
    "validate",
    "package_models",
    "package_place",
    "package_contents",
    "package",
    "bench_models",
    "target_latency",
    "bench",
    "operators",
    "mlperf_tiny",
    "measurement",
    "percent",
    "compare",
    "tune_settings",
    "tune_meter",
    "tune_records",
    "tune",
    "run_measure",
    "run",
    "inspect",
    "profile",
    "demo_page",
)
#: What works on a device without PyTorch.
WITHOUT_TORCH = (
    "bundle",
    "data",
    "targets",
    "quantization",
    "measure",
    "rewriting",
    "tuning",
    "packaging",
    "report",
    "stats",
    "console",
)
#: The one module of those rooms that needs it: it times PyTorch itself, and only ``edgecnn profile`` imports it.
TIMES_TORCH = "edgecnn.measure.torch_stopwatch"
#: What a room may know of, where the floors alone would allow more.
MAY_USE = {
    "measure": {"bundle", "data", "targets", "stats", "errors", "progress"},
    "report": {"bundle", "graph"},
    "tuning": {"bundle", "targets", "quantization", "measure", "stats", "errors", "progress"},
    "packaging": {"bundle", "targets", "errors", "version"},
    "console": {"errors", "report"},
    "rewriting": {"errors", "graph"},
}
TABLES = {
    "TARGETS": "targets/__init__.py",
    "RECIPES": "quantization/recipes.py",
    "RANGE_METHODS": "quantization/range_methods.py",
    "MODELS": "models/__init__.py",
    "SOURCES": "data/__init__.py",
    "SESSION_OPTIONS": "targets/session_options.py",
    "REWRITES": "rewriting/__init__.py",
    "FITS": "quantization/fit.py",
    "MOBILE_PROVIDERS": "targets/mobile_operators.py",
}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(("edgecnn", *parts)).removesuffix(".__init__")


SOURCE = {module_name(path): ast.parse(path.read_text(), str(path)) for path in sorted(PACKAGE.rglob("*.py"))}


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield every module that is imported anywhere in a file: in functions and under TYPE_CHECKING, too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are banned"
            module = node.module or ""
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                yield inner if inner in SOURCE else module


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def inside(tree: ast.AST) -> list[str]:
    return [name for name in imports(tree) if name.split(".")[0] == "edgecnn"]


def reachable(start: str) -> set[str]:
    """Return every module, ours or not, that a module needs, itself included."""
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in SOURCE and name != "edgecnn":
            waiting.extend(imports(SOURCE[name]))
    return seen


def test_every_module_has_a_floor() -> None:
    assert {room(module) for module in SOURCE} == set(FLOORS)


def test_every_file_of_the_pipeline_has_a_place() -> None:
    files = {path.stem for path in (PACKAGE / "pipeline").glob("*.py")} - {"__init__"}
    assert files == set(PIPELINE)


@pytest.mark.parametrize("module", SOURCE)
def test_a_module_imports_only_from_below_or_its_own_room(module: str) -> None:
    own = room(module)
    for imported in inside(SOURCE[module]):
        other = room(imported)
        allowed = FLOORS[other] < FLOORS[own] or other == own or own in ("__init__", "__main__")
        assert allowed, f"{module} (floor {FLOORS[own]}) imports {imported} (floor {FLOORS[other]})"
        assert other != "__init__" or own == "__init__", f"{module} imports the package itself"


@pytest.mark.parametrize("stage", PIPELINE)
def test_a_stage_imports_only_earlier_ones(stage: str) -> None:
    tree = SOURCE[f"edgecnn.pipeline.{stage}"]
    others = {name.split(".")[2] for name in inside(tree) if name.startswith("edgecnn.pipeline.")}
    earlier = set(PIPELINE[: PIPELINE.index(stage)])
    assert others <= earlier, f"{stage} imports {others - earlier}"


@pytest.mark.parametrize("name", MAY_USE)
def test_a_narrow_room_uses_only_what_it_must(name: str) -> None:
    used = {room(i) for module, tree in SOURCE.items() if room(module) == name for i in inside(tree)}
    assert used - {name} <= MAY_USE[name]


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {module: set(inside(tree)) - {module} for module, tree in SOURCE.items()}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(SOURCE)


@pytest.mark.parametrize("module", [name for name in SOURCE if room(name) in WITHOUT_TORCH])
def test_what_runs_on_a_device_never_reaches_torch(module: str) -> None:
    outside = {name.split(".")[0] for name in reachable(module)}
    allowed = {"torchvision"} if "edgecnn.data.cifar10" in reachable(module) else set()
    allowed |= {"torch"} if module == TIMES_TORCH else set()
    assert not outside & {"torch", "torchvision", "onnxscript"} - allowed


def test_torchvision_is_imported_in_functions_only() -> None:
    users = [name for name, tree in SOURCE.items() if any(i.split(".")[0] == "torchvision" for i in imports(tree))]
    assert "edgecnn.data.cifar10" in users
    for user in users:
        at_the_top = [node for node in SOURCE[user].body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert "torchvision" not in {name.split(".")[0] for node in at_the_top for name in imports(node)}, user


def test_the_walk_sees_torch_where_it_is() -> None:
    assert "torch" in reachable("edgecnn.training.loop")
    assert "torch" in {name.split(".")[0] for name in reachable("edgecnn.pipeline.run")}


def test_only_the_bundle_room_names_the_manifest_file() -> None:
    literals = {
        name: [
            node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and node.value == "manifest.json"
        ]
        for name, tree in SOURCE.items()
    }
    assert [name for name, found in literals.items() if found] == ["edgecnn.bundle.record"]


@pytest.mark.parametrize(("name", "file"), TABLES.items())
def test_a_table_is_one_plain_literal(name: str, file: str) -> None:
    tree = ast.parse((PACKAGE / file).read_text())
    (assignment,) = (
        node
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == name
    )
    table = assignment.value
    if isinstance(table, ast.Call):  # rows that name themselves, and so are listed without keys
        assert isinstance(table.func, ast.Name)
        assert (table.func.id, table.keywords) == ("_rows", [])
        assert all(isinstance(row, ast.Call) and not row.args for row in table.args), "rows name their fields"
        return
    assert isinstance(table, ast.Dict)
    keys = [key.value for key in table.keys if isinstance(key, ast.Constant)]
    assert len(keys) == len(table.keys) == len(set(keys)) > 0
    assert all(isinstance(row, ast.Call) and not row.args for row in table.values), "rows name their fields"


@pytest.mark.parametrize("name", TABLES)
def test_nothing_is_added_to_a_table_from_elsewhere(name: str) -> None:
    for module, tree in SOURCE.items():
        for node in ast.walk(tree):
            touched = isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load)
            if touched and isinstance(node, ast.Subscript):
                assert ast.unparse(node.value).split(".")[-1] != name, f"{module} writes into {name}"
            if isinstance(node, ast.Attribute) and node.attr in ("update", "setdefault", "pop", "clear"):
                assert ast.unparse(node.value).split(".")[-1] != name, f"{module} changes {name}"


def test_the_document_shows_the_same_floors() -> None:
    documented: dict[str, int] = {}
    for line in DOCUMENT.read_text().splitlines():
        row = re.match(r"\| (\d) \| ([^|]+) \|", line)
        if row:
            documented |= {name.rstrip("/"): int(row[1]) for name in re.findall(r"`([^`]+)`", row[2])}
    assert documented == FLOORS
