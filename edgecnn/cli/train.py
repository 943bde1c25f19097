"""``edgecnn train``."""

from edgecnn.cli.output import show_made
from edgecnn.cli.settings import stage_options, training_settings
from edgecnn.options import Cache, Data, Epochs, Force, Json, LearningRate, Model, NewBundle, Seed


def train(
    bundle: NewBundle = None,
    data: Data = None,
    model: Model = "simplecnn",
    epochs: Epochs = None,
    learning_rate: LearningRate = None,
    seed: Seed = 0,
    cache: Cache = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Train a network and write model.pt."""
    from edgecnn.pipeline.train import train as train_model

    settings = training_settings(epochs, learning_rate, seed)
    show_made(train_model(model, settings=settings, options=stage_options(bundle, data, cache, force)), json)
