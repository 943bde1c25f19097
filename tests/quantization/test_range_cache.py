"""Ranges kept: for the same model, images and settings only, and never from a file that is not sound."""

import dataclasses
import importlib.metadata
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.quantization.range_cache import range_key, read_ranges, write_ranges
from edgecnn.quantization.range_methods import Range
from edgecnn.quantization.recipes import Recipe, recipe

PLAIN = recipe("u8s8-perchannel-minmax")
IMAGES = ("a" * 64, "b" * 64)
KEY = range_key("c" * 64, IMAGES, PLAIN)


def key(one: Recipe = PLAIN, *, model: str = "c" * 64, images: tuple[str, ...] = IMAGES) -> str:
    return range_key(model, images, one)


@pytest.mark.parametrize(
    "other",
    [
        key(model="d" * 64),
        key(images=IMAGES[:1]),
        key(images=IMAGES[::-1]),
        key(recipe("u8s8-perchannel-mse")),
        key(recipe("u16s8-perchannel-minmax")),
        key(dataclasses.replace(PLAIN, symmetric=True)),
        key(dataclasses.replace(PLAIN, equalize=True)),
        key(dataclasses.replace(PLAIN, layer_ranges=(("conv", "mse"),))),
    ],
)
def test_the_key_changes_with_what_ranges_depend_on(other: str) -> None:
    assert other != KEY


@pytest.mark.parametrize("tool", ["onnxruntime", "numpy", "edgecnn"])
def test_the_key_changes_with_what_found_them(tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.0.1" if name == tool else real(name))
    assert key() != KEY


@pytest.mark.parametrize(
    "same",
    [
        {"reduced": True},
        {"per_channel": False},
        {"weight": "u8"},
        {"adaptive_rounding": True, "correct_bias": True},
        {"float_layers": ("fc",)},
        {"summary": "in other words"},
    ],
    ids=str,
)
def test_the_key_stays_where_only_weights_differ(same: dict[str, object]) -> None:
    assert key(dataclasses.replace(PLAIN, **same)) == KEY  # type: ignore[arg-type]


ENDS = st.floats(0, 3e38)
RANGES = st.dictionaries(st.text(max_size=8), st.builds(lambda low, high: Range(low=-low, high=high), ENDS, ENDS))


@given(RANGES)
def test_what_was_written_is_read_to_the_bit(ranges: dict[str, Range]) -> None:
    assert read_ranges(write_ranges(KEY, ranges), KEY) == ranges


def test_the_order_of_tensors_does_not_matter() -> None:
    one, other = Range(low=-1, high=2), Range(low=0, high=3)
    assert write_ranges(KEY, {"b": one, "a": other}) == write_ranges(KEY, {"a": other, "b": one})


def test_ranges_of_another_model_are_not_used() -> None:
    assert read_ranges(write_ranges(KEY, {"x": Range(low=0, high=1)}), key(model="d" * 64)) is None


GOOD = {"key": KEY, "ranges": {"x": [-1.0, 1.0]}}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"{",
        b"[1]",
        json.dumps({**GOOD, "mood": "good"}).encode(),
        json.dumps({"ranges": {}}).encode(),
        json.dumps({**GOOD, "ranges": {"x": [1.0]}}).encode(),
        json.dumps({**GOOD, "ranges": {"x": [0.5, 1.0]}}).encode(),
        json.dumps({**GOOD, "ranges": {"x": [1.0, -1.0]}}).encode(),
        json.dumps({**GOOD, "ranges": {"x": [0.0, 1e39]}}).encode(),
        json.dumps({**GOOD, "ranges": {"x": [0.0, float("nan")]}}).encode(),
        json.dumps({**GOOD, "ranges": {"x": [0.0, float("inf")]}}).encode(),
        json.dumps({**GOOD, "ranges": {"x": "wide"}}).encode(),
    ],
)
def test_a_file_that_is_not_sound_is_passed_over(content: bytes) -> None:
    assert read_ranges(content, KEY) is None
    assert read_ranges(json.dumps(GOOD).encode(), KEY) == {"x": Range(low=-1, high=1)}
