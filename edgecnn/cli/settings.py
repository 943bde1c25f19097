"""Settings that several commands make of their options."""

from pathlib import Path
from typing import TYPE_CHECKING

from edgecnn.cli.output import terminal

if TYPE_CHECKING:
    from edgecnn.pipeline.context import Options
    from edgecnn.training.settings import TrainingSettings


def stage_options(
    bundle: Path | None, data: str | None = None, cache: Path | None = None, force: bool = False
) -> "Options":
    """Return the options of a stage that speaks on this terminal."""
    from edgecnn.pipeline.context import Options

    return Options(bundle=bundle, data=data, cache=cache, force=force, progress=terminal)


def training_settings(epochs: int | None, learning_rate: float | None, seed: int) -> "TrainingSettings":
    """Return how to train; None for what the user did not say."""
    from edgecnn.training.settings import make_settings

    return make_settings(epochs=epochs, learning_rate=learning_rate, seed=seed)
