import math
from typing import Any

import pytest
from pydantic import ValidationError

from edgecnn.errors import UsageError
from edgecnn.training.settings import TrainingSettings, make_settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0),
        ("epochs", 10_001),
        ("batch_size", 0),
        ("learning_rate", 0),
        ("learning_rate", -1e-3),
        ("learning_rate", math.nan),
        ("learning_rate", math.inf),
        ("weight_decay", -1),
        ("weight_decay", math.inf),
        ("crop_pixels", -1),
        ("crop_pixels", 17),
        ("seed", -1),
        ("epochs", 1.5),
        ("surprise", 1),
    ],
)
def test_a_setting_out_of_its_bounds_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=name):
        TrainingSettings(**{name: value})


def test_settings_cannot_be_changed() -> None:
    settings = TrainingSettings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.epochs = 3  # type: ignore[misc]


def test_settings_go_through_json_unchanged() -> None:
    settings = TrainingSettings(epochs=3, learning_rate=0.1, flip=True, seed=7)
    assert TrainingSettings.model_validate_json(settings.model_dump_json()) == settings


def test_what_the_command_line_says_replaces_a_default_and_nothing_else() -> None:
    assert make_settings(epochs=None, learning_rate=None, seed=0) == TrainingSettings()
    made = make_settings(epochs=7, learning_rate=0.5, seed=3)
    assert made == TrainingSettings(epochs=7, learning_rate=0.5, seed=3)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"epochs": 0}, "--epochs: Input should be greater than or equal to 1, found 0"),
        ({"learning_rate": -0.5}, "--learning-rate: Input should be greater than 0, found -0.5"),
        ({"learning_rate": math.inf}, "--learning-rate: Input should be a finite number, found inf"),
        ({"seed": -3}, "--seed: Input should be greater than or equal to 0, found -3"),
    ],
)
def test_a_value_out_of_its_bounds_is_a_usage_error_that_names_the_option(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as raised:
        make_settings(**({"epochs": None, "learning_rate": None, "seed": 0} | given))
    assert words in raised.value.message
    assert raised.value.next_step
    assert raised.value.exit_code == 2
