"""Stage 1: images to ``model.pt``; interrupted and taken up again, the bytes are the same."""

import os
from pathlib import Path

import pytest

from edgecnn.data import SOURCES
from edgecnn.errors import BundleError, DataError, Interrupted, UsageError
from edgecnn.models import checkpoint
from edgecnn.pipeline.context import Options, Outcome
from edgecnn.pipeline.train import train
from edgecnn.training import TrainingSettings
from tests.bundles import read_manifest, save_npz, snapshot, times

EPOCHS = 3


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return save_npz(tmp_path / "images.npz")


def go(
    folder: Path, images: Path | str, *, epochs: int = EPOCHS, seed: int = 0, force: bool = False, stop_after: int = 99
) -> Outcome:
    return train(
        settings=TrainingSettings(epochs=epochs, seed=seed),
        options=Options(bundle=folder, data=str(images), force=force, progress=StopAfter(stop_after)),
    )


class StopAfter:
    """Presses Ctrl-C when the first steps of an epoch are reported."""

    def __init__(self, epochs: int) -> None:
        self._epochs, self.said = epochs, list[str]()

    def say(self, text: str) -> None:
        self.said.append(text)

    def update(self, task: str, done: int, total: int, detail: str = "") -> None:
        if done > self._epochs:
            raise KeyboardInterrupt


def test_training_writes_a_checkpoint_that_knows_where_it_came_from(tmp_path: Path, images: Path) -> None:
    folder = tmp_path / "bundle"
    outcome = go(folder, images)
    manifest = read_manifest(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "model.pt"]
    assert not outcome.unchanged
    assert manifest.stages["train"].inputs == {"data": manifest.data.sha256 if manifest.data else ""}
    assert manifest.stages["train"].settings["epochs"] == EPOCHS
    assert [row.epoch for row in manifest.training_curve] == [1, 2, 3]
    info, module = checkpoint.load(folder / "model.pt")
    assert info.data == manifest.data
    assert info.curve == manifest.training_curve
    assert manifest.network is not None
    assert manifest.network.name == info.model == "simplecnn"
    assert manifest.network.parameters == sum(parameter.numel() for parameter in module.parameters())
    assert (manifest.network.mean, manifest.network.std) == (info.mean, info.std)
    (artifact,) = outcome.artifacts
    assert artifact.sha256 == snapshot(folder)["model.pt"]
    assert artifact.tools["threads"].isdigit()


def test_the_same_training_is_not_done_twice(tmp_path: Path, images: Path) -> None:
    folder = tmp_path / "bundle"
    go(folder, images)
    before = snapshot(folder), times(folder)
    assert go(folder, images).unchanged
    assert (snapshot(folder), times(folder)) == before


def test_force_trains_again_to_the_same_bytes(tmp_path: Path, images: Path) -> None:
    folder = tmp_path / "bundle"
    first = go(folder, images)
    again = go(folder, images, force=True)
    assert not again.unchanged
    assert again.artifacts == first.artifacts


def test_another_folder_gets_the_same_bytes_and_another_seed_others(tmp_path: Path, images: Path) -> None:
    go(tmp_path / "a", images)
    go(tmp_path / "b", images)
    go(tmp_path / "c", images, seed=1)
    a, b, c = ((tmp_path / name / "model.pt").read_bytes() for name in "abc")
    assert a == b != c


def test_other_settings_train_again_and_strike_what_came_after(bundle_copy: Path, images: Path) -> None:
    assert "bench" in read_manifest(bundle_copy).stages
    outcome = go(bundle_copy, images, epochs=1)
    manifest = read_manifest(bundle_copy)
    assert not outcome.unchanged
    assert set(manifest.stages) == {"train"}
    assert (manifest.validation, manifest.latency, manifest.calibration, manifest.checks) == ((), (), None, ())
    assert sorted(path.name for path in bundle_copy.iterdir()) == ["manifest.json", "model.pt"]


@pytest.mark.parametrize("stop_after", [1, 2])
def test_an_interrupted_training_goes_on_to_the_same_bytes(tmp_path: Path, images: Path, stop_after: int) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    go(whole, images)
    with pytest.raises(Interrupted, match=r"training\.pt keeps the last finished epoch") as caught:
        go(broken, images, stop_after=stop_after)
    assert "the same command again" in caught.value.next_step
    assert caught.value.exit_code == 130
    assert sorted(path.name for path in broken.iterdir()) == ["training.pt"]
    listener = StopAfter(99)
    train(
        settings=TrainingSettings(epochs=EPOCHS),
        options=Options(bundle=broken, data=str(images), progress=listener),
    )
    assert f"going on with training after epoch {stop_after} of {EPOCHS}" in listener.said
    assert (broken / "model.pt").read_bytes() == (whole / "model.pt").read_bytes()
    assert not (broken / "training.pt").exists()


