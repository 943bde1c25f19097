import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgecnn.data import npz
from edgecnn.data.images import Images
from edgecnn.errors import DataError

N = 20
X = np.random.default_rng(0).integers(0, 256, (N, 8, 8, 3), np.uint8)
Y = np.arange(N) % 4


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def load(folder: Path, *, height: int = 8, width: int = 8, **arrays: Any) -> tuple[Images, Images]:
    np.savez(folder / "images.npz", **arrays)
    return npz.load(str(folder / "images.npz"), height, width)


def refusal(folder: Path, **arrays: Any) -> DataError:
    if arrays:
        np.savez(folder / "images.npz", **arrays)
    with pytest.raises(DataError) as raised:
        npz.load(str(folder / "images.npz"), 8, 8)
    assert str(folder / "images.npz") in raised.value.message
    assert raised.value.next_step
    return raised.value


def npy(array: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def write_zip(folder: Path, entries: dict[str, bytes]) -> None:
    with zipfile.ZipFile(folder / "images.npz", "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)


def test_four_arrays_are_the_two_splits(tmp_path: Path) -> None:
    train, test = load(tmp_path, x_train=X[:12], y_train=Y[:12], x_test=X[12:], y_test=Y[12:])
    np.testing.assert_array_equal(train.pixels, X[:12])
    np.testing.assert_array_equal(test.pixels, X[12:])
    assert (train.labels.tolist(), test.labels.tolist()) == (Y[:12].tolist(), Y[12:].tolist())
    assert train.classes == test.classes == ("0", "1", "2", "3")
    assert (train.split, test.split) == ("train", "test")


def test_two_arrays_are_split_stratified_and_always_alike(tmp_path: Path) -> None:
    train, test = load(tmp_path, x=X, y=Y)
    assert np.bincount(train.labels).tolist() == [4] * 4
    assert np.bincount(test.labels).tolist() == [1] * 4
    label_of = {picture.tobytes(): int(label) for picture, label in zip(X, Y, strict=True)}
    found = [(picture.tobytes(), label) for split in (train, test) for picture, label in _rows(split)]
    assert dict(found) == label_of
    assert len(found) == N
    np.testing.assert_array_equal(load(tmp_path, x=X, y=Y)[1].pixels, test.pixels)


def _rows(images: Images) -> list[tuple[np.ndarray[Any, Any], int]]:
    return list(zip(images.pixels, images.labels.tolist(), strict=True))


def test_four_arrays_win_over_two(tmp_path: Path) -> None:
    train, _ = load(tmp_path, x=X, y=Y, x_train=X[:8], y_train=Y[:8], x_test=X[8:], y_test=Y[8:])
    assert len(train) == 8


@pytest.mark.parametrize("kind", ["int8", "uint8", "int32", "uint64", ">i2"])
def test_labels_of_any_integer_type_become_int64(tmp_path: Path, kind: str) -> None:
    train, _ = load(tmp_path, x=X, y=Y.astype(kind))
    assert train.labels.dtype == np.int64
    assert set(train.labels.tolist()) == {0, 1, 2, 3}


def test_a_compressed_archive_is_the_same(tmp_path: Path) -> None:
    plain = load(tmp_path, x=X, y=Y)[0]
    np.savez_compressed(tmp_path / "images.npz", x=X, y=Y)
    np.testing.assert_array_equal(npz.load(str(tmp_path / "images.npz"), 8, 8)[0].pixels, plain.pixels)


def test_another_size_is_resized(tmp_path: Path) -> None:
    train, _ = load(tmp_path, height=4, width=6, x=np.full_like(X, 77), y=Y)
    np.testing.assert_array_equal(train.pixels, np.full((16, 4, 6, 3), 77))


def test_files_in_the_archive_that_are_not_arrays_are_passed_over(tmp_path: Path) -> None:
    write_zip(tmp_path, {"README.txt": b"hello", "x.npy": npy(X), "y.npy": npy(Y)})
    assert len(npz.load(str(tmp_path / "images.npz"), 8, 8)[0]) == 16


@pytest.mark.parametrize("names", [("images", "labels"), ("x", "labels"), ("x_train", "y_train")])
def test_other_names_are_refused_and_named(tmp_path: Path, names: tuple[str, str]) -> None:
    message = refusal(tmp_path, **dict(zip(names, (X, Y), strict=True))).message
    assert f"found {', '.join(sorted(names))}" in message
    assert "x_train, y_train, x_test and y_test" in message


@pytest.mark.parametrize("prefix", ["", "_train"])
def test_entries_with_the_right_names_that_are_not_arrays_are_refused(tmp_path: Path, prefix: str) -> None:
    names = ["x", "y"] if not prefix else ["x_train", "y_train", "x_test", "y_test"]
    write_zip(tmp_path, dict.fromkeys(names, b"no array"))
    assert "found nothing" in refusal(tmp_path).message


@pytest.mark.parametrize(
    ("x", "found"),
    [
        (X / 255, "float64 [16, 8, 8, 3]"),
        (X.astype(np.int64), "int64"),
        (X[..., 0], "[16, 8, 8]"),
        (X[..., :1], "[16, 8, 8, 1]"),
        (X.transpose(0, 3, 1, 2), "[16, 3, 8, 8]"),
        (X.reshape(N, -1), "[16, 192]"),
        (X[:, :0], "[16, 0, 8, 3]"),
    ],
)
def test_pixels_that_are_not_rgb_bytes_are_refused(tmp_path: Path, x: np.ndarray[Any, Any], found: str) -> None:
    error = refusal(tmp_path, x=x, y=Y)
    assert "train images must be uint8 [16, H, W, 3]" in error.message
    assert found in error.message
    assert "channels last" in error.next_step


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (Y * 2, "0..K-1 without gaps, found [0, 2, 4, 6]"),
        (Y + 1, "0..K-1 without gaps, found [1, 2, 3, 4]"),
        (Y - 1, "0..K-1 without gaps, found [-1, 0, 1, 2]"),
        (Y.astype(float), "must be integers [N], found float64"),
        (Y == 1, "must be integers [N], found bool"),
        (np.array(list("abcd"))[Y], "must be integers [N], found <U1"),
        (np.eye(4, dtype=int)[Y], "must be integers [N], found int64 [16, 4]"),
        (Y[:5], "could not be split"),
        (np.array(3), "could not be split"),
        (np.array([0] * 19 + [1]), "could not be split"),
    ],
)
def test_labels_that_are_not_classes_from_0_are_refused(tmp_path: Path, y: np.ndarray[Any, Any], words: str) -> None:
    assert words in refusal(tmp_path, x=X, y=y).message


