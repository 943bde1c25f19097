from pathlib import Path

import pytest

from edgecnn.errors import InputError, UsageError
from edgecnn.graph.deployed import Preprocessing
from edgecnn.pipeline.export_settings import (
    ExportSettings,
    parse_channels,
    parse_image_size,
    parse_layout,
    parse_triple,
    parse_type,
    read_labels,
)


@pytest.mark.parametrize(
    ("text", "size"), [("224", (224, 224)), ("480x640", (480, 640)), ("32X48", (32, 48)), (None, None)]
)
def test_a_size_is_height_by_width(text: str | None, size: tuple[int, int] | None) -> None:
    assert parse_image_size("--resize", text) == size


@pytest.mark.parametrize("text", ["", "0", "-3", "3x", "1x2x3", "ax3", "9999x9999", "3.5", "²"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--resize: expected HEIGHTxWIDTH"):
        parse_image_size("--resize", text)


@pytest.mark.parametrize(
    ("text", "values"),
    [("0.5", (0.5, 0.5, 0.5)), ("1,2,-3", (1.0, 2.0, -3.0)), (" 1 , 2 , 3 ", (1.0, 2.0, 3.0)), (None, None)],
)
def test_one_or_three_numbers_are_a_triple(text: str | None, values: tuple[float, ...] | None) -> None:
    assert parse_triple("--mean", text) == values


@pytest.mark.parametrize("text", ["", "1,2", "1,2,3,4", "a", "nan", "inf,1,1"])
def test_what_is_no_triple_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--mean: expected one or three numbers"):
        parse_triple("--mean", text)


def test_words_are_those_of_the_tables() -> None:
    assert (parse_type("uint8"), parse_layout("nhwc"), parse_channels("bgr"), parse_channels(None)) == (
        "uint8",
        "nhwc",
        "bgr",
        None,
    )
    for parse in (parse_type, parse_layout, parse_channels):
        with pytest.raises(UsageError, match=r"expected .* or .*, found 'int4'"):
            parse("int4")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"batch": 0}, "--batch must be at least 1"),
        ({"opset": 5}, "--opset must lie in"),
        ({"std": (1.0, 0.0, 1.0)}, "--std"),
    ],
)
def test_settings_that_cannot_be_are_refused_as_they_are_made(settings: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        ExportSettings(**settings)  # type: ignore[arg-type]


def test_what_was_not_said_comes_from_the_checkpoint() -> None:
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    assert ExportSettings().preprocessing(mean, std) == Preprocessing(mean=mean, std=std)
    said = ExportSettings(mean=(0.0, 0.0, 0.0), std=(2.0, 2.0, 2.0), scale=1.0, channels="bgr", resize=(8, 9))
    assert said.preprocessing(mean, std) == Preprocessing(
        mean=(0.0, 0.0, 0.0), std=(2.0, 2.0, 2.0), scale=1.0, channels="bgr", resize=(8, 9)
    )


def test_only_what_was_said_is_recorded() -> None:
    plain = {"batch": None, "input_type": "float32", "input_layout": "nchw"}
    assert ExportSettings().recorded() == plain
    assert ExportSettings(resize=(8, 9), opset=19).recorded() == plain | {"resize": [8, 9], "opset": 19}


def test_labels_are_the_lines_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\n\n dog \n")
    assert read_labels(tmp_path / "labels.txt") == ("cat", "dog")
    assert read_labels(None) is None


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe"])
def test_a_file_without_names_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes(content)
    with pytest.raises(InputError, match=r"labels\.txt"):
        read_labels(tmp_path / "labels.txt")
    with pytest.raises(InputError, match=r"missing\.txt"):
        read_labels(tmp_path / "missing.txt")
