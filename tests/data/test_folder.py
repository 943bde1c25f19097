import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgecnn.data import folder
from edgecnn.data.images import Images
from edgecnn.errors import DataError

RED, GREEN, BLUE = (250, 5, 5), (5, 250, 5), (5, 5, 250)


def save(path: Path, color: Any = RED, *, mode: str = "RGB", size: tuple[int, int] = (8, 8)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder of two classes with one image each in both splits."""
    for split in ("train", "test"):
        save(tmp_path / split / "ant" / "1.png", RED)
        save(tmp_path / split / "bee" / "1.png", GREEN)
    return tmp_path


def load(root: Path) -> tuple[Images, Images]:
    return folder.load(str(root), 8, 8)


def refusal(root: Path) -> DataError:
    with pytest.raises(DataError) as raised:
        load(root)
    assert raised.value.exit_code == 3
    assert raised.value.next_step
    return raised.value


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_that_claims(width: int, height: int, *, before: bytes = b"", pixels: bytes = zlib.compress(bytes(72))) -> bytes:
    """A tiny PNG file whose header promises a grey picture of any size."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + before + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_classes_are_the_sorted_folder_names_and_both_splits_are_read(root: Path) -> None:
    save(root / "train" / "ant" / "2.png", BLUE)
    train, test = load(root)
    assert train.classes == test.classes == ("ant", "bee")
    assert (train.split, test.split) == ("train", "test")
    assert train.labels.tolist() == [0, 0, 1]
    assert test.labels.tolist() == [0, 1]
    assert [tuple(picture[0, 0].tolist()) for picture in train.pixels] == [RED, BLUE, GREEN]
    assert train.pixels.shape == (3, 8, 8, 3)


def test_a_class_without_test_images_keeps_the_labels_of_train(root: Path) -> None:
    save(root / "train" / "aaa" / "1.png", BLUE)
    train, test = load(root)
    assert train.classes == ("aaa", "ant", "bee")
    assert test.labels.tolist() == [1, 2]


def test_a_class_in_test_that_train_lacks_is_refused_and_named(root: Path) -> None:
    save(root / "test" / "wasp" / "1.png")
    save(root / "test" / "yak" / "1.png")
    error = refusal(root)
    assert f"{root}/test: has classes that {root}/train lacks: wasp, yak" in error.message
    assert "take them out of test" in error.next_step


@pytest.mark.parametrize("missing", ["train", "test"])
def test_a_missing_split_is_named_with_the_layout(root: Path, missing: str) -> None:
    (root / missing).rename(root / "elsewhere")
    error = refusal(root)
    assert f"{root / missing}: expected a folder of classes, found none" in error.message
    assert folder.LAYOUT in error.next_step


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_without_images_is_refused(root: Path, split: str) -> None:
    for path in (root / split).rglob("*.png"):
        path.rename(path.with_suffix(".txt"))
    error = refusal(root)
    assert f"{root / split}: expected JPEG or PNG images, found none" in error.message
    assert folder.LAYOUT in error.next_step


def test_other_suffixes_hidden_files_and_hidden_folders_are_passed_over(root: Path) -> None:
    for name in ("notes.txt", "Thumbs.db", "2.gif", "2.png.bak", ".hidden.png", "png"):
        (root / "train" / "ant" / name).write_bytes(b"no image")
    (root / "train" / "README.md").write_bytes(b"no class")
    (root / "train" / ".cache").mkdir()
    train, _ = load(root)
    assert (train.classes, len(train)) == (("ant", "bee"), 2)
    assert len(folder.files(str(root))) == 4


@pytest.mark.parametrize("name", ["2.png", "2.PNG", "2.jpg", "2.jpeg", "2.JPG"])
def test_jpeg_and_png_are_read_whatever_the_case_of_the_suffix(root: Path, name: str) -> None:
    save(root / "train" / "ant" / name, BLUE)
    train, _ = load(root)
    assert np.abs(train.pixels[1].astype(int) - BLUE).max() <= 3  # JPEG is lossy


def test_what_a_file_is_counts_and_not_its_suffix(root: Path) -> None:
    save(root / "train" / "ant" / "2.png", BLUE).rename(root / "train" / "ant" / "2.jpg")
    np.testing.assert_array_equal(load(root)[0].pixels[1], np.full((8, 8, 3), BLUE))


@pytest.mark.parametrize(
    ("mode", "color", "expected"),
    [
        ("L", 120, (120, 120, 120)),
        ("LA", (120, 7), (120, 120, 120)),
        ("RGBA", (10, 20, 30, 7), (10, 20, 30)),
        ("1", 1, (255, 255, 255)),
        ("I;16", 0x7812, (0x78, 0x78, 0x78)),
    ],
)
def test_every_kind_of_png_becomes_rgb(root: Path, mode: str, color: Any, expected: tuple[int, ...]) -> None:
    save(root / "train" / "ant" / "2.png", color, mode=mode)
    np.testing.assert_array_equal(load(root)[0].pixels[1], np.full((8, 8, 3), expected))


def test_a_palette_with_transparency_is_looked_up_without_a_warning(root: Path) -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, *BLUE])
    image.save(root / "train" / "ant" / "2.png", transparency=b"\x00\x80")
    np.testing.assert_array_equal(load(root)[0].pixels[1], np.full((8, 8, 3), BLUE))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_cmyk_jpegs_become_rgb(root: Path, mode: str) -> None:
    save(root / "train" / "ant" / "2.jpg", 0 if mode == "L" else (0, 0, 0, 255), mode=mode)
    assert load(root)[0].pixels[1].max() <= 3


