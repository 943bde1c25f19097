"""A stranger's float ONNX file: what is read, what is refused, and how it becomes a bundle."""

import shutil
from pathlib import Path

import pytest

from edgecnn.errors import BundleError, DataError, ModelError
from edgecnn.pipeline.context import Options, Outcome
from edgecnn.pipeline.quantize import quantize
from tests.bundles import fast_model, read_manifest, save_npz, snapshot
from tests.graphs import make_model, node


def go(folder: Path | None = None, *, model: Path, data: Path | None = None, force: bool = False) -> Outcome:
    return quantize(model, options=Options(bundle=folder, data=str(data) if data else None, force=force))


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.onnx"
    path.write_bytes(fast_model())
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return save_npz(tmp_path / "images.npz", n_train=70, n_test=20, classes=10)


def test_a_float_model_of_ones_own_becomes_a_bundle(
    tmp_path: Path, mine: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = go(model=mine, data=images)
    assert outcome.bundle == Path("artifacts/mine")
    assert sorted(snapshot(outcome.bundle)) == ["float.onnx", "int8.onnx", "manifest.json", "ranges.json"]
    manifest = read_manifest(outcome.bundle)
    assert (outcome.bundle / "float.onnx").read_bytes() == mine.read_bytes()
    assert manifest.stages["export"].settings == {"imported": True}
    assert manifest.network is not None
    assert (manifest.network.name, manifest.network.parameters) == ("mine", None)
    assert manifest.data is not None
    assert (manifest.data.n_train, manifest.data.n_test) == (70, 20)


def test_a_second_time_the_images_come_from_the_bundle(tmp_path: Path, mine: Path, images: Path) -> None:
    go(tmp_path / "bundle", model=mine, data=images)
    images.unlink()
    assert go(tmp_path / "bundle", model=mine).unchanged


def test_a_model_beside_a_manifest_belongs_to_that_bundle(finished_bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished_bundle, tmp_path / "elsewhere"))
    outcome = go(model=folder / "float.onnx")
    assert outcome.bundle == folder
    assert outcome.unchanged


def test_a_quantized_model_is_refused_before_anything_is_touched(finished_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"int8\.onnx: is quantized already; expected a float model") as caught:
        go(tmp_path / "bundle", model=finished_bundle / "int8.onnx")
    assert caught.value.next_step
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["missing", "folder", "garbage"])
def test_what_is_not_a_model_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.onnx"
    if kind == "folder":
        path.mkdir()
    elif kind == "garbage":
        path.write_bytes(b"\xff" * 100)
    before = snapshot(tmp_path)
    words = {"missing": "found nothing", "folder": "found a folder", "garbage": "truncated or not one"}
    with pytest.raises(ModelError, match=f"model.onnx: expected a.* ONNX model, .*{words[kind]}") as caught:
        go(tmp_path / "bundle", model=path)
    assert caught.value.next_step
    assert snapshot(tmp_path) == before


def test_a_model_alone_says_nothing_of_its_images(tmp_path: Path, mine: Path) -> None:
    with pytest.raises(DataError, match="an ONNX file says nothing of its images") as caught:
        go(tmp_path / "bundle", model=mine)
    assert "--data" in caught.value.next_step
    assert not (tmp_path / "bundle").exists()


def test_another_model_does_not_replace_an_exported_one(bundle_copy: Path, mine: Path) -> None:
    before = snapshot(bundle_copy)
    with pytest.raises(BundleError, match=r"holds another model, exported from its own checkpoint; .*mine\.onnx"):
        go(bundle_copy, model=mine)
    assert snapshot(bundle_copy) == before
    go(bundle_copy, model=mine, force=True)
    assert (bundle_copy / "float.onnx").read_bytes() == mine.read_bytes()
    assert set(read_manifest(bundle_copy).stages) == {"train", "export", "quantize"}


def test_a_given_model_that_cannot_be_quantized_replaces_nothing(bundle_copy: Path, tmp_path: Path) -> None:
    model = make_model(
        [node("GlobalAveragePool", ["x"], ["p"], name="pool"), node("Flatten", ["p"], ["y"], name="flatten")],
        {},
        inputs={"x": ("N", 3, 32, 32)},
        outputs={"y": ("N", 3)},
    )
    (tmp_path / "other.onnx").write_bytes(model.SerializeToString())
    before = snapshot(bundle_copy)
    with pytest.raises(ModelError, match=r"other\.onnx: has no convolution or fully connected layer"):
        go(bundle_copy, model=tmp_path / "other.onnx", force=True)
    assert snapshot(bundle_copy) == before