def test_two_arrays_of_different_lengths_cannot_be_split(tmp_path: Path) -> None:
    assert "x and y could not be split" in refusal(tmp_path, x=X[:5], y=Y).message


def test_a_class_in_test_that_train_lacks_is_refused(tmp_path: Path) -> None:
    seen = Y < 3
    error = refusal(tmp_path, x_train=X[seen], y_train=Y[seen], x_test=X, y_test=Y)
    assert "test has labels that train lacks: [3]" in error.message


def test_not_as_many_labels_as_images_are_refused(tmp_path: Path) -> None:
    error = refusal(tmp_path, x_train=X[:7], y_train=Y[:8], x_test=X, y_test=Y)
    assert "train images must be uint8 [8, H, W, 3], found uint8 [7, 8, 8, 3]" in error.message


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_empty_split_is_refused(tmp_path: Path, split: str) -> None:
    arrays = {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y} | {f"x_{split}": X[:0], f"y_{split}": Y[:0]}
    assert f"{split} labels must be integers [N], found int64 [0]" in refusal(tmp_path, **arrays).message


@pytest.mark.parametrize("where", ["x", "y"])
def test_a_pickled_object_is_not_loaded(tmp_path: Path, where: str) -> None:
    trap = tmp_path / "trap"
    objects = np.empty(N, object)
    objects[:] = [Payload(trap)] * N
    error = refusal(tmp_path, **({"x": X, "y": Y} | {where: objects}))
    assert "not a readable .npz archive" in error.message
    assert "allow_pickle=False" in error.message
    assert not trap.exists()
    np.load(tmp_path / "images.npz", allow_pickle=True)[where]  # the trap is a real one
    assert trap.exists()


