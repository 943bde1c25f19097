"""Small packages to test the callers with, and what runs them where it is here."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, numpy_helper

from edgecnn.bundle.locate import cache_folder
from edgecnn.packaging import callers
from edgecnn.packaging.acceptance import describe, make_vectors
from edgecnn.packaging.ort_format import convert
from edgecnn.packaging.way import Way
from edgecnn.pipeline.package import CALLERS
from edgecnn.targets import reference_session
from edgecnn.targets.session import Feed
from tests.graphs import make_model, node, small_cnn
from tests.web import offer_node

ROOT = Path(__file__).resolve().parent.parent
#: Where scripts/setup --dev puts what callers in other languages need.
_TOOLS = ROOT / ".venv" / "device"
#: The library that the callers in C++ are linked with is in the wheel; its headers are not.
LIBRARY = Path(onnxruntime.__file__).parent / "capi" / f"libonnxruntime.so.{onnxruntime.__version__}"
_INCLUDES = (_TOOLS / "usr/include/onnxruntime", Path("/usr/include/onnxruntime"))
#: Older ones do not read the models of today.
_OLDEST_WEB = (1, 20)


def find_headers() -> Path | None:
    """Return the folder of ONNX Runtime's headers."""
    return next((place for place in _INCLUDES if (place / "onnxruntime_cxx_api.h").is_file()), None)


def find_node_folder() -> Path | None:
    """Return a folder in which Node finds onnxruntime-web or onnxruntime-node."""
    places = [_TOOLS, *sorted((cache_folder() / "targets").glob("*"))]
    return next((place for place in places for name in ("web", "node") if _has(place, f"onnxruntime-{name}")), None)


def _has(folder: Path, name: str) -> bool:
    try:
        found = json.loads((folder / "node_modules" / name / "package.json").read_text())["version"]
    except OSError:
        return False
    return tuple(map(int, found.split(".")[:2])) >= _OLDEST_WEB


offer_node()
HEADERS, NODE_FOLDER = find_headers(), find_node_folder()  # before the tests get a cache of their own
needs_cpp = pytest.mark.skipif(
    HEADERS is None or shutil.which("g++") is None or not LIBRARY.is_file(),
    reason="no g++, headers or library of ONNX Runtime here (scripts/setup --dev fetches the headers)",
)
needs_node = pytest.mark.skipif(
    NODE_FOLDER is None or shutil.which("node") is None,
    reason="no Node or onnxruntime-web here (scripts/setup --dev installs it)",
)


def bytes_cnn() -> ModelProto:
    """Return a classifier of uint8 ``[2, 8, 8, 3]`` images: another type, layout and batch than most."""
    return make_model(
        [
            node("Cast", ["x"], ["floats"], to=TensorProto.FLOAT),
            node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
            node("GlobalAveragePool", ["planes"], ["pooled"]),
            node("Flatten", ["pooled"], ["flat"]),
            node("Gemm", ["flat", "weight"], ["y"]),
        ],
        {"weight": np.random.default_rng(0).normal(size=(3, 5))},
        inputs={"x": (2, 8, 8, 3)},
        outputs={"y": (2, 5)},
        input_type=TensorProto.UINT8,
    )


def make_package(folder: Path) -> Path:
    """Write a package of two small models, each also as .ort, with every caller."""
    random = np.random.default_rng(1)
    made: dict[str, tuple[ModelProto, Feed]] = {
        "float.onnx": (small_cnn(), random.random((3, 3, 8, 8), np.float32)),
        "int8.onnx": (bytes_cnn(), random.integers(0, 256, (4, 8, 8, 3), np.uint8)),
    }
    data = {name: model.SerializeToString(deterministic=True) for name, (model, _) in made.items()}
    vectors = {
        name: make_vectors(
            Path(name).stem, reference_session(data[name], model_name=name), images, relative_tolerance=1e-4
        )
        for name, (_, images) in made.items()
    }
    everything = {**data, **convert(data, platform="x86").models}
    answered = {name: (model, vectors[f"{Path(name).stem}.onnx"]) for name, model in everything.items()}
    way = Way(provider="CPUExecutionProvider", runtime="1.32.0", requires=("onnxruntime==1.32.0",))
    told = describe(answered, target="cpu", way=way, labels=())
    folder.mkdir()
    for name, content in {**everything, **told}.items():
        (folder / name).write_bytes(content)
    for name in CALLERS:
        shutil.copy(Path(callers.__file__).parent / name, folder)
    return folder


def sabotage(folder: Path, name: str, *, vouch: bool = True) -> None:
    """Change one weight of a model; ``vouch``: and its hash, so that only the answers can tell."""
    model = ModelProto.FromString((folder / name).read_bytes())
    tensor = next(each for each in model.graph.initializer if len(each.dims) > 1)
    values = numpy_helper.to_array(tensor).copy()
    values.flat[0] += np.asarray(1, values.dtype)
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    data = model.SerializeToString(deterministic=True)
    (folder / name).write_bytes(data)
    if vouch:
        told = json.loads((folder / "acceptance.json").read_text())
        entry = next(each for each in told["models"] if each["file"] == name)
        entry["sha256"] = hashlib.sha256(data).hexdigest()
        (folder / "acceptance.json").write_text(json.dumps(told))


def run(
    *command: str, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a caller to its end."""
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=cwd, env=env)
