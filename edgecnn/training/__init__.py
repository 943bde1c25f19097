"""Training a network from the model table on a data set held as one tensor."""

from edgecnn.training.settings import TrainingSettings

__all__ = ["TrainingSettings"]