def test_a_bare_pickle_with_the_suffix_of_an_archive_is_not_loaded(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    (tmp_path / "images.npz").write_bytes(pickle.dumps(Payload(trap)))
    assert "not a readable .npz archive" in refusal(tmp_path).message
    assert not trap.exists()


def test_a_single_array_is_not_an_archive(tmp_path: Path) -> None:
    (tmp_path / "images.npz").write_bytes(npy(X))
    assert "not a readable .npz archive" in refusal(tmp_path).message


@pytest.mark.parametrize("compressed", [False, True])
def test_a_truncated_archive_is_refused_wherever_it_is_cut(tmp_path: Path, compressed: bool) -> None:
    (np.savez_compressed if compressed else np.savez)(tmp_path / "images.npz", x=X, y=Y)
    whole = (tmp_path / "images.npz").read_bytes()
    for kept in [0, 1, 4, *range(30, len(whole), 97), len(whole) - 1]:
        (tmp_path / "images.npz").write_bytes(whole[:kept])
        assert "not a readable .npz archive" in refusal(tmp_path).message


def test_a_damaged_archive_is_never_anything_but_the_images_or_an_error(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "images.npz", x=X % 7, y=Y)
    whole = (tmp_path / "images.npz").read_bytes()
    expected = npz.load(str(tmp_path / "images.npz"), 8, 8)[0].pixels
    refused = 0
    for position in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        (tmp_path / "images.npz").write_bytes(damaged)
        try:
            found = npz.load(str(tmp_path / "images.npz"), 8, 8)[0].pixels
        except DataError:
            refused += 1
        else:
            np.testing.assert_array_equal(found, expected)
    assert refused > len(whole) / 7 * 0.8


@pytest.mark.parametrize("header", [b"(99999999999999, 8, 8, 3)", b"(((((((((((((((((((((((((", b"(-1, 8, 8, 3)"])
def test_a_header_that_lies_is_refused(tmp_path: Path, header: bytes) -> None:
    true = b"(20, 8, 8, 3), }".ljust(len(header) + 3)
    assert true in npy(X)
    write_zip(tmp_path, {"x.npy": npy(X).replace(true, header + b", }"), "y.npy": npy(Y)})
    assert "not a readable .npz archive" in refusal(tmp_path).message


def test_an_encrypted_archive_is_refused(tmp_path: Path) -> None:
    write_zip(tmp_path, {"x.npy": npy(X), "y.npy": npy(Y)})
    data = bytearray((tmp_path / "images.npz").read_bytes())
    for signature, flags in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        position = data.find(signature)
        data[position + flags] |= 1
    (tmp_path / "images.npz").write_bytes(data)
    assert "encrypted" in refusal(tmp_path).message


def test_an_archive_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(npz, "MAX_ARCHIVE_BYTES", 2**20)
    np.savez_compressed(tmp_path / "images.npz", x=np.zeros((N, 300, 300, 3), np.uint8), y=Y)
    assert (tmp_path / "images.npz").stat().st_size < 2**15
    monkeypatch.setattr(np, "load", lambda *_, **__: pytest.fail("unpacked a bomb"))
    assert "unpacks to 0.0 GiB; the limit is 0 GiB" in refusal(tmp_path).message


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path).message
