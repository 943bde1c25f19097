"""Weights beside a model: read from its own folder only, written where one file cannot hold them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto

from edgecnn.errors import ModelError
from edgecnn.graph import external_data, onnx_file
from edgecnn.graph.external_data import read_file, read_whole, split_weights
from tests.graphs import Array, copy, evaluate, small_cnn, weights

X: dict[str, Array] = {"x": np.random.default_rng(0).random((2, 3, 8, 8), np.float32)}


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Return a model whose weights are in ``weights.bin`` beside it."""
    path = tmp_path / "net.onnx"
    onnx.save(copy(small_cnn()), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path


def change(path: Path, key: str, value: str) -> None:
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == key:
                entry.value = value
    path.write_bytes(model.SerializeToString())


def test_weights_beside_a_model_are_read_into_it(outside: Path) -> None:
    model = read_file(outside)
    assert not any(tensor.external_data for tensor in model.graph.initializer)
    found, expected = weights(model), weights(small_cnn())
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert onnx_file.parse(read_whole(outside), "net.onnx").graph == model.graph


def test_a_file_that_holds_all_is_returned_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(small_cnn().SerializeToString())
    assert read_whole(path) == path.read_bytes()


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/passwd", "", "folder/../../weights.bin"])
def test_weights_outside_the_folder_are_not_read(outside: Path, location: str) -> None:
    (outside.parent.parent / "weights.bin").write_bytes(bytes(10_000))
    change(outside, "location", location)
    with pytest.raises(ModelError, match="point outside its folder") as caught:
        read_file(outside)
    assert "nothing was read" in caught.value.message
    assert "relative paths" in caught.value.next_step


def test_a_link_out_of_the_folder_is_not_followed(outside: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    secret = tmp_path_factory.mktemp("elsewhere") / "weights.bin"
    (outside.parent / "weights.bin").rename(secret)
    (outside.parent / "weights.bin").symlink_to(secret)
    with pytest.raises(ModelError, match="point outside its folder"):
        read_file(outside)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("location", "gone.bin", "no such file"),
        ("location", ".", "no such file"),
        ("offset", "999999", "found 892 bytes"),
        ("offset", "-4", "found 892 bytes"),
        ("length", "99999999999999", "should be bytes"),
        ("length", "many", "should be bytes"),
    ],
)
def test_weights_that_are_not_there_are_told(outside: Path, key: str, value: str, words: str) -> None:
    change(outside, key, value)
    with pytest.raises(ModelError, match=words):
        read_file(outside)


def test_what_is_larger_than_one_file_can_hold_is_not_read(outside: Path) -> None:
    with (outside.parent / "weights.bin").open("r+b") as file:
        file.truncate(5 * 2**30)
    change(outside, "length", str(3 * 2**30))
    with pytest.raises(ModelError, match="larger than 2147483648 bytes"):
        read_file(outside)


def test_a_small_model_keeps_its_weights() -> None:
    model = small_cnn()
    before = model.SerializeToString()
    assert split_weights(model, "net.onnx.data") is None
    assert model.SerializeToString() == before


@pytest.fixture
def split(monkeypatch: pytest.MonkeyPatch) -> Callable[[ModelProto], bytes]:
    """Return a splitter for which a kilobyte is too much."""
    monkeypatch.setattr(external_data, "MAX_SINGLE_FILE_BYTES", 800)
    monkeypatch.setattr(external_data, "LEAST_EXTERNAL_BYTES", 100)

    def run(model: ModelProto) -> bytes:
        content = split_weights(model, "net.onnx.data")
        assert content is not None
        return content

    return run


def test_weights_that_were_moved_out_are_found_again(split: Callable[[ModelProto], bytes], tmp_path: Path) -> None:
    model = small_cnn()
    content = split(model)
    outside = {tensor.name for tensor in model.graph.initializer if tensor.external_data}
    assert outside == {"conv_w", "fc_w"}
    offsets = [
        int(entry.value)
        for tensor in model.graph.initializer
        for entry in tensor.external_data
        if entry.key == "offset"
    ]
    assert all(offset % external_data.ALIGNMENT_BYTES == 0 for offset in offsets)
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "net.onnx.data").write_bytes(content)
    found = weights(read_file(tmp_path / "net.onnx"))
    assert all(np.array_equal(found[name], values) for name, values in weights(small_cnn()).items())
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, X)[0], evaluate(small_cnn(), X)[0], rtol=1e-5)


def test_the_same_model_is_split_into_the_same_bytes(split: Callable[[ModelProto], bytes]) -> None:
    one, other = small_cnn(), small_cnn()
    assert split(one) == split(other)
    assert one.SerializeToString(deterministic=True) == other.SerializeToString(deterministic=True)
