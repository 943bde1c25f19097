import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecnn.data import cache
from edgecnn.data.images import Dataset, Images
from edgecnn.errors import DataError
from tests.support import make_images

KEY = "c" * 64


def make_dataset(**changes: Any) -> Dataset:
    train, test = make_images(12, seed=1), make_images(6, seed=2, split="test")
    fields: dict[str, Any] = {"source": "npz", "name": "a.npz", "resize": "rule", "train": train, "test": test}
    fields |= changes
    return Dataset(sha256=cache.dataset_sha256(fields["train"], fields["test"]), **fields)


def changed(images: Images, **changes: Any) -> Images:
    return replace(images, **changes)


def stored(folder: Path) -> Dataset:
    dataset = make_dataset()
    cache.remember(folder, KEY, dataset)
    return dataset


def files_of(folder: Path, dataset: Dataset) -> list[Path]:
    return sorted((folder / "datasets" / dataset.sha256).iterdir())


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if sys.platform != "linux":
        pytest.skip("a tiny disk is made with Linux's tmpfs")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"mounting is not permitted here: {made.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_what_was_remembered_is_recalled_by_source_and_by_content(tmp_path: Path) -> None:
    dataset = stored(tmp_path)
    for found in (cache.recall_source(tmp_path, KEY), cache.recall(tmp_path, dataset.sha256)):
        assert found is not None
        for before, after in ((dataset.train, found.train), (dataset.test, found.test)):
            np.testing.assert_array_equal(after.pixels, before.pixels)
            np.testing.assert_array_equal(after.labels, before.labels)
            assert (after.classes, after.split) == (before.classes, before.split)
        assert (found.source, found.name, found.resize) == ("npz", "a.npz", "rule")
        assert found.sha256 == dataset.sha256


def test_what_was_never_remembered_is_not_there(tmp_path: Path) -> None:
    stored(tmp_path)
    assert cache.recall_source(tmp_path, "d" * 64) is None
    assert cache.recall(tmp_path, "d" * 64) is None
    assert cache.recall(tmp_path / "nowhere", "d" * 64) is None


def test_two_sources_with_the_same_images_are_stored_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = stored(tmp_path)
    monkeypatch.setattr(np, "save", lambda *_: pytest.fail("stored again"))
    cache.remember(tmp_path, "d" * 64, dataset)
    assert cache.recall_source(tmp_path, "d" * 64) is not None


def test_the_hash_names_pixels_labels_classes_and_splits() -> None:
    train, test = make_dataset().train, make_dataset().test
    pixels, labels = train.pixels.copy(), train.labels.copy()
    pixels[3, 4, 5, 1] ^= 1
    labels[3] = (labels[3] + 1) % 3
    hashes = [
        cache.dataset_sha256(train, test),
        cache.dataset_sha256(changed(train, pixels=pixels), test),
        cache.dataset_sha256(changed(train, labels=labels), test),
        cache.dataset_sha256(changed(train, classes=("a", "b", "c")), test),
        cache.dataset_sha256(changed(train, pixels=train.pixels.reshape(12, 16, 64, 3)), test),
        cache.dataset_sha256(test, train),
    ]
    assert len(set(hashes)) == len(hashes)


def test_the_hash_does_not_depend_on_how_arrays_lie_in_memory() -> None:
    dataset = make_dataset()
    scattered = changed(dataset.train, pixels=np.asfortranarray(dataset.train.pixels))
    assert cache.dataset_sha256(scattered, dataset.test) == dataset.sha256


@pytest.mark.parametrize("which", range(5))
@pytest.mark.parametrize("damage", ["empty", "half", "flipped", "gone"])
def test_a_torn_or_changed_file_counts_as_absent_and_is_cleared_away(tmp_path: Path, which: int, damage: str) -> None:
    dataset = stored(tmp_path)
    path = files_of(tmp_path, dataset)[which]
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        flipped = data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]
        path.write_bytes({"empty": b"", "half": data[: len(data) // 2], "flipped": flipped}[damage])
    assert cache.recall_source(tmp_path, KEY) is None
    cache.remember(tmp_path, KEY, dataset)
    assert cache.recall_source(tmp_path, KEY) is not None


def test_a_header_with_any_byte_changed_counts_as_absent_unless_it_means_the_same(tmp_path: Path) -> None:
    dataset = stored(tmp_path)
    path = files_of(tmp_path, dataset)[-1]
    whole = path.read_bytes()
    torn = 0
    for position in range(128):
        path.write_bytes(whole[:position] + b"(" + whole[position + 1 :])
        found = cache.recall(tmp_path, dataset.sha256)
        torn += found is None
        assert found is None or (found.train.pixels == dataset.train.pixels).all()
        cache.remember(tmp_path, KEY, dataset)
    assert torn > 60


def test_a_pickle_among_the_arrays_is_not_loaded(tmp_path: Path) -> None:
    dataset = stored(tmp_path)
    trap = tmp_path / "trap"

    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (trap,))

    objects = np.empty(12, object)
    objects[:] = [Payload()] * 12
    np.save(files_of(tmp_path, dataset)[-1], objects, allow_pickle=True)
    assert cache.recall(tmp_path, dataset.sha256) is None
    assert not trap.exists()


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b"\xff\xfe", b"d" * 64, b"..", b"../datasets/" + b"d" * 52])
def test_a_torn_index_counts_as_absent(tmp_path: Path, content: bytes) -> None:
    dataset = stored(tmp_path)
    (tmp_path / "sources" / KEY).write_bytes(content)
    assert cache.recall_source(tmp_path, KEY) is None
    assert len(files_of(tmp_path, dataset)) == 5


def test_a_process_that_was_quicker_with_the_same_images_is_no_error(tmp_path: Path) -> None:
    dataset = stored(tmp_path)
    cache._store(tmp_path / "datasets" / dataset.sha256, dataset)
    assert [path.name for path in (tmp_path / "datasets").iterdir()] == [dataset.sha256]


def test_nothing_half_made_is_left_or_taken_for_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save, calls = np.save, 0

    def full(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise OSError(28, "No space left on device")
        save(*arguments)

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(DataError, match="No space left"):
        stored(tmp_path)
    assert list((tmp_path / "datasets").iterdir()) == []
    assert cache.recall_source(tmp_path, KEY) is None


def test_a_full_disk_is_a_data_error_that_names_the_cache(tiny_disk: Path) -> None:
    with pytest.raises(DataError) as raised:
        cache.remember(tiny_disk, KEY, make_dataset(train=make_images(40)))
    assert f"{tiny_disk}: the cache of decoded images cannot be written" in raised.value.message
    assert "$EDGECNN_CACHE" in raised.value.next_step
    assert raised.value.exit_code == 3
    shutil.rmtree(tiny_disk / "sources")
    assert list((tiny_disk / "datasets").iterdir()) == []


def test_a_read_only_disk_is_a_data_error(tiny_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", tiny_disk], check=True)
    with pytest.raises(DataError, match=r"cannot be written .*Read-only"):
        stored(tiny_disk)


def test_a_file_in_the_place_of_the_cache_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"")
    with pytest.raises(DataError) as raised:
        stored(tmp_path / "cache")
    assert f"{tmp_path / 'cache'}: the cache of decoded images cannot be written" in raised.value.message
    assert "--cache" in raised.value.next_step
