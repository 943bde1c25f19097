"""How a network is trained; every default was measured, see ``docs/training.md``."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgecnn.errors import UsageError


class TrainingSettings(BaseModel):
    """Settings of one training run; the same settings, images and thread count give the same bytes.

    Attributes:
        epochs: passes over the training images.
        batch_size: images a step; the last, incomplete batch of an epoch is left out.
        learning_rate: the peak of the one-cycle schedule (Smith and Topin 2019), for AdamW.
        weight_decay: AdamW's decoupled decay (Loshchilov and Hutter 2019).
        crop_pixels: a random shift of up to this many pixels either way, over reflected borders.
        flip: mirror half of the images; None lets the data source decide.
        seed: of the initial weights, the order of the images and their augmentation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: Annotated[int, Field(ge=1, le=10_000)] = 40
    batch_size: Annotated[int, Field(ge=1)] = 128
    learning_rate: Annotated[float, Field(gt=0)] = 3e-3
    weight_decay: Annotated[float, Field(ge=0)] = 5e-2
    crop_pixels: Annotated[int, Field(ge=0, le=16)] = 2
    flip: bool | None = None
    seed: Annotated[int, Field(ge=0)] = 0


def make_settings(*, epochs: int | None, learning_rate: float | None, seed: int) -> TrainingSettings:
    """Return the settings with what the command line said; None leaves a default.

    Raises:
        UsageError: a value is out of its bounds.
    """
    given = {"epochs": epochs, "learning_rate": learning_rate, "seed": seed}
    try:
        return TrainingSettings.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]).replace("_", "-")
        raise UsageError(
            f"--{option}: {first['msg']}, found {first['input']!r}.", next_step="edgecnn train --help"
        ) from error
