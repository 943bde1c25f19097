"""Int8 for ncnn: thresholds against a plain reading of the method, files read back byte by byte."""

import math
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from scripts.peers import ncnn_int8
from scripts.peers.ncnn_int8 import BINS, INT8_TAG, LEVELS, best_bin, quantize


def divergence(histogram: NDArray[np.float64], end: int) -> float:
    """The divergence of one threshold, bin by bin: each bin is cut into ``LEVELS`` pieces, so that levels are whole."""
    share = histogram / histogram.sum()
    pieces = np.repeat(share[:end] / LEVELS, LEVELS)  # end x LEVELS pieces: LEVELS levels of end pieces each
    levels = pieces.reshape(LEVELS, end).mean(1)
    spread = np.repeat(levels, end).reshape(end, LEVELS).sum(1) + 1e-4
    clipped = share[:end].copy()
    clipped[end - 1] += share[end:].sum()
    pairs = zip(clipped.tolist(), spread.tolist(), strict=True)
    return math.fsum((p + 1e-4) * math.log((p + 1e-4) / q) for p, q in pairs)


@settings(max_examples=5)
@given(seed=st.integers(0, 2**32 - 1), tail=st.floats(0.5, 6))
def test_the_threshold_is_the_one_of_the_least_divergence(seed: int, tail: float) -> None:
    random = np.random.default_rng(seed)
    histogram = np.histogram(np.abs(random.standard_normal(5000)) ** tail, BINS)[0].astype(np.float64)
    found = best_bin(histogram)
    others = [LEVELS, BINS - 1, *random.integers(LEVELS, BINS, 30)]
    least = divergence(histogram, found)
    assert all(least <= divergence(histogram, int(end)) + 1e-9 for end in others)


def write_net(folder: Path, *, width: int = 1) -> Path:
    """Write a net of a convolution and, behind it, another; return its ``.param``."""
    size = 2 * 1 * width * width
    lines = [
        "7767517",
        "3 3",
        "Input in 0 1 in0",
        f"Convolution first 1 1 in0 mid 0=2 1={width} 5=1 6={size}",
        f"Convolution second 1 1 mid out 0=1 1={width} 5=0 6={size}",
    ]
    weights = np.linspace(-1, 0.5, size, dtype=np.float32)
    data = struct.pack("<I", 0) + weights.tobytes() + np.array([0.25, -0.25], np.float32).tobytes()
    data += struct.pack("<I", 0) + weights[::-1].tobytes()
    param = folder / "float.param"
    param.write_text("\n".join(lines) + "\n")
    param.with_suffix(".bin").write_bytes(data)
    return param


@pytest.fixture
def scales(monkeypatch: pytest.MonkeyPatch) -> None:
    """ncnn is not installed here: the scales of the inputs are given."""
    monkeypatch.setattr(ncnn_int8, "_input_scales", lambda *_: {"in0": 10.0, "mid": 20.0})


@pytest.mark.usefixtures("scales")
def test_the_files_hold_tag_integers_bias_and_scales_in_ncnns_order(tmp_path: Path) -> None:
    quantize(write_net(tmp_path), tmp_path / "int8.param", np.zeros((1, 1, 2, 2), np.float32))
    data = (tmp_path / "int8.bin").read_bytes()
    expected = struct.pack("<I2b2x", INT8_TAG, -127, 127)  # each row's largest is 127; padded to four bytes
    expected += np.array([0.25, -0.25, 127 / 1, 127 / 0.5, 10, 20], np.float32).tobytes()
    expected += struct.pack("<I2b2x", INT8_TAG, 64, -127)  # 0.5 of 1 is 63.5, rounded away from zero
    expected += np.array([127 / 1, 20], np.float32).tobytes()
    assert data == expected
    text = (tmp_path / "int8.param").read_text().splitlines()
    assert text[3].endswith("8=102")  # its output goes on as int8
    assert text[4].endswith("8=2")


@pytest.mark.usefixtures("scales")
def test_a_3x3_convolution_of_stride_1_has_six_bits(tmp_path: Path) -> None:
    quantize(write_net(tmp_path, width=3), tmp_path / "int8.param", np.zeros((1, 1, 8, 8), np.float32))
    integers = np.frombuffer((tmp_path / "int8.bin").read_bytes(), np.int8, 18, 4)
    assert np.abs(integers).max() == 31


@pytest.mark.usefixtures("scales")
def test_weights_that_nobody_asks_for_are_an_error(tmp_path: Path) -> None:
    param = write_net(tmp_path)
    param.with_suffix(".bin").write_bytes(param.with_suffix(".bin").read_bytes() + b"more")
    with pytest.raises(ValueError, match="weights of an unknown kind"):
        quantize(param, tmp_path / "int8.param", np.zeros((1, 1, 2, 2), np.float32))