def test_an_interrupt_in_the_first_epoch_leaves_nothing(tmp_path: Path, images: Path) -> None:
    with pytest.raises(Interrupted, match="no epoch was finished"):
        go(tmp_path / "bundle", images, stop_after=0)
    assert not (tmp_path / "bundle").exists()


def test_a_state_of_other_settings_is_not_taken_up(tmp_path: Path, images: Path) -> None:
    folder, whole = tmp_path / "bundle", tmp_path / "whole"
    with pytest.raises(Interrupted):
        go(folder, images, seed=5, stop_after=1)
    go(folder, images)
    go(whole, images)
    assert (folder / "model.pt").read_bytes() == (whole / "model.pt").read_bytes()


def test_a_torn_state_means_starting_over(tmp_path: Path, images: Path) -> None:
    folder, whole = tmp_path / "bundle", tmp_path / "whole"
    with pytest.raises(Interrupted):
        go(folder, images, stop_after=2)
    state = folder / "training.pt"
    state.write_bytes(state.read_bytes()[:-1000])
    go(folder, images)
    go(whole, images)
    assert (folder / "model.pt").read_bytes() == (whole / "model.pt").read_bytes()


def test_the_state_of_a_training_killed_in_its_last_moment_is_removed(tmp_path: Path, images: Path) -> None:
    folder = tmp_path / "bundle"
    go(folder, images)
    state = folder / "training.pt"
    state.write_bytes(b"the last epoch")
    made = (folder / "model.pt").stat().st_mtime_ns
    os.utime(state, ns=(made - 1, made - 1))
    assert go(folder, images).unchanged
    assert not state.exists()


def test_the_state_of_a_later_interrupted_training_is_kept(tmp_path: Path, images: Path) -> None:
    folder = tmp_path / "bundle"
    go(folder, images)
    with pytest.raises(Interrupted):
        go(folder, images, epochs=5, stop_after=2)
    assert go(folder, images).unchanged
    assert (folder / "training.pt").is_file()


def test_a_checkpoint_that_someone_put_there_is_not_overwritten(tmp_path: Path, images: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "model.pt").write_bytes(b"months of work")
    with pytest.raises(BundleError, match=r"model\.pt: is not the checkpoint that the manifest names") as caught:
        go(folder, images)
    assert "edgecnn export" in caught.value.next_step
    assert "--force" in caught.value.next_step
    assert snapshot(folder).keys() == {"model.pt"}
    go(folder, images, force=True)
    assert (folder / "model.pt").read_bytes() != b"months of work"


def test_a_checkpoint_changed_after_training_is_not_overwritten(tmp_path: Path, images: Path) -> None:
    folder = tmp_path / "bundle"
    go(folder, images)
    (folder / "model.pt").write_bytes(b"tampered")
    with pytest.raises(BundleError, match="training would overwrite it"):
        go(folder, images)
    assert (folder / "model.pt").read_bytes() == b"tampered"


def test_what_training_itself_made_in_its_last_moment_may_be_overwritten(tmp_path: Path, images: Path) -> None:
    folder, whole = tmp_path / "bundle", tmp_path / "whole"
    with pytest.raises(Interrupted):
        go(folder, images, stop_after=2)
    (folder / "model.pt").write_bytes(b"renamed before the manifest was")
    go(folder, images)
    go(whole, images)
    assert (folder / "model.pt").read_bytes() == (whole / "model.pt").read_bytes()


@pytest.mark.parametrize("epochs", range(1, 9))
def test_any_number_of_steps_can_be_trained(tmp_path: Path, images: Path, epochs: int) -> None:
    # 60 images are one step an epoch; five steps once divided by zero in the schedule's warm-up
    assert len(go(tmp_path / "bundle", images, epochs=epochs).manifest.training_curve) == epochs


@pytest.mark.parametrize("source", ["digits", "npz"])
def test_the_source_decides_whether_pictures_are_mirrored(tmp_path: Path, images: Path, source: str) -> None:
    outcome = go(tmp_path / "bundle", images if source == "npz" else source, epochs=1)
    assert outcome.manifest.stages["train"].settings["flip"] is SOURCES[source].mirrors
    assert SOURCES["digits"].mirrors is False
    assert SOURCES["npz"].mirrors is True


def test_an_unknown_model_or_source_touches_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown model 'lenet'; known: .*simplecnn"):
        train("lenet", options=Options(bundle=tmp_path / "bundle"))
    with pytest.raises(DataError, match="expected digits, cifar10, an image folder or a"):
        train(options=Options(bundle=tmp_path / "bundle", data=str(tmp_path / "nowhere")))
    assert list(tmp_path.iterdir()) == []
