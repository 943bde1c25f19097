"""``edgecnn package``: what it writes, what it refuses, and that the result is accepted by its own programs."""

import getpass
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper

import edgecnn
from edgecnn.bundle.atomic import sha256_bytes
from edgecnn.errors import BundleError, DataError, ParityError, StageError, UsageError
from edgecnn.packaging.ort_format import OrtFiles, Platform, convert
from edgecnn.pipeline import package_contents as stage
from edgecnn.quantization.fit import FITS
from edgecnn.targets import ssh
from edgecnn.targets.python_environment import PythonEnvironment
from tests.bundles import missing_target, plant, snapshot
from tests.emulation import plant_target
from tests.environments import use_installed
from tests.graphs import node
from tests.packages import run
from tests.sshd import needs_sshd, running_sshd

MODELS = {"float.onnx", "int8.onnx", "float.ort", "int8.ort"}
VECTORS = {f"{name}-{kind}.bin" for name in ("float", "int8") for kind in ("images", "logits")}
TOLD = {"README.md", "acceptance.json", "acceptance.tsv", "required_operators.config"}
PROGRAMS = {"accept.py", "accept.mjs", "accept.cpp", "Accept.kt", "Accept.swift"}


def options(bundle: Path, **more: object) -> edgecnn.Options:
    return edgecnn.Options(bundle=bundle, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def made(finished_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> edgecnn.Package:
    out = tmp_path_factory.mktemp("made") / "package"
    return edgecnn.package(out=out, options=options(finished_bundle))


def test_everything_is_there_and_nothing_else(made: edgecnn.Package) -> None:
    assert {path.name for path in made.folder.iterdir()} == MODELS | VECTORS | TOLD | PROGRAMS == set(made.files)
    for name, data in made.files.items():
        assert (made.folder / name).read_bytes() == data


def test_the_package_passes_its_own_check(made: edgecnn.Package) -> None:
    done = run(sys.executable, "-P", str(made.folder / "accept.py"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("passed") == 4


def test_one_changed_integer_weight_fails_it(made: edgecnn.Package, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made.folder, tmp_path / "package"))
    model = ModelProto.FromString((folder / "int8.onnx").read_bytes())
    tensor = next(t for t in model.graph.initializer if numpy_helper.to_array(t).dtype == np.int8 and len(t.dims) > 1)
    values = numpy_helper.to_array(tensor).copy()
    values.flat[0] = -values.flat[0] if abs(int(values.flat[0])) > 60 else 127
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    (folder / "int8.onnx").write_bytes(model.SerializeToString())
    script = (folder / "accept.py").read_text()
    (folder / "accept.py").write_text(script.replace('!= entry["sha256"]', '== ""'))  # so that the answers must tell
    done = run(sys.executable, "-P", str(folder / "accept.py"), str(folder), "int8.onnx")
    assert done.returncode == 1, done.stdout
    assert "FAILED  int8.onnx: largest difference" in done.stdout


def test_the_same_bundle_gives_the_same_bytes(made: edgecnn.Package, finished_bundle: Path, tmp_path: Path) -> None:
    again = edgecnn.package(out=tmp_path / "other-name", options=options(finished_bundle))
    assert again.files == made.files


def test_the_expected_logits_are_those_of_the_bundles_models(made: edgecnn.Package) -> None:
    from edgecnn.targets import reference_session

    told = json.loads(made.files["acceptance.json"])
    assert {entry["file"] for entry in told["models"]} == MODELS
    for entry in told["models"]:
        images = np.frombuffer(made.files[entry["images"]], "<f4").reshape(entry["input_shape"])
        logits = np.frombuffer(made.files[entry["logits"]], "<f4").reshape(entry["output_shape"])
        name = entry["file"].replace(".ort", ".onnx")
        found = reference_session(made.files[name], model_name=name).run(images)
        np.testing.assert_allclose(found, logits, atol=entry["tolerance"])
    assert len(np.unique(np.frombuffer(made.files["float-images.bin"], "<f4").reshape(8, -1), axis=0)) == 8


def test_the_readme_names_the_exact_runtime_and_what_was_not_tested(made: edgecnn.Package) -> None:
    import onnxruntime

    text = made.files["README.md"].decode()
    assert f"**onnxruntime=={onnxruntime.__version__}**, execution provider `CPUExecutionProvider`" in text
    assert f"ONNX Runtime **{onnxruntime.__version__}**" in text
    assert f"pip install onnxruntime=={onnxruntime.__version__} numpy" in text
    assert text.count("**untested**") == 2
    assert "${" not in text
    for name in MODELS | TOLD - {"README.md"} | PROGRAMS:
        assert f"`{name}`" in text
    assert "Run on cpu, the largest differences of a logit were: float.onnx 0" in text


def test_nothing_of_this_machine_is_in_it(made: edgecnn.Package, finished_bundle: Path) -> None:
    for data in made.files.values():
        assert str(finished_bundle.parent).encode() not in data
        assert getpass.getuser().encode() + b"@" not in data


def test_the_bundle_is_left_as_it_is(finished_bundle: Path, tmp_path: Path) -> None:
    before = snapshot(finished_bundle)
    edgecnn.package(out=tmp_path / "package", options=options(finished_bundle))
    assert snapshot(finished_bundle) == before


def test_it_lies_beside_the_bundle_and_is_not_replaced_unless_asked(bundle_copy: Path) -> None:
    made = edgecnn.package(options=options(bundle_copy))
    assert made.folder == bundle_copy.with_name("bundle-for-cpu")
    with pytest.raises(UsageError, match="bundle-for-cpu: exists already"):
        edgecnn.package(options=options(bundle_copy))
    assert edgecnn.package(options=options(bundle_copy, force=True)).files == made.files


def test_a_target_that_is_not_here_is_packed_for_and_said_not_to_be_run(finished_bundle: Path, tmp_path: Path) -> None:
    name = missing_target()
    made = edgecnn.package(target_name=name, out=tmp_path / "package", options=options(finished_bundle))
    assert made.checked is None
    assert f"**not run on {name}**" in made.files["README.md"].decode()
    told = json.loads(made.files["acceptance.json"])
    assert (told["target"], told["provider"]) == (name, edgecnn.TARGETS[name].provider)


def test_a_target_that_is_here_runs_both_models(
    finished_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = plant_target(tmp_path / "bin", monkeypatch)
    made = edgecnn.package(target_name=name, out=tmp_path / "package", options=options(finished_bundle))
    assert made.checked is not None
    assert set(made.checked) == {"float.onnx", "int8.onnx"}
    assert json.loads(made.files["acceptance.json"])["target"] == name


@needs_sshd
def test_a_board_runs_both_models(finished_bundle: Path, tmp_path: Path) -> None:
    ssh._look.cache_clear()
    (tmp_path / "sshd").mkdir()
    with pytest.MonkeyPatch.context() as patch, running_sshd(tmp_path / "sshd", patch) as server:
        made = edgecnn.package(target_name=server.target(), out=tmp_path / "package", options=options(finished_bundle))
    assert made.checked is not None
    assert set(made.checked) == {"float.onnx", "int8.onnx"}
    assert max(made.checked["float.onnx"], made.checked["int8.onnx"]) == 0


def test_a_conversion_that_changes_the_answers_is_refused(
    finished_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swapped(models: dict[str, bytes], *, platform: Platform) -> OrtFiles:
        found = convert(models, platform=platform)
        wrong = {"float.ort": found.models["float.ort"], "int8.ort": found.models["float.ort"]}
        return OrtFiles(models=wrong, required_operators=found.required_operators)

    monkeypatch.setattr(stage, "convert", swapped)
    with pytest.raises(ParityError, match=r"int8\.ort answers otherwise than int8\.onnx"):
        edgecnn.package(out=tmp_path / "package", options=options(finished_bundle))
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_without_int8_is_refused(bundle_copy: Path, tmp_path: Path) -> None:
    (bundle_copy / "int8.onnx").unlink()
    with pytest.raises(BundleError, match=r"int8\.onnx: named by the manifest but not readable"):
        edgecnn.package(out=tmp_path / "package", options=options(bundle_copy))


def test_a_changed_model_is_refused(bundle_copy: Path, tmp_path: Path) -> None:
    data = (bundle_copy / "int8.onnx").read_bytes()
    (bundle_copy / "int8.onnx").write_bytes(data + b"\0")
    with pytest.raises(BundleError, match="the file was changed after it was made"):
        edgecnn.package(out=tmp_path / "package", options=options(bundle_copy))


def test_a_model_that_answers_nan_is_refused(bundle_copy: Path, tmp_path: Path) -> None:
    from tests.bundles import nan_model

    plant(bundle_copy, "float.onnx", nan_model())
    with pytest.raises(StageError, match="NaN or infinite logits"):
        edgecnn.package(out=tmp_path / "package", options=options(bundle_copy))
    assert list((tmp_path).glob("package")) == []


def test_images_that_are_gone_are_asked_for(finished_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        edgecnn.package(
            out=tmp_path / "package",
            options=options(finished_bundle, data=str(tmp_path / "none"), cache=tmp_path / "c"),
        )


def test_an_unknown_target_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown provider 'toaster'"):
        edgecnn.package(target_name="toaster", options=options(tmp_path / "no bundle"))


def test_qnn_gets_what_its_chip_loads_and_the_program_runs_all_of_it_there(
    bundle_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = use_installed("qnn@sm8650", monkeypatch)
    assert isinstance(row.runtime, PythonEnvironment)
    recipe = FITS["qnn"].recipes[0]
    given = options(bundle_copy, data="digits", cache=tmp_path / "cache")
    edgecnn.fit(["qnn"], settings=edgecnn.QuantizeSettings(n_images=64, recipe=recipe), options=given)
    made = edgecnn.package(target_name="qnn@sm8650", out=tmp_path / "p", options=given)
    models = {"float.onnx", "int8-qnn.onnx", "float_ctx.onnx", "int8-qnn_ctx.onnx"}
    assert made.checked is not None
    assert set(made.checked) == set(made.tolerances) == models
    assert b"soc_type=SM8650;arch=75" in made.files["int8-qnn_ctx.onnx"], "compiled for the chip that was named"
    assert edgecnn.package(target_name="qnn@sm8650", out=tmp_path / "again", options=given).files == made.files
    python = [row.runtime.program, "-P", str(tmp_path / "p" / "accept.py")]
    done = run(*python)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("passed") == 4

    model = tmp_path / "p" / "float.onnx"
    model.write_bytes(with_two_layers_for_the_cpu(model.read_bytes()))
    told = json.loads((tmp_path / "p" / "acceptance.json").read_text())
    entry = next(one for one in told["models"] if one["file"] == "float.onnx")
    entry["sha256"] = sha256_bytes(model.read_bytes())
    (tmp_path / "p" / "acceptance.json").write_text(json.dumps(told))
    fell_back = run(*python)
    assert fell_back.returncode == 1
    assert "FAILED  float.onnx" in fell_back.stdout
    assert "QNNExecutionProvider does not open it wholly" in fell_back.stdout
    told["allow_cpu_nodes"] = 1  # then it opens, and only the session's own record of its nodes can tell
    (tmp_path / "p" / "acceptance.json").write_text(json.dumps(told))
    one_too_many = run(*python, str(tmp_path / "p"), "float.onnx")
    assert one_too_many.returncode == 1
    assert "nodes run elsewhere than on QNNExecutionProvider: {" in one_too_many.stdout
    told["allow_cpu_nodes"] = 2
    (tmp_path / "p" / "acceptance.json").write_text(json.dumps(told))
    assert run(*python, str(tmp_path / "p"), "float.onnx").returncode == 0


def with_two_layers_for_the_cpu(data: bytes) -> bytes:
    """Return a model that answers the same by way of two Dets, which QNN has not."""
    model = ModelProto.FromString(data)
    last = model.graph.node[-1]
    answer, last.output[0] = last.output[0], "before"
    integers = {"zero": [0], "four": [4], "eight": [8], "one": [1], "square": [1, 2, 2]}
    tensors = [numpy_helper.from_array(np.array(values, np.int64), name) for name, values in integers.items()]
    model.graph.initializer.extend([*tensors, numpy_helper.from_array(np.zeros((), np.float32), "nothing")])
    model.graph.node.extend(
        [
            node("Slice", ["before", "zero", "four", "one"], ["a"]),
            node("Slice", ["before", "four", "eight", "one"], ["b"]),
            node("Reshape", ["a", "square"], ["c"]),
            node("Reshape", ["b", "square"], ["d"]),
            node("Det", ["c"], ["e"]),
            node("Det", ["d"], ["f"]),
            node("Add", ["e", "f"], ["g"]),
            node("Mul", ["g", "nothing"], ["h"]),
            node("Add", ["before", "h"], [answer]),
        ]
    )
    return model.SerializeToString()
