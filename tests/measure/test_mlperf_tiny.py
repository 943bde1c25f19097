"""The measuring rules of MLPerf Tiny, by a clock that only the sessions move."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.measure import mlperf_tiny as rules
from edgecnn.measure.noise import NoiseWatch
from edgecnn.progress import SILENT
from tests.clockwork import Machine, Model, steady, take_over
from tests.support import make_images

IMAGES = make_images(600, size=4, split="test")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = take_over(monkeypatch)
    monkeypatch.setattr(NoiseWatch, "sample", lambda watch: None)
    return made


def windows(machine: Machine, *models: Model, seconds: float = 10.0) -> tuple[list[list[float]], int]:
    sessions = [model() for model in models]
    return rules.time_windows(
        sessions, IMAGES, seconds=seconds, through="run", seed=0, watch=NoiseWatch(cpus=()), progress=SILENT
    )


def test_the_rules_are_those_of_the_benchmark() -> None:
    assert (rules.WINDOWS, rules.WINDOW_SECONDS, rules.MIN_INFERENCES, rules.ACCURACY_IMAGES) == (5, 10.0, 10, 200)


def test_each_model_has_five_windows_of_at_least_ten_seconds(machine: Machine) -> None:
    found, unsettled = windows(machine, steady(machine, "float", 50_000), steady(machine, "int8", 25_000))
    assert found == [pytest.approx([20.0] * 5), pytest.approx([40.0] * 5)]
    assert unsettled == 0
    # 5 windows of each, and what settling takes
    assert 100e9 <= machine.now_ns <= 105e9


def test_a_slow_model_makes_at_least_ten_inferences_in_a_window(machine: Machine) -> None:
    found, _ = windows(machine, steady(machine, "slow", 3e6))
    assert found == [pytest.approx([1 / 3] * 5)]
    calls = sum(who == "slow" for who, _ in machine.log)
    assert calls == 5 * (1 + 3 * 3 + 10)


def test_each_window_is_on_another_image_and_the_same_for_both(machine: Machine) -> None:
    models = steady(machine, "float", 1e6), steady(machine, "int8", 1e6)
    windows(machine, *models, seconds=1)
    for model in models:
        fed = [x for index, x in enumerate(model.fed) if index == 0 or x is not model.fed[index - 1]]
        assert len(fed) == 5
        for window, x in enumerate(fed):
            np.testing.assert_allclose(x[0], IMAGES.pixels[window].transpose(2, 0, 1) / 255, rtol=1e-6)


def test_the_models_take_turns_in_an_order_that_varies(machine: Machine) -> None:
    windows(machine, steady(machine, "f", 1e6), steady(machine, "i", 1e6), seconds=1)
    order = "".join(who for index, (who, _) in enumerate(machine.log) if not index or machine.log[index - 1][0] != who)
    assert sorted(order) != sorted("fi" * 5), "equal neighbours mean that the order changed"


@given(st.integers(1, 10), st.integers(0, 400), st.integers(0, 2**16))
def test_the_small_test_set_has_as_many_of_each_class_and_the_first_of_them(classes: int, n: int, seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, classes, n)
    chosen = rules.balanced_indices(labels, n_classes=classes)
    for label in range(classes):
        of_class = [index for index in range(n) if labels[index] == label]
        assert [index for index in chosen if labels[index] == label] == of_class[: 200 // classes]
    assert chosen == sorted(chosen)


def test_what_is_not_according_to_the_protocol_is_said() -> None:
    ten = make_images(600, classes=10, size=4)
    full = rules.balanced_indices(ten.labels, n_classes=10)
    assert len(full) == 200
    assert rules.departures(ten, full, 10.0) == []
    assert rules.departures(ten, full, 12.0) == []
    (words,) = rules.departures(ten, full, 0.5)
    assert words == "windows of 0.5 s; the protocol asks for 10 s"
    (words,) = rules.departures(ten, full[:180], 10.0)
    assert words.startswith("180 images for the small accuracy test; the protocol asks for 200")
    three = rules.balanced_indices(IMAGES.labels, n_classes=3)  # 66 of each
    assert len(rules.departures(IMAGES, three, 10.0)) == 1
