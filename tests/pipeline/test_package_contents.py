"""What a package holds of each model: over the whole table of targets, every file described and held to its answers."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edgecnn
from edgecnn.errors import ParityError
from edgecnn.pipeline import package_contents
from edgecnn.pipeline.package_contents import Contents, make_contents
from edgecnn.pipeline.package_models import Chosen
from edgecnn.pipeline.package_place import Place
from edgecnn.quantization.fit import fit_for
from edgecnn.targets import TARGETS
from edgecnn.targets.worker_session import WorkerSession
from tests.environments import fake_environment, make, plant_environment
from tests.graphs import make_model, node
from tests.support import make_images

IMAGES = make_images(6, split="test", size=8)


def net(seed: int) -> bytes:
    weights = np.random.default_rng(seed).normal(size=(3, 4))
    nodes = [node("GlobalAveragePool", ["x"], ["p"]), node("Flatten", ["p"], ["f"]), node("Gemm", ["f", "w"], ["y"])]
    shapes = {"inputs": {"x": ("N", 3, 8, 8)}, "outputs": {"y": ("N", 4)}}
    return make_model(nodes, {"w": weights}, **shapes).SerializeToString()  # type: ignore[arg-type]


MODELS = {"float.onnx": net(0), "int8-fake.onnx": net(1)}
CHOSEN = Chosen(models=MODELS, originals=MODELS)


def contents(place: Place, chosen: Chosen = CHOSEN) -> Contents:
    return make_contents(chosen, IMAGES, place)


@pytest.fixture
def compiling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Return a place in another process whose provider writes what it compiled."""
    monkeypatch.setenv("EDGECNN_CACHE", str(tmp_path / "cache"))
    environment = fake_environment()
    make(environment)
    monkeypatch.setattr(WorkerSession, "reopen_from_context", lambda self: b"compiled " + self._name.encode())
    name = plant_environment(monkeypatch, environment, writes_context=True)
    return Place(name=name, row=TARGETS[name])


def test_what_is_compiled_stands_beside_each_model_with_its_answers(compiling: Place) -> None:
    found = contents(compiling)
    assert [*found.models] == ["float.onnx", "int8-fake.onnx", "float_ctx.onnx", "int8-fake_ctx.onnx"]
    assert found.models["int8-fake_ctx.onnx"] == b"compiled int8-fake.onnx on fake"
    of_model, of_context = found.answered["int8-fake.onnx"], found.answered["int8-fake_ctx.onnx"]
    assert (of_context.logits_file, of_context.tolerance) == ("int8-fake-logits.bin", of_model.tolerance)
    assert found.conversion == {"float_ctx.onnx": None, "int8-fake_ctx.onnx": None}
    assert found.checked is not None
    assert [*found.checked] == [*found.models]
    assert found.beside == {}
    assert "float_ctx.onnx and int8-fake_ctx.onnx: compiled for fake" in " ".join(found.notes)


def test_where_it_is_not_here_the_note_says_why_nothing_was_compiled(
    compiling: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = replace(compiling, row=replace(compiling.row, runtime=fake_environment(name="gone"), remedy="install it"))
    found = contents(gone)
    assert [*found.models] == [*MODELS]
    assert found.checked is None
    assert found.notes == ("No context binary was written: fake is not available here (install it).",)


def test_a_model_that_became_another_as_it_was_written_for_the_target_is_refused() -> None:
    other = Chosen(models=MODELS, originals={**MODELS, "int8-fake.onnx": net(2)})
    with pytest.raises(ParityError, match=r"the bundle's int8-fake\.onnx answers otherwise than int8-fake\.onnx"):
        contents(Place(name="cpu", row=TARGETS["cpu"]), other)


def test_an_ort_file_is_held_to_what_cpus_differ_by_wherever_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Place, "ready", False)
    found = contents(Place(name="coreml", row=TARGETS["coreml"])).answered
    largest = np.abs(found["float.ort"].logits).max()
    assert found["float.ort"].tolerance == pytest.approx(1e-4 * largest, rel=1e-6)
    assert found["int8-fake.ort"].tolerance == pytest.approx(2e-3 * np.abs(found["int8-fake.ort"].logits).max())
    assert found["float.onnx"].tolerance == pytest.approx(1e-2 * largest, rel=1e-6)


def test_a_measured_tolerance_says_on_what(monkeypatch: pytest.MonkeyPatch, compiling: Place) -> None:
    monkeypatch.setattr("edgecnn.pipeline.package_place.TOLERANCES", {})
    found = contents(compiling)
    assert found.notes[0].endswith("between this machine's CPU and fake (simulated) on up to 64 test images.")
    assert package_contents.N_MEASURED == 64


@pytest.mark.parametrize("name", TARGETS)
def test_a_package_can_be_written_for_every_target_that_is_not_here(
    name: str, finished_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Place, "ready", False)
    row = TARGETS[name]
    made = edgecnn.package(
        target_name=name, out=tmp_path / "p", options=edgecnn.Options(bundle=finished_bundle, data="digits")
    )
    told = json.loads(made.files["acceptance.json"])
    (_, fits) = fit_for(name)
    kinds = ["onnx"] if row.writes_context else ["onnx", "ort"]
    stems = ["float"] if fits.ships_float else ["float", "int8"]
    assert {entry["file"] for entry in told["models"]} == {f"{stem}.{kind}" for stem in stems for kind in kinds}
    assert ("accept.mjs" in made.files) == ("float.ort" in made.files) == (not row.writes_context)
    for entry in told["models"]:
        assert entry["provider"] == ("CPUExecutionProvider" if entry["file"].endswith(".ort") else row.provider)
        assert {entry["images"], entry["logits"]} <= made.files.keys()
    assert told["requires"]
    assert (told["plugin"] is None) == (row.plugin is None)
    assert told["provider_options"] == dict(row.provider_options)
    text = made.files["README.md"].decode()
    assert all(f"`{file}`" in text for file in made.files if not file.endswith(".bin") and file != "README.md")
    assert made.checked is None
    assert f"**not run on {name}**" in text
