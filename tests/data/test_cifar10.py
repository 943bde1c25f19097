import hashlib
import io
import pickle
import sys
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.client import BadStatusLine
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import numpy as np
import pytest
import torchvision.datasets

from edgecnn.data import cifar10
from edgecnn.errors import DataError

CLASSES = ["airplane", "automobile", "bird", "cat"]


def batch(n: int, seed: int) -> dict[str, Any]:
    """One file of the archive: rows of 3072 bytes, first all red, then all green, then all blue."""
    random = np.random.default_rng(seed)
    return {"data": random.integers(0, 256, (n, 3072), np.uint8), "labels": random.integers(0, 4, n).tolist()}


BATCHES = {"data_batch_1": batch(5, 1), "data_batch_2": batch(4, 2), "test_batch": batch(3, 3)}


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder without a log."""

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve the folder ``archive`` on this machine."""
    (tmp_path / "archive").mkdir()
    monkeypatch.setenv("no_proxy", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path / "archive"))) as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()
        thread.join()


@pytest.fixture
def archive(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make torchvision's CIFAR10 download a tiny archive of the real layout from this machine."""
    path = tmp_path / "archive" / "tiny.tar.gz"
    files = {name: pickle.dumps(content) for name, content in BATCHES.items()}
    files["batches.meta"] = pickle.dumps({"label_names": CLASSES})
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    md5 = {name: hashlib.md5(data).hexdigest() for name, data in files.items()}
    source = torchvision.datasets.CIFAR10
    monkeypatch.setattr(source, "url", f"{server}/{path.name}")
    monkeypatch.setattr(source, "filename", path.name)
    monkeypatch.setattr(source, "tgz_md5", hashlib.md5(path.read_bytes()).hexdigest())
    monkeypatch.setattr(source, "train_list", [[name, md5[name]] for name in ("data_batch_1", "data_batch_2")])
    monkeypatch.setattr(source, "test_list", [["test_batch", md5["test_batch"]]])
    monkeypatch.setattr(source, "meta", {"filename": "batches.meta", "key": "label_names", "md5": md5["batches.meta"]})
    return path


def pictures(*names: str) -> np.ndarray[Any, Any]:
    """The pixels of these batches as height, width, channels."""
    rows = [row for name in names for row in BATCHES[name]["data"]]
    return np.stack([np.dstack([row[:1024], row[1024:2048], row[2048:]]).reshape(32, 32, 3) for row in rows])


def test_both_splits_come_from_torchvisions_download(archive: Path, tmp_path: Path) -> None:
    train, test = cifar10.load(str(tmp_path / "cifar10"), 32, 32)
    np.testing.assert_array_equal(train.pixels, pictures("data_batch_1", "data_batch_2"))
    np.testing.assert_array_equal(test.pixels, pictures("test_batch"))
    assert train.labels.tolist() == BATCHES["data_batch_1"]["labels"] + BATCHES["data_batch_2"]["labels"]
    assert test.labels.tolist() == BATCHES["test_batch"]["labels"]
    assert train.classes == test.classes == tuple(CLASSES)
    assert (train.split, test.split) == ("train", "test")


def test_the_second_time_nothing_is_downloaded(archive: Path, tmp_path: Path) -> None:
    cifar10.load(str(tmp_path / "cifar10"), 32, 32)
    archive.unlink()
    assert len(cifar10.load(str(tmp_path / "cifar10"), 32, 32)[0]) == 9


def test_another_size_is_resized(archive: Path, tmp_path: Path) -> None:
    train, _ = cifar10.load(str(tmp_path / "cifar10"), 16, 8)
    assert train.pixels.shape == (9, 16, 8, 3)
    assert abs(train.pixels.mean() - 127.5) < 5


@pytest.mark.parametrize("damage", ["gone", "corrupt"])
def test_a_failed_download_says_what_to_do_instead(archive: Path, tmp_path: Path, damage: str) -> None:
    if damage == "gone":
        archive.unlink()
    else:
        archive.write_bytes(archive.read_bytes()[:-10])
    with pytest.raises(DataError) as raised:
        cifar10.load(str(tmp_path / "cifar10"), 32, 32)
    if isinstance(raised.value.__cause__, HTTPError):
        raised.value.__cause__.close()  # torchvision leaves its socket open
    assert f"cifar10: could not be downloaded into {tmp_path / 'cifar10'}" in raised.value.message
    assert "--data FOLDER" in raised.value.next_step
    assert raised.value.exit_code == 3


def test_an_answer_that_is_no_http_is_a_failed_download(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def garble(self: object) -> None:
        raise BadStatusLine("<html>")

    monkeypatch.setattr(torchvision.datasets.CIFAR10, "download", garble)
    with pytest.raises(DataError, match=r"could not be downloaded .*<html>"):
        cifar10.load(str(tmp_path), 32, 32)


def test_without_torchvision_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(DataError) as raised:
        cifar10.load(str(tmp_path), 32, 32)
    assert "torchvision" in raised.value.message
    assert "not installed" in raised.value.message
    assert "pip install 'edgecnn[torch]'" in raised.value.next_step
