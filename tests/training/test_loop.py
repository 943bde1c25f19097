import io
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from torch import nn

from edgecnn import data
from edgecnn.data import Dataset, Images
from edgecnn.data.cache import dataset_sha256
from edgecnn.errors import StageError
from edgecnn.models import MODELS, checkpoint, model_spec
from edgecnn.models.checkpoint import CheckpointInfo
from edgecnn.training.loop import channel_statistics, train_network
from edgecnn.training.settings import TrainingSettings
from tests.support import make_images

SETTINGS = TrainingSettings(epochs=3, batch_size=8)


class Listener:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.updates: list[tuple[str, int, int, str]] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def update(self, task: str, done: int, total: int, detail: str = "") -> None:
        self.updates.append((task, done, total, detail))


def make_dataset(n: int = 24, size: int = 32) -> Dataset:
    train, test = make_images(n, size=size), make_images(6, seed=1, split="test", size=size)
    return Dataset(
        source="npz", name="a.npz", sha256=dataset_sha256(train, test), resize="rule", train=train, test=test
    )


class Run:
    """One training run, with everything it gave."""

    def __init__(
        self,
        settings: TrainingSettings = SETTINGS,
        *,
        model: str = "simplecnn",
        dataset: Dataset | None = None,
        flip: bool = True,
        key: str = "run",
        resume_from: bytes | None = None,
    ) -> None:
        self.states: list[bytes] = []
        self.listener = Listener()
        self.info: CheckpointInfo
        self.module: nn.Module
        self.info, self.module = train_network(
            model,
            dataset or make_dataset(),
            settings,
            flip=flip,
            key=key,
            resume_from=resume_from,
            save_state=self.states.append,
            progress=self.listener,
        )
        self.packed = checkpoint.pack(self.info, self.module)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small networks wait for their threads more than they use them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def whole() -> Run:
    return Run()


