"""CIFAR-10 and the reference bundle that comes with the project."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import edgecnn
from edgecnn.bundle import Bundle
from edgecnn.data import Dataset, load
from edgecnn.targets import TARGETS
from tests.bundles import read_manifest, snapshot

REFERENCE = Path(__file__).parent.parent / "artifacts" / "simplecnn-cifar10"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
#: A path of Unix, of Windows, or of a home.
PATH = re.compile(r"(?:^|[\s'\"=(\[])(?:/(?!\s)\w|~/|[A-Za-z]:\\|file:)")
#: Folders that only a machine has.
PLACES = (b"/home/", b"/tmp/", b"/Users/", b"site-packages", bytes(Path.home()), bytes(Path(__file__).parents[1]))


@pytest.fixture(scope="module")
def cifar10(cifar10_folder: Path) -> Dataset:
    return load(str(cifar10_folder), height=32, width=32)


@pytest.fixture(scope="module")
def validated(cifar10: Dataset, cifar10_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the reference bundle, validated anew on all test images."""
    folder = Path(shutil.copytree(REFERENCE, tmp_path_factory.mktemp("reference") / REFERENCE.name))
    options = edgecnn.Options(bundle=folder, data=str(cifar10_folder))
    edgecnn.validate(gates=edgecnn.Gates(max_drop_pp=100), options=options)
    return folder


def texts(value: object) -> Iterator[str]:
    """Yield every text of a JSON tree, the keys of its objects included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from (key, *texts(inner))
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)


def test_the_folder_loads_whole(cifar10: Dataset) -> None:
    assert cifar10.classes == CLASSES
    assert (cifar10.train.pixels.shape, cifar10.test.pixels.shape) == ((50_000, 32, 32, 3), (10_000, 32, 32, 3))
    assert np.bincount(cifar10.train.labels).tolist() == [5000] * 10
    assert np.bincount(cifar10.test.labels).tolist() == [1000] * 10


def test_its_colours_are_those_that_were_measured_elsewhere(cifar10: Dataset) -> None:
    sample = cifar10.train.pixels[::10].astype(np.float64) / 255
    assert sample.mean((0, 1, 2)) == pytest.approx([0.4913, 0.4821, 0.4465], abs=0.01)
    assert sample.std((0, 1, 2)) == pytest.approx([0.2452, 0.2428, 0.2606], abs=0.01)


def test_the_reference_bundle_is_whole() -> None:
    bundle = Bundle.open(REFERENCE)
    found = snapshot(REFERENCE)
    assert sorted(found) == [
        "float.onnx", "int8-qnn.onnx", "int8-xnnpack.onnx", "int8.onnx", "int8_portable.onnx", "manifest.json",
        "model.pt", "ranges.json", "report.md",
    ]  # fmt: skip
    for name in found.keys() - {"manifest.json"}:
        assert bundle.manifest.artifact(name) is not None
        bundle.read(name, next_step="")
    done = {"train", "export", "simplify", "tune", "quantize", "fit", "validate", "bench", "report"}
    assert set(bundle.manifest.stages) == done
    assert bundle.manifest.recommendation is not None
    assert bundle.manifest.recommendation.model == "int8.onnx"
    assert bundle.manifest.recommendation.speedup.low > 1
    assert bundle.manifest.data is not None
    assert (bundle.manifest.data.n_train, bundle.manifest.data.n_test) == (50_000, 10_000)
    assert bundle.manifest.data.classes == CLASSES


def test_the_reference_bundle_was_calibrated_on_training_images(cifar10: Dataset) -> None:
    manifest = read_manifest(REFERENCE)
    assert manifest.calibration is not None
    assert manifest.data is not None
    assert manifest.calibration.data_sha256 == manifest.data.sha256 == cifar10.sha256
    used = set(manifest.calibration.image_sha256)
    assert len(used) == manifest.calibration.n
    assert used <= set(cifar10.train.content_sha256())
    assert not used & set(cifar10.test.content_sha256())


def test_the_reference_bundle_is_proven_on_every_target_that_can_be_had_here() -> None:
    manifest = read_manifest(REFERENCE)
    proven = {result.target: result for result in (*manifest.validation, *manifest.fitted[0].validation)}
    proven |= {result.target: result for result in manifest.fitted[1].validation}
    ready = {name for name, row in TARGETS.items() if row.in_all} - {"coreml", "nnapi"}
    assert proven.keys() == ready
    for name in ready - {"cpu"}:
        result = proven[name]
        assert result.float_against_cpu is not None
        assert result.int8_against_cpu is not None
        assert result.n >= (200 if result.how == "simulated" else 1000)
        assert result.float_against_cpu.argmax_flips == 0
        assert abs(result.int8_against_cpu.top1_change_pp or 0) <= 0.3
    assert {one.target for one in manifest.predictions} == {"coreml", "nnapi"}
    assert manifest.validation_failures == ()
    assert all(check.passed for check in manifest.checks)


def test_float_has_exactly_the_accuracy_that_the_bundle_claims(validated: Path) -> None:
    claimed, found = (
        next(result for result in read_manifest(folder).validation if result.target == "cpu")
        for folder in (REFERENCE, validated)
    )
    assert found.n == claimed.n == 10_000
    assert found.data_sha256 == claimed.data_sha256
    assert found.float_top1 == claimed.float_top1
    assert [row.float_top1 for row in found.per_class] == [row.float_top1 for row in claimed.per_class]
    assert found.float_top1 >= 0.70


def test_int8_is_as_right_as_float_within_the_noise(validated: Path) -> None:
    for found in (*read_manifest(REFERENCE).validation, *read_manifest(validated).validation):
        assert found.drop_pp_low <= 0 <= found.drop_pp_high or found.drop_pp_high < 0.3


def test_the_manifest_and_the_report_name_no_path() -> None:
    manifest = json.loads((REFERENCE / "manifest.json").read_text())
    assert [text for text in texts(manifest) if PATH.search(text)] == []
    assert [line for line in (REFERENCE / "report.md").read_text().splitlines() if PATH.search(line)] == []


@pytest.mark.parametrize("name", ["model.pt", "float.onnx", "int8.onnx", "manifest.json", "report.md"])
def test_no_file_tells_of_the_machine_it_was_made_on(name: str) -> None:
    data = (REFERENCE / name).read_bytes()
    assert [place for place in PLACES if place in data] == []


@pytest.mark.parametrize("text", ["/home/me/x", "at /tmp/x", "C:\\x", "~/x", "data='/srv/x'", "file:///x"])
def test_the_search_for_paths_finds_them(text: str) -> None:
    assert PATH.search(text)


@pytest.mark.parametrize("text", ["23.5 / 24.6", "float / int8", "p50/p90", "RGB; 32:32", "train/<class>"])
def test_the_search_for_paths_leaves_fractions_alone(text: str) -> None:
    assert not PATH.search(text)
