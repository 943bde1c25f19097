import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from edgecnn import data
from edgecnn.data import SOURCES, folder
from edgecnn.errors import DataError

Location = Callable[[Path, pytest.MonkeyPatch], str]


def digits_location(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return "digits"


def cifar10_location(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    class CIFAR10:
        classes = ("airplane", "bird")

        def __init__(self, root: str, train: bool, download: bool) -> None:
            n = 8 if train else 4
            self.data = np.random.default_rng(n).integers(0, 256, (n, 32, 32, 3), np.uint8)
            self.targets = [index % 2 for index in range(n)]

    module = ModuleType("torchvision.datasets")
    module.__dict__["CIFAR10"] = CIFAR10
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.datasets", module)
    return "cifar10"


def folder_location(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    for split, name, grey in (("train", "ant", 10), ("train", "bee", 20), ("test", "ant", 30), ("test", "bee", 40)):
        path = tmp_path / "pictures" / split / name / "1.png"
        path.parent.mkdir(parents=True)
        Image.new("L", (9, 9), grey).save(path)
    return str(tmp_path / "pictures")


def npz_location(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    x = np.random.default_rng(0).integers(0, 256, (20, 9, 9, 3), np.uint8)
    np.savez(tmp_path / "pictures.npz", x=x, y=np.arange(20) % 2)
    return str(tmp_path / "pictures.npz")


LOCATIONS: dict[str, Location] = {
    "digits": digits_location,
    "cifar10": cifar10_location,
    "folder": folder_location,
    "npz": npz_location,
}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def load(location: str, cache: Path, *, size: int = 8) -> data.Dataset:
    return data.load(location, height=size, width=size, cache_folder=cache)


def forbid(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Make the loader of a source fail the test when it is called."""
    monkeypatch.setitem(SOURCES, name, replace(SOURCES[name], load=lambda *_: pytest.fail("decoded again")))


def test_every_source_is_tested() -> None:
    assert set(LOCATIONS) == set(SOURCES)


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_keeps_the_contract(name: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    location = LOCATIONS[name](tmp_path, monkeypatch)
    dataset = data.load(location, height=12, width=16, cache_folder=cache)
    assert dataset.source == name
    assert (dataset.train.split, dataset.test.split) == ("train", "test")
    for images in (dataset.train, dataset.test):
        assert len(images) > 0
        assert images.pixels.shape == (len(images), 12, 16, 3)
        assert images.pixels.dtype == np.uint8
        assert images.labels.dtype == np.int64
        assert images.classes == dataset.classes
    assert set(dataset.train.labels.tolist()) == set(range(len(dataset.classes)))
    assert dataset.image_shape == (12, 16, 3)
    assert "16x12" in dataset.resize
    assert "/" not in dataset.name
    assert SOURCES[name].summary


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_is_decoded_once(name: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    location = LOCATIONS[name](tmp_path, monkeypatch)
    first = load(location, cache)
    forbid(monkeypatch, name)
    second = load(location, cache)
    np.testing.assert_array_equal(first.train.pixels, second.train.pixels)
    np.testing.assert_array_equal(first.test.labels, second.test.labels)
    assert data.record(first) == data.record(second)


@pytest.mark.parametrize("name", SOURCES)
def test_two_caches_give_the_same_hash(name: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    location = LOCATIONS[name](tmp_path, monkeypatch)
    assert load(location, cache).sha256 == load(location, tmp_path / "other cache").sha256


@pytest.mark.parametrize("name", SOURCES)
def test_another_size_is_another_data_set(
    name: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = LOCATIONS[name](tmp_path, monkeypatch)
    assert load(location, cache, size=8).sha256 != load(location, cache, size=10).sha256


@pytest.mark.parametrize("name", SOURCES)
def test_what_is_recorded_is_found_again_by_content_without_its_path(
    name: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = LOCATIONS[name](tmp_path, monkeypatch)
    dataset = load(location, cache)
    wanted = data.record(dataset)
    assert str(tmp_path) not in wanted.model_dump_json()
    assert (wanted.n_train, wanted.n_test) == (len(dataset.train), len(dataset.test))
    for path in (tmp_path / "pictures", tmp_path / "pictures.npz"):
        if path.exists():
            path.rename(path.with_name("gone"))
    forbid(monkeypatch, name)
    found = data.find(wanted, cache_folder=cache)
    assert data.record(found) == wanted
    np.testing.assert_array_equal(found.train.pixels, dataset.train.pixels)


def test_the_cache_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGECNN_CACHE", str(tmp_path / "named"))
    location = npz_location(tmp_path, monkeypatch)
    dataset = data.load(location, height=8, width=8)
    assert (tmp_path / "named" / "datasets" / dataset.sha256).is_dir()
    assert data.find(data.record(dataset)).sha256 == dataset.sha256


@pytest.mark.parametrize("name", ["folder", "npz"])
def test_changed_content_is_noticed_even_with_the_same_size_and_time(
    name: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = Path(LOCATIONS[name](tmp_path, monkeypatch))
    path = location / "train" / "ant" / "1.png" if name == "folder" else location
    before, status = load(str(location), cache), path.stat()
    if name == "folder":
        Image.new("L", (9, 9), 11).save(path)
    else:
        arrays = dict(np.load(path))
        arrays["x"][:, 4, 4] ^= 1
        np.savez(path, **arrays)
    assert path.stat().st_size == status.st_size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = load(str(location), cache)
    assert after.sha256 != before.sha256
    assert (after.train.pixels != before.train.pixels).any()


def test_a_picture_moved_to_another_class_is_noticed(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = Path(folder_location(tmp_path, monkeypatch))
    before = load(str(location), cache)
    (location / "test" / "ant" / "1.png").rename(location / "test" / "bee" / "2.png")
    after = load(str(location), cache)
    assert (before.test.labels.tolist(), after.test.labels.tolist()) == ([0, 1], [1, 1])


@pytest.mark.parametrize("file", ["train-pixels.npy", "test-labels.npy", "description.json"])
def test_torn_arrays_are_decoded_again(file: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    location = npz_location(tmp_path, monkeypatch)
    before = load(location, cache)
    path = cache / "datasets" / before.sha256 / file
    path.write_bytes(path.read_bytes()[:-2])
    after = load(location, cache)
    np.testing.assert_array_equal(after.train.pixels, before.train.pixels)
    forbid(monkeypatch, "npz")
    assert load(location, cache).sha256 == before.sha256


def test_a_copy_under_another_name_is_not_decoded_but_called_by_its_name(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load(npz_location(tmp_path, monkeypatch), cache)
    shutil.copy(tmp_path / "pictures.npz", tmp_path / "copy.npz")
    forbid(monkeypatch, "npz")
    second = load(str(tmp_path / "copy.npz"), cache)
    assert (first.name, second.name) == ("pictures.npz", "copy.npz")
    assert data.find(data.record(second), cache_folder=cache).name == "copy.npz"
    assert first.sha256 == second.sha256


def test_the_same_images_from_two_sources_keep_their_own_source(tmp_path: Path, cache: Path) -> None:
    digits = load("digits", cache)
    train, test = digits.train, digits.test
    path = tmp_path / "digits.npz"
    np.savez(path, x_train=train.pixels, y_train=train.labels, x_test=test.pixels, y_test=test.labels)
    for _ in range(2):
        archive = load(str(path), cache)
        assert (archive.sha256, archive.source) == (digits.sha256, "npz")
        assert data.find(data.record(archive), cache_folder=cache).source == "npz"
    assert load("digits", cache).source == "digits"


def test_digits_that_left_the_cache_are_made_again(cache: Path) -> None:
    wanted = data.record(load("digits", cache))
    shutil.rmtree(cache)
    assert data.find(wanted, cache_folder=cache).sha256 == wanted.sha256


@pytest.mark.parametrize("source", ["digits", "npz"])
def test_images_that_cannot_be_found_by_content_are_asked_for(source: str, cache: Path) -> None:
    wanted = data.record(load("digits", cache)).model_copy(update={"sha256": "ab" * 32, "source": source})
    with pytest.raises(DataError) as raised:
        data.find(wanted, cache_folder=cache)
    assert f"({source} 'digits', SHA-256 abababababab…)" in raised.value.message
    assert str(cache) in raised.value.message
    assert "--data" in raised.value.next_step


@pytest.mark.parametrize(
    ("name", "found"),
    [("nowhere", "nothing at that path"), ("a.zip", "a file that is not .npz"), ("Digits", "nothing")],
)
def test_what_is_no_source_is_refused_with_what_could_be(
    name: str, found: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.zip").write_bytes(b"")
    with pytest.raises(DataError) as raised:
        load(name, cache)
    assert f"{name}: expected digits, cifar10, an image folder or a .npz file; found {found}" in raised.value.message
    assert folder.LAYOUT in raised.value.next_step
    assert not cache.exists()


def test_a_folder_in_the_place_of_a_picture_is_named(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = Path(folder_location(tmp_path, monkeypatch))
    (location / "train" / "ant" / "2.png").mkdir()
    with pytest.raises(DataError) as raised:
        load(str(location), cache)
    assert f"{location / 'train' / 'ant' / '2.png'}: not readable (Is a directory)" in raised.value.message
    assert raised.value.next_step


def test_a_file_name_that_is_not_utf8_is_no_obstacle(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = Path(folder_location(tmp_path, monkeypatch))
    Image.new("L", (9, 9), 50).save(location / "train" / "ant" / os.fsdecode(b"caf\xe9.png"))
    assert len(load(str(location), cache).train) == 3


def test_an_unusable_source_leaves_nothing_in_the_cache(tmp_path: Path, cache: Path) -> None:
    np.savez(tmp_path / "bad.npz", x=np.zeros((4, 8, 8, 3)), y=np.array([0, 1, 0, 1]))
    with pytest.raises(DataError):
        load(str(tmp_path / "bad.npz"), cache)
    assert not cache.exists()


def test_a_cache_that_cannot_be_written_is_a_data_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    location = npz_location(tmp_path, monkeypatch)
    (tmp_path / "cache").write_bytes(b"a file")
    with pytest.raises(DataError) as raised:
        load(location, tmp_path / "cache")
    assert "the cache of decoded images cannot be written" in raised.value.message
    assert "--cache" in raised.value.next_step


def test_only_pictures_that_mean_the_same_mirrored_are_mirrored() -> None:
    assert {name: row.mirrors for name, row in SOURCES.items()} == {
        "digits": False,
        "cifar10": True,
        "folder": True,
        "npz": True,
    }