@given(arrays(np.uint8, st.tuples(*[st.integers(1, 6)] * 3, st.just(3))))
def test_the_statistics_are_numpys(pixels: NDArray[np.uint8]) -> None:
    mean, std = channel_statistics(torch.from_numpy(pixels))
    scaled = pixels.astype(np.float64) / 255
    expected = scaled.std((0, 1, 2))
    constant = np.ptp(pixels, axis=(0, 1, 2)) == 0
    np.testing.assert_allclose(mean.numpy(), scaled.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(std.numpy(), np.where(constant, 1, expected), rtol=1e-6)


def test_the_statistics_of_many_images_are_added_up_over_the_pieces() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5000, 2, 2, 3), np.uint8)
    pixels[4096:] //= 4
    mean, std = channel_statistics(torch.from_numpy(pixels))
    np.testing.assert_allclose(mean.numpy(), (pixels / 255).mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(std.numpy(), (pixels / 255).std((0, 1, 2)), rtol=1e-6)


def test_a_constant_channel_has_the_deviation_1() -> None:
    pixels = torch.full((7, 5, 3, 3), 201, dtype=torch.uint8)
    mean, std = channel_statistics(pixels)
    assert std.tolist() == [1, 1, 1]
    assert mean.tolist() == pytest.approx([201 / 255] * 3)


def test_two_runs_give_the_same_bytes(whole: Run) -> None:
    torch.manual_seed(12345)
    again = Run()
    assert again.packed == whole.packed
    assert again.states == whole.states


def test_two_runs_on_two_threads_give_the_same_bytes() -> None:
    settings = SETTINGS.model_copy(update={"epochs": 1})
    torch.set_num_threads(2)
    try:
        assert Run(settings).packed == Run(settings).packed
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize(
    "changes",
    [{"seed": 1}, {"epochs": 2}, {"learning_rate": 1e-3}, {"weight_decay": 0.5}, {"crop_pixels": 0}, {"batch_size": 4}],
)
def test_every_setting_matters(whole: Run, changes: dict[str, Any]) -> None:
    other = Run(SETTINGS.model_copy(update=changes))
    assert weights(other.module) != weights(whole.module)


def test_flipping_matters(whole: Run) -> None:
    assert weights(Run(flip=False).module) != weights(whole.module)


def weights(module: nn.Module) -> bytes:
    return b"".join(weight.detach().contiguous().numpy().tobytes() for weight in module.parameters())


def test_training_leaves_the_random_numbers_of_others_alone() -> None:
    before = torch.get_rng_state()
    Run(SETTINGS.model_copy(update={"epochs": 1}), model="ds_cnn")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("done", [1, 2, 3])
def test_a_resumed_run_equals_an_uninterrupted_one_byte_for_byte(whole: Run, done: int) -> None:
    resumed = Run(resume_from=whole.states[done - 1])
    assert resumed.packed == whole.packed
    assert resumed.states == whole.states[done:]
    assert resumed.listener.said == [f"going on with training after epoch {done} of 3"]


@pytest.mark.parametrize("model", MODELS)
def test_every_model_is_trained_reproducibly_and_resumed_exactly(model: str) -> None:
    dataset = make_dataset(8, model_spec(model).input_shape[1])
    settings = TrainingSettings(epochs=2, batch_size=4)
    torch.manual_seed(1)
    first = Run(settings, model=model, dataset=dataset)
    torch.manual_seed(2)  # the dropout of ds_cnn must not see it
    resumed = Run(settings, model=model, dataset=dataset, resume_from=first.states[0])
    assert resumed.packed == first.packed
    assert not first.module.training


def test_the_state_of_another_run_is_not_taken_up(whole: Run) -> None:
    other = Run(SETTINGS.model_copy(update={"seed": 9}), key="other").states[1]
    again = Run(resume_from=other)
    assert again.packed == whole.packed
    assert len(again.states) == 3
    assert again.listener.said == []


@pytest.mark.parametrize("torn", [b"", b"no state", b"\x80\x02garbage", "half", "but ten bytes"])
def test_a_torn_state_is_not_taken_up(whole: Run, torn: bytes | str) -> None:
    state = whole.states[1]
    data = {"half": state[: len(state) // 2], "but ten bytes": state[:-10]}[torn] if isinstance(torn, str) else torn
    assert Run(resume_from=data).packed == whole.packed


def test_a_state_is_saved_after_every_epoch_and_holds_no_code(whole: Run) -> None:
    contents = [torch.load(io.BytesIO(state), weights_only=True) for state in whole.states]
    assert [content["epochs_done"] for content in contents] == [1, 2, 3]
    assert {content["key"] for content in contents} == {"run"}


def test_the_checkpoint_says_how_it_was_made(whole: Run) -> None:
    dataset = make_dataset()
    pixels = dataset.train.pixels / 255
    assert whole.info.model == "simplecnn"
    assert whole.info.input_shape == (3, 32, 32)
    assert whole.info.classes == dataset.classes
    assert whole.info.mean == pytest.approx(tuple(pixels.mean((0, 1, 2))))
    assert whole.info.std == pytest.approx(tuple(pixels.std((0, 1, 2))))
    assert whole.info.data == data.record(dataset)
    assert whole.info.config == SETTINGS.model_dump() | {"flip": True}


@pytest.mark.parametrize("n", [8, 20])
def test_the_loss_is_the_mean_cross_entropy_of_normalized_images(n: int) -> None:
    settings = TrainingSettings(epochs=1, batch_size=8, learning_rate=1e-12, crop_pixels=0)
    dataset = make_dataset(n)
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        module = model_spec("simplecnn").build(3)
    pixels = dataset.train.pixels.astype(np.float64) / 255
    normalized = (pixels - pixels.mean((0, 1, 2))) / pixels.std((0, 1, 2))
    logits = module(torch.from_numpy(normalized.transpose(0, 3, 1, 2)).float()).detach().double().numpy()
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(n), dataset.train.labels]
    row = Run(settings, dataset=dataset, flip=False).info.curve[0]
    if n == 8:
        assert row.loss == pytest.approx(losses.mean(), rel=1e-5)
        assert row.train_top1 == (logits.argmax(1) == dataset.train.labels).mean()
    else:  # two of three batches, in an order of its own
        assert losses.min() < row.loss < losses.max()


def test_the_curve_has_a_row_an_epoch(whole: Run) -> None:
    curve = whole.info.curve
    assert [row.epoch for row in curve] == [1, 2, 3]
    assert all(math.isfinite(row.loss) for row in curve)
    assert all(row.train_top1 * 24 == pytest.approx(round(row.train_top1 * 24)) for row in curve)
    assert curve[0].learning_rate == pytest.approx(SETTINGS.learning_rate / 25)  # OneCycleLR's div_factor
    assert max(row.learning_rate for row in curve) <= SETTINGS.learning_rate


def test_progress_counts_every_step_once(whole: Run) -> None:
    assert [(task, done, total) for task, done, total, _ in whole.listener.updates] == [
        ("train", 3, 9),
        ("train", 6, 9),
        ("train", 9, 9),
    ]
    assert "epoch 3/3" in whole.listener.updates[-1][3]


@pytest.mark.parametrize(("n", "steps"), [(24, 3), (23, 2), (8, 1), (5, 1)])
def test_an_incomplete_last_batch_is_left_out_unless_it_is_the_only_one(n: int, steps: int) -> None:
    run = Run(SETTINGS.model_copy(update={"epochs": 1}), dataset=make_dataset(n))
    assert run.listener.updates[-1][1:3] == (steps, steps)
    seen = min(n, steps * 8)
    top1 = run.info.curve[0].train_top1
    assert top1 * seen == pytest.approx(round(top1 * seen))


@pytest.mark.parametrize("epochs", range(1, 8))
def test_any_number_of_steps_has_a_schedule(epochs: int) -> None:
    run = Run(TrainingSettings(epochs=epochs, batch_size=8), dataset=make_dataset(8))
    assert len(run.info.curve) == epochs


def test_every_training_image_is_seen_once_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    cross_entropy = nn.functional.cross_entropy

    def spy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        seen.extend(labels.tolist())
        return cross_entropy(logits, labels)

    monkeypatch.setattr(nn.functional, "cross_entropy", spy)
    images = make_images(24)
    numbered = Images(
        pixels=images.pixels, labels=np.arange(24), classes=tuple(f"c{n}" for n in range(24)), split="train"
    )
    dataset = Dataset(source="npz", name="a", sha256="0" * 64, resize="r", train=numbered, test=images)
    Run(SETTINGS.model_copy(update={"epochs": 2}), dataset=dataset)
    first, second = seen[:24], seen[24:]
    assert sorted(first) == sorted(second) == list(range(24))
    assert first != second


def test_a_loss_that_is_not_finite_stops_the_stage_and_is_not_saved() -> None:
    states: list[bytes] = []
    with pytest.raises(StageError) as raised:
        train_network(
            "simplecnn",
            make_dataset(),
            SETTINGS.model_copy(update={"learning_rate": 1e30}),
            flip=True,
            key="run",
            resume_from=None,
            save_state=states.append,
            progress=Listener(),
        )
    assert "train: the loss stopped being finite in epoch 1" in raised.value.message
    assert "--learning-rate" in raised.value.next_step
    assert raised.value.exit_code == 4
    assert states == []


def test_two_epochs_on_the_digits_beat_chance_by_far() -> None:
    digits = data.load("digits", height=32, width=32)
    run = Run(TrainingSettings(epochs=2, batch_size=32), dataset=digits, flip=False)
    pixels = torch.from_numpy(digits.test.pixels).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (run.info.mean, run.info.std))
    with torch.no_grad():
        right = run.module((pixels - mean) / std).argmax(1).numpy() == digits.test.labels
    assert right.mean() > 0.7  # chance is 0.1
    assert run.info.curve[1].loss < run.info.curve[0].loss