def test_pictures_of_any_size_are_resized(root: Path) -> None:
    save(root / "train" / "ant" / "2.png", BLUE, size=(31, 17))
    np.testing.assert_array_equal(load(root)[0].pixels[1], np.full((8, 8, 3), BLUE))


@pytest.mark.parametrize(
    "data", [b"", b"\x89PNG\r\n\x1a\n", b"no image at all", b"\xff\xd8\xff", b"GIF89a" + bytes(99), b"BM" + bytes(99)]
)
def test_a_file_that_is_no_image_is_refused_and_named(root: Path, data: bytes) -> None:
    path = root / "test" / "bee" / "broken.png"
    path.write_bytes(data)
    error = refusal(root)
    assert f"{path}: not a readable JPEG or PNG image" in error.message
    assert "remove it" in error.next_step


def test_another_format_that_pillow_knows_is_refused(root: Path) -> None:
    path = root / "train" / "ant" / "2.png"
    Image.new("RGB", (8, 8)).save(path, "TIFF")
    assert f"{path}: not a readable JPEG or PNG image" in refusal(root).message


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_truncated_image_is_refused_wherever_it_is_cut(root: Path, suffix: str) -> None:
    path = root / "train" / "ant" / f"2{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(noise).save(path)
    whole = path.read_bytes()
    load(root)
    for kept in range(0, len(whole) - 60, 31):
        path.write_bytes(whole[:kept])
        assert f"{path}: not a readable JPEG or PNG image" in refusal(root).message


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_damaged_image_is_read_or_refused_but_never_a_traceback(root: Path, suffix: str) -> None:
    path = root / "train" / "ant" / f"2{suffix}"
    save(path, BLUE)
    whole = path.read_bytes()
    refusals = []
    for position in range(0, len(whole), 1 if suffix == ".png" else 3):
        damaged = bytearray(whole)
        damaged[position] ^= 0x55
        path.write_bytes(damaged)
        try:
            load(root)
        except DataError as error:
            refusals.append(error.message)
    assert len(refusals) > 20
    assert all(str(path) in message for message in refusals)


@pytest.mark.parametrize("size", [(8000, 7000), (10_000, 10_000), (60_000, 60_000)])
def test_a_decompression_bomb_is_refused_by_its_header(root: Path, size: tuple[int, int]) -> None:
    path = root / "train" / "ant" / "bomb.png"
    path.write_bytes(png_that_claims(*size))
    error = refusal(root)
    assert str(path) in error.message
    assert "pixels" in error.message
    assert "limit" in error.message


def test_a_text_that_unpacks_to_too_much_is_refused(root: Path) -> None:
    path = root / "train" / "ant" / "bomb.png"
    path.write_bytes(png_that_claims(8, 8, before=chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(5_000_000)))))
    error = refusal(root)
    assert str(path) in error.message
    assert "too large" in error.message


def test_a_chunk_that_is_none_is_refused(root: Path) -> None:
    path = root / "train" / "ant" / "odd.png"
    path.write_bytes(png_that_claims(8, 8))
    load(root)
    path.write_bytes(png_that_claims(8, 8, pixels=b"\x78").replace(b"IEND", b"\xd6{iB"))
    error = refusal(root)
    assert f"{path}: not a readable JPEG or PNG image" in error.message
    assert isinstance(error.__cause__, SyntaxError)  # Pillow's word for it


def test_a_picture_without_pixels_is_refused(root: Path) -> None:
    path = root / "train" / "ant" / "empty.png"
    path.write_bytes(png_that_claims(0, 8))
    assert str(path) in refusal(root).message


def test_a_set_too_large_for_memory_is_refused_before_it_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "MAX_SET_BYTES", 2 * 8 * 8 * 3 - 1)
    monkeypatch.setattr(folder, "_decode", lambda *_: pytest.fail("decoded"))
    error = refusal(root)
    assert f"{root / 'train'}: 2 images at 8x8 need" in error.message
    assert error.next_step == "give fewer images"


@pytest.mark.parametrize("name", [b"caf\xe9", b"a\nb", b"\x1b[31mred"])
def test_a_class_name_that_cannot_be_printed_is_refused(root: Path, name: bytes) -> None:
    save(root / "train" / os.fsdecode(name) / "1.png")
    error = refusal(root)
    assert error.message.isprintable()
    assert f"found {os.fsdecode(name)!a}" in error.message
    assert error.next_step == "rename that folder"


@pytest.mark.parametrize("name", ["Käfer", "虫", "two words", "O'Hara & co."])
def test_a_class_may_have_any_name_that_can_be_printed(root: Path, name: str) -> None:
    save(root / "train" / name / "1.png")
    assert name in load(root)[0].classes


def test_files_lists_the_images_of_both_splits_sorted(root: Path) -> None:
    save(root / "train" / "ant" / "0.jpg")
    names = [path.relative_to(root).as_posix() for path in folder.files(str(root))]
    assert names == ["test/ant/1.png", "test/bee/1.png", "train/ant/0.jpg", "train/ant/1.png", "train/bee/1.png"]
