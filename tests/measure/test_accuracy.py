"""Top-1 accuracy and the paired comparison, against scikit-learn and NumPy."""

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, confusion_matrix

from edgecnn.bundle.manifest import TensorSpec
from edgecnn.data import Images
from edgecnn.errors import DataError, EdgecnnError, ExitCode, StageError
from edgecnn.measure import accuracy
from edgecnn.measure.accuracy import Accuracy, compare, difference, top1
from edgecnn.progress import SILENT
from edgecnn.targets.session import Clock, Feed
from tests.support import make_images

SIZE = 4
WEIGHTS = np.random.default_rng(5).normal(size=(SIZE * SIZE * 3, 3)).astype(np.float32)


class Fake:
    """A linear model of uint8 pixels that remembers how it was called."""

    clock: Clock = "simulated"

    def __init__(self, batch: int | str = "N") -> None:
        self.input = TensorSpec(name="x", dtype="uint8", shape=(batch, SIZE, SIZE, 3))
        self.nodes_by_provider: dict[str, int] = {}
        self.output = TensorSpec(name="y", dtype="float32", shape=(batch, 3))
        self.batches: list[int] = []

    def run(self, batch: Feed) -> NDArray[np.float32]:
        self.batches.append(len(batch))
        return logits_of(batch)


def logits_of(pixels: Any) -> NDArray[np.float32]:
    logits: NDArray[np.float32] = (pixels.reshape(len(pixels), -1).astype(np.float32) - 127) @ WEIGHTS
    return logits


def images(n: int, *, seed: int = 0) -> Images:
    made = make_images(n, seed=seed, size=SIZE, split="test")
    labels = np.random.default_rng(seed + 1).integers(0, 3, n)
    return Images(pixels=made.pixels, labels=labels, classes=made.classes, split="test")


def measure(session: Fake, chosen: Images) -> Accuracy:
    return top1(session, chosen, name="int8.onnx", progress=SILENT)


