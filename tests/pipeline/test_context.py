"""What the stages share: which work is done, whose bundle it is, which images it takes."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn import data as data_room
from edgecnn.bundle import Bundle, Manifest
from edgecnn.bundle.manifest import Artifact
from edgecnn.data import Dataset
from edgecnn.errors import BundleError, DataError, ModelError
from edgecnn.pipeline.context import (
    Options,
    Work,
    choose_dataset,
    describe_artifact,
    image_size,
    input_size,
    working_on,
)
from tests.bundles import fast_model, read_manifest, save_npz

H1, H2 = "1" * 64, "2" * 64


def load(path: Path) -> Dataset:
    return data_room.load(str(path), height=32, width=32)


def begin(folder: Path) -> Bundle:
    return Bundle.open_or_create(folder)


def work(bundle: Bundle, *, inputs: dict[str, str] | None = None, batch: int = 1) -> Work:
    return Work(bundle=bundle, stage="quantize", inputs=inputs or {"float.onnx": H1}, settings={"batch": batch})


def finish(bundle: Bundle, data: bytes = b"int8") -> Artifact:
    artifact = describe_artifact("quantize", "int8.bin", data)
    work(bundle).finish([(artifact, data)])
    return artifact


def test_finished_work_is_done(tmp_path: Path) -> None:
    bundle = begin(tmp_path)
    assert not work(bundle).is_done()
    finish(bundle)
    assert work(bundle).is_done()
    assert work(Bundle.open(tmp_path)).is_done()


@pytest.mark.parametrize(("inputs", "batch"), [({"float.onnx": H2}, 1), ({"float.onnx": H1, "data": H2}, 1), (None, 2)])
def test_work_with_other_inputs_or_settings_is_not_done(
    tmp_path: Path, inputs: dict[str, str] | None, batch: int
) -> None:
    bundle = begin(tmp_path)
    finish(bundle)
    assert not work(bundle, inputs=inputs, batch=batch).is_done()


def test_work_whose_file_was_changed_or_removed_is_not_done(tmp_path: Path) -> None:
    bundle = begin(tmp_path)
    finish(bundle)
    (tmp_path / "int8.bin").write_bytes(b"int7")
    assert not work(bundle).is_done()
    (tmp_path / "int8.bin").unlink()
    assert not work(bundle).is_done()


def test_the_key_names_the_work_whatever_the_order(tmp_path: Path) -> None:
    bundle = begin(tmp_path)
    one = Work(bundle=bundle, stage="train", inputs={"a": H1, "b": H2}, settings={"x": 1, "y": 2})
    other = Work(bundle=bundle, stage="train", inputs={"b": H2, "a": H1}, settings={"y": 2, "x": 1})
    assert one.key == other.key
    changed = [
        Work(bundle=bundle, stage="export", inputs=one.inputs, settings=one.settings),
        Work(bundle=bundle, stage="train", inputs={"a": H1}, settings=one.settings),
        Work(bundle=bundle, stage="train", inputs=one.inputs, settings={"x": 1, "y": 3}),
    ]
    assert len({one.key, *(item.key for item in changed)}) == 4


def test_finishing_writes_the_file_and_the_record(tmp_path: Path) -> None:
    bundle = begin(tmp_path)
    data = b"the model"
    artifact = describe_artifact("quantize", "int8.bin", data, parent_sha256=H1, tools={"onnx": "1"})
    outcome = work(bundle).finish([(artifact, data)], {"checks": ()})
    assert (tmp_path / "int8.bin").read_bytes() == data
    record = read_manifest(tmp_path).stages["quantize"]
    assert (record.inputs, record.settings) == ({"float.onnx": H1}, {"batch": 1})
    assert record.outputs == {"int8.bin": artifact.sha256}
    assert record.seconds >= 0
    assert record.finished_at.utcoffset() is not None
    assert (outcome.stage, outcome.bundle, outcome.unchanged) == ("quantize", tmp_path, False)
    assert outcome.artifacts == (artifact,)
    assert outcome.manifest == read_manifest(tmp_path)


def test_work_done_before_has_the_same_artifacts_and_says_unchanged(tmp_path: Path) -> None:
    bundle = begin(tmp_path)
    artifact = finish(bundle)
    outcome = work(bundle).unchanged()
    assert outcome.unchanged
    assert outcome.artifacts == (artifact,)


def test_only_an_onnx_file_has_an_input_and_an_output() -> None:
    model = describe_artifact("quantize", "int8.onnx", fast_model())
    assert model.input is not None
    assert model.output is not None
    assert (model.input.name, model.input.dtype, model.input.shape) == ("input", "float32", ("batch", 3, 32, 32))
    assert (model.output.name, model.output.shape) == ("logits", ("batch", 10))
    other = describe_artifact("train", "model.pt", b"weights")
    assert (other.input, other.output, other.size_bytes) == (None, None, 7)


def test_an_onnx_file_that_cannot_be_opened_is_not_described() -> None:
    with pytest.raises(ModelError, match=r"int8\.onnx: ONNX Runtime cannot load it"):
        describe_artifact("quantize", "int8.onnx", b"not a model")


def test_a_missing_bundle_is_not_worked_on(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="expected a bundle") as caught, working_on(tmp_path / "none"):
        pass
    assert "edgecnn run --bundle" in caught.value.next_step
    assert not (tmp_path / "none").exists()


def test_a_bundle_at_work_is_not_entered_twice(tmp_path: Path) -> None:
    finish(begin(tmp_path))
    with working_on(tmp_path):
        with pytest.raises(BundleError, match="another edgecnn process is at work") as caught, working_on(tmp_path):
            pytest.fail("entered")
        assert str(tmp_path) in caught.value.message
        assert "--bundle" in caught.value.next_step
    with working_on(tmp_path) as bundle:
        assert bundle.manifest.artifact("int8.bin")


def test_a_folder_made_for_work_that_failed_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "artifacts" / "new"
    with contextlib.suppress(DataError), working_on(folder, create=True):
        assert folder.is_dir()
        raise DataError("no", next_step="yes")
    assert not folder.parent.exists(), "and so is the folder around it, which was made on the way"


def test_a_folder_that_was_there_or_holds_something_is_kept(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    for folder in (old, new):
        with contextlib.suppress(DataError), working_on(folder, create=True):
            if folder == new:
                (folder / "training.pt").write_bytes(b"half")
            raise DataError("no", next_step="yes")
    assert old.is_dir()
    assert (new / "training.pt").read_bytes() == b"half"


def test_images_that_are_named_win_over_those_of_the_bundle(tmp_path: Path) -> None:
    ours, theirs = load(save_npz(tmp_path / "ours.npz", seed=1)), load(save_npz(tmp_path / "theirs.npz", seed=2))
    manifest = Manifest(edgecnn_version="1", data=data_room.record(ours))
    assert choose_dataset(Options(), manifest, 32, 32).sha256 == ours.sha256
    named = choose_dataset(Options(data=str(tmp_path / "theirs.npz")), manifest, 32, 32)
    assert named.sha256 == theirs.sha256 != ours.sha256


def test_the_images_of_a_bundle_are_found_by_content_after_the_file_is_gone(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "images.npz", seed=3)
    dataset = load(path)
    path.unlink()
    manifest = Manifest(edgecnn_version="1", data=data_room.record(dataset))
    assert choose_dataset(Options(), manifest, 32, 32).sha256 == dataset.sha256


def test_no_images_anywhere_is_an_error_that_says_how_to_give_them() -> None:
    with pytest.raises(DataError, match="names no images") as caught:
        choose_dataset(Options(), Manifest(edgecnn_version="1"), 32, 32)
    assert "--data" in caught.value.next_step


def test_a_bundle_without_the_model_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"has no float\.onnx yet") as caught:
        input_size(begin(tmp_path), "float.onnx")
    assert caught.value.next_step == "edgecnn export model.pt"


def test_the_input_size_of_a_model_is_that_in_the_manifest(finished_bundle: Path) -> None:
    assert input_size(Bundle.open(finished_bundle), "float.onnx") == (32, 32)


sizes = st.integers(4, 4096)


@given(batch=st.one_of(st.just("batch"), st.integers(1, 64)), height=sizes, width=sizes)
def test_the_size_is_read_from_both_layouts(batch: int | str, height: int, width: int) -> None:
    assert image_size((batch, 3, height, width)) == (height, width)
    assert image_size((batch, height, width, 3)) == (height, width)


@pytest.mark.parametrize(
    "shape", [(1, 3, "h", "w"), ("n", 32, 32), (1, 1, 28, 28), (1, 3, 32, "w"), (), (3, 32, 32), (1, 3, 32, 32, 32)]
)
def test_what_is_not_an_rgb_image_of_fixed_size_is_refused(shape: tuple[int | str, ...]) -> None:
    with pytest.raises(ModelError, match=r"expected \[N, 3, H, W\] or \[N, H, W, 3\]") as caught:
        image_size(shape)
    assert str(list(shape)) in caught.value.message
    assert caught.value.next_step
