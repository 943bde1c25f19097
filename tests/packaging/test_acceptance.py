"""Acceptance vectors: plain bytes that say what a model must answer."""

import json

import numpy as np
import pytest

from edgecnn.errors import ParityError
from edgecnn.packaging.acceptance import describe, largest_difference, make_vectors
from edgecnn.packaging.way import Way
from edgecnn.targets import reference_session
from tests.graphs import small_cnn
from tests.packages import bytes_cnn

DATA = small_cnn().SerializeToString()
IMAGES = np.random.default_rng(0).random((4, 3, 8, 8), np.float32)
SESSION = reference_session(DATA, model_name="float.onnx")
WAY = Way(provider="P", runtime="1.2.3", requires=("onnxruntime==1.2.3",))
VECTORS = make_vectors("float", SESSION, IMAGES, relative_tolerance=1e-3)


def test_the_files_hold_the_values_in_order_and_nothing_else() -> None:
    files = VECTORS.files()
    assert sorted(files) == ["float-images.bin", "float-logits.bin"]
    np.testing.assert_array_equal(np.frombuffer(files["float-images.bin"], "<f4").reshape(IMAGES.shape), IMAGES)
    np.testing.assert_array_equal(
        np.frombuffer(files["float-logits.bin"], "<f4").reshape(4, 3),
        np.concatenate([SESSION.run(x[None]) for x in IMAGES]),
    )


def test_the_tolerance_is_a_fraction_of_the_largest_logit() -> None:
    assert VECTORS.tolerance == pytest.approx(1e-3 * np.abs(VECTORS.logits).max(), rel=1e-6)
    assert VECTORS.batch == 1


def test_a_fixed_batch_is_kept() -> None:
    session = reference_session(bytes_cnn().SerializeToString(), model_name="x")
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    found = make_vectors("int8", session, images, relative_tolerance=1e-2)
    assert found.batch == 2
    assert found.logits.shape == (4, 5)
    assert found.files()["int8-images.bin"] == images.tobytes()


def test_the_json_and_the_table_say_the_same() -> None:
    files = describe({"float.onnx": (DATA, VECTORS)}, target="cpu", way=WAY, labels=("cat", "dog"))
    told = json.loads(files["acceptance.json"])
    assert (told["format"], told["target"], told["provider"]) == ("edgecnn-acceptance", "cpu", "P")
    assert told["labels"] == ["cat", "dog"]
    (entry,) = told["models"]
    assert (entry["input_shape"], entry["output_shape"], entry["batch"]) == ([4, 3, 8, 8], [4, 3], 1)
    cells = files["acceptance.tsv"].decode().splitlines()[0].split("\t")
    assert entry.pop("provider") == "P", "programs that read the table run on the CPU"
    written = [",".join(map(str, v)) if isinstance(v, list) else str(v) for v in entry.values()]
    assert cells == written
    assert len(cells) == 11


def test_a_name_cannot_break_the_table() -> None:
    odd = make_vectors("a\tb\nc", SESSION, IMAGES, relative_tolerance=1)
    table = describe({"x\ty.onnx": (DATA, odd)}, target="t", way=WAY, labels=())["acceptance.tsv"]
    assert table.count(b"\n") == 1
    assert table.count(b"\t") == 10


def test_the_largest_difference_is_found() -> None:
    assert largest_difference(SESSION, VECTORS, what="x") == 0


@pytest.mark.parametrize("seed", [1, 2])
def test_another_model_is_refused_with_how_far_it_is(seed: int) -> None:
    other = reference_session(small_cnn(seed=seed).SerializeToString(), model_name="x")
    with pytest.raises(ParityError, match=r"float\.ort answers otherwise than float\.onnx .* allowed .*Nothing was"):
        largest_difference(other, VECTORS, what="float.ort")


def test_another_number_of_classes_is_refused() -> None:
    other = reference_session(small_cnn(classes=4).SerializeToString(), model_name="x")
    with pytest.raises(ParityError, match="differs by inf"):
        largest_difference(other, VECTORS, what="float.ort")