@settings(max_examples=60)
@given(n=st.integers(1, 200), batch=st.one_of(st.just("N"), st.integers(1, 90)), seed=st.integers(0, 99))
def test_accuracy_is_that_of_scikit_learn_for_any_number_of_images_and_any_batch(
    n: int, batch: int | str, seed: int
) -> None:
    chosen = images(n, seed=seed)
    session = Fake(batch)
    found = measure(session, chosen)
    expected = logits_of(chosen.pixels).argmax(1)
    np.testing.assert_array_equal(found.predictions, expected)
    np.testing.assert_array_equal(found.per_image_correct, expected == chosen.labels)
    assert found.n == n
    assert found.top1 == pytest.approx(accuracy_score(chosen.labels, expected), abs=1e-12)
    if isinstance(batch, int):
        assert session.batches == [batch] * -(-n // batch)
    else:
        assert sum(session.batches) == n
        assert max(session.batches) <= accuracy.BATCH_SIZE


@given(seed=st.integers(0, 999), scale=st.floats(0, 2))
def test_two_targets_differ_by_what_numpy_counts(seed: int, scale: float) -> None:
    chosen = images(17, seed=seed)
    here = measure(Fake(), chosen)
    noise = np.random.default_rng(seed).normal(size=here.logits.shape).astype(np.float32) * np.float32(scale * 1000)
    moved = here.logits + noise
    there = dataclasses.replace(here, logits=moved, predictions=moved.argmax(1))
    found = difference(here, there)
    expected = [
        max(abs(float(a) - float(b)) for a, b in zip(*rows, strict=True))
        for rows in zip(here.logits, moved, strict=True)
    ]
    assert found.max_abs_logit_difference == pytest.approx(max(expected))
    assert found.argmax_flips == sum(int(a) != int(b) for a, b in zip(here.predictions, there.predictions, strict=True))


def test_the_logits_are_kept_in_the_order_of_the_images() -> None:
    chosen = images(130)
    np.testing.assert_allclose(measure(Fake(), chosen).logits, logits_of(chosen.pixels), rtol=1e-5)
    np.testing.assert_allclose(measure(Fake(64), chosen).logits, logits_of(chosen.pixels), rtol=1e-5)


def test_the_last_batch_is_short_where_the_batch_may_vary() -> None:
    session = Fake()
    measure(session, images(130))
    assert session.batches == [64, 64, 2]


def test_of_equal_logits_the_first_counts() -> None:
    class Undecided(Fake):
        def run(self, batch: Feed) -> NDArray[np.float32]:
            return np.zeros((len(batch), 3), np.float32)

    assert (measure(Undecided(), images(9)).predictions == 0).all()


def test_the_listener_hears_how_far_it_is() -> None:
    heard: list[tuple[str, int, int]] = []

    class Listener:
        def say(self, text: str) -> None:
            raise AssertionError(text)

        def update(self, task: str, done: int, total: int, detail: str = "") -> None:
            heard.append((task, done, total))

    top1(Fake(50), images(120), name="int8.onnx", progress=Listener())
    assert heard == [("validate int8.onnx", done, 120) for done in (50, 100, 120)]


def refused(error: type[EdgecnnError], session: Fake, chosen: Images) -> EdgecnnError:
    with pytest.raises(error) as caught:
        measure(session, chosen)
    assert type(caught.value) is error
    assert caught.value.next_step
    return caught.value


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_logit_that_is_not_finite_fails_the_stage(bad: float) -> None:
    class Broken(Fake):
        def run(self, batch: Feed) -> NDArray[np.float32]:
            logits = super().run(batch)
            if len(self.batches) == 2:
                logits[-1, 2] = bad
            return logits

    error = refused(StageError, Broken(), images(100))
    assert error.exit_code == ExitCode.STAGE_FAILED
    assert "int8.onnx gives NaN or infinite logits" in error.message


@pytest.mark.parametrize(
    ("shape", "said"),
    [((3, 2), "[3, 2]"), ((3, 4), "[3, 4]"), ((3,), "[3]"), ((3, 3, 1), "[3, 3, 1]"), ((1, 3), "[1, 3]")],
)
def test_anything_but_one_row_of_logits_an_image_is_refused(shape: tuple[int, ...], said: str) -> None:
    class Other(Fake):
        def run(self, batch: Feed) -> NDArray[np.float32]:
            return np.zeros(shape, np.float32)

    error = refused(DataError, Other(), images(3))
    assert error.exit_code == ExitCode.BAD_INPUT
    assert f"int8.onnx: gives {said} for 3 images of 3 classes" in error.message


def test_no_images_are_refused() -> None:
    assert "no test images" in refused(DataError, Fake(), images(3).take(np.arange(0))).message


# Two models on the same images


def answers(chosen: Images, predictions: NDArray[np.int64]) -> Accuracy:
    correct = predictions == chosen.labels
    return Accuracy(
        n=len(chosen),
        top1=float(correct.mean()),
        per_image_correct=correct,
        predictions=predictions,
        logits=np.eye(3, dtype=np.float32)[predictions],
    )


@settings(max_examples=60)
@given(n=st.integers(1, 120), seed=st.integers(0, 9999), agreement=st.floats(0, 1))
def test_the_comparison_is_that_of_numpy(n: int, seed: int, agreement: float) -> None:
    random = np.random.default_rng(seed)
    chosen = images(n, seed=seed)
    before = random.integers(0, 3, n)
    after = np.where(random.random(n) < agreement, before, random.integers(0, 3, n))
    paired = compare(answers(chosen, before), answers(chosen, after), chosen)
    drop = 100 * (accuracy_score(chosen.labels, before) - accuracy_score(chosen.labels, after))
    assert paired.drop_pp.delta == pytest.approx(drop, abs=1e-9)
    assert -100 <= paired.drop_pp.low <= paired.drop_pp.high <= 100
    assert paired.agreement == pytest.approx(np.mean(before == after))
    assert 0 < paired.p_value <= 1
    totals = [int((chosen.labels == label).sum()) for label in range(3)]
    right = [np.diag(confusion_matrix(chosen.labels, found, labels=range(3))) for found in (before, after)]
    assert [(row.name, row.n) for row in paired.per_class] == [
        (name, total) for name, total in zip(chosen.classes, totals, strict=True) if total
    ]
    shown = [label for label in range(3) if totals[label]]
    for row, label in zip(paired.per_class, shown, strict=True):
        assert row.float_top1 == pytest.approx(right[0][label] / totals[label])
        assert row.int8_top1 == pytest.approx(right[1][label] / totals[label])
        assert row.drop_pp == pytest.approx(100 * (row.float_top1 - row.int8_top1))


def test_ten_answers_lost_and_none_gained_in_a_hundred() -> None:
    chosen = images(100)
    before = chosen.labels.copy()
    after = before.copy()
    after[:10] = (after[:10] + 1) % 3
    paired = compare(answers(chosen, before), answers(chosen, after), chosen)
    assert paired.drop_pp.delta == pytest.approx(10)
    assert 0 < paired.drop_pp.low < 10 < paired.drop_pp.high < 25
    assert paired.p_value == pytest.approx(2 * 0.5**10)
    assert paired.agreement == pytest.approx(0.9)


def test_wrong_answers_that_differ_are_no_drop_but_no_agreement() -> None:
    chosen = images(90)
    before, after = (chosen.labels + 1) % 3, (chosen.labels + 2) % 3
    paired = compare(answers(chosen, before), answers(chosen, after), chosen)
    assert (paired.drop_pp.delta, paired.agreement, paired.p_value) == (0, 0, 1)


def test_the_same_answers_are_no_drop_within_an_interval_that_has_a_width() -> None:
    chosen = images(100)
    same = answers(chosen, chosen.labels)
    paired = compare(same, same, chosen)
    assert (paired.drop_pp.delta, paired.agreement, paired.p_value) == (0, 1, 1)
    assert paired.drop_pp.low < 0 < paired.drop_pp.high
