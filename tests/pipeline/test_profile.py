"""``edgecnn profile``: which layers are timed and which are not. Not how long they take."""

import sys
from pathlib import Path

import numpy as np
import pytest

from edgecnn.errors import ModelError, UsageError
from edgecnn.pipeline.context import Options
from edgecnn.pipeline.profile import parse_memory, profile
from tests.bundles import snapshot
from tests.graphs import make_model, node, small_cnn


def saved(path: Path) -> Path:
    path.write_bytes(small_cnn().SerializeToString())
    return path


def test_every_convolution_is_timed_in_both_forms(tmp_path: Path) -> None:
    found = profile(saved(tmp_path / "net.onnx"), seconds=0.001)
    (row,) = found.timings
    assert found.path == tmp_path / "net.onnx"
    assert (row.layer.name, row.layer.source, row.layer.output) == ("conv", (3, 8, 8), (4, 6, 6))
    assert (row.layer.kernel, row.layer.bias, row.layer.batch) == ((3, 3), True, 1)
    assert row.layer.dense_bytes == 4 * (192 * 144 + 144)
    assert row.dense is not None
    assert row.convolution.median_us > 0
    assert {"torch", "numpy", "python"} <= found.machine.versions.keys()
    assert list(tmp_path.iterdir()) == [tmp_path / "net.onnx"]


def test_a_bundle_is_timed_and_not_changed(finished_bundle: Path) -> None:
    before = snapshot(finished_bundle)
    found = profile(seconds=0.001, max_dense_bytes=10**7, options=Options(bundle=finished_bundle))
    assert [(row.layer.source, row.layer.output) for row in found.timings] == [
        ((3, 32, 32), (6, 28, 28)),
        ((6, 14, 14), (16, 10, 10)),
    ]
    assert [row.dense is None for row in found.timings] == [True, False]
    assert [row.layer.dense_bytes for row in found.timings] == [57_821_568, 7_532_800]
    assert found.timings[0].skipped
    assert found.max_dense_bytes == 10**7
    assert snapshot(finished_bundle) == before


def test_a_network_of_another_shape_of_batch_is_timed_as_it_runs(tmp_path: Path) -> None:
    nodes = [
        node("Reshape", ["x", "patches"], ["cut"]),
        node("Conv", ["cut", "w"], ["y"], pads=[0, 0, 1, 1], group=2),
    ]
    constants = {"patches": np.array([16, 4, 4, 4]), "w": np.zeros((4, 2, 3, 3), np.float32)}
    model = make_model(nodes, constants, inputs={"x": (1, 4, 16, 16)})
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    (row,) = profile(tmp_path / "net.onnx", seconds=0.001).timings
    assert (row.layer.batch, row.layer.source, row.layer.output) == (16, (4, 4, 4), (4, 3, 3))
    assert (row.layer.pads_before, row.layer.pads_after, row.layer.groups) == ((0, 0), (1, 1), 2)
    assert row.layer.bias is False


def test_a_network_without_convolutions_has_nothing_to_time(tmp_path: Path) -> None:
    model = make_model([node("Relu", ["x"], ["y"])], {})
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"net\.onnx: has no convolution to time") as caught:
        profile(tmp_path / "net.onnx")
    assert caught.value.next_step


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_seconds_are_above_zero_and_finite(seconds: float) -> None:
    with pytest.raises(UsageError, match=r"--seconds must be above 0 and finite"):
        profile(seconds=seconds)


def test_without_pytorch_there_is_no_stopwatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "net.onnx")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UsageError, match="times layers with PyTorch, which is not installed here") as caught:
        profile(path)
    assert "edgecnn inspect --dense" in caught.value.next_step


def test_memory_is_given_with_a_unit() -> None:
    assert [parse_memory("--max-memory", text) for text in ("1GiB", "500MB", "7")] == [2**30, 500_000_000, 7]
    with pytest.raises(UsageError, match="--max-memory: expected a size such as 500MB or 1GiB, found 'much'"):
        parse_memory("--max-memory", "much")
