"""A network by name: from the model table, from torchvision, or from the user's own code."""

import importlib
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from edgecnn.errors import CheckpointError, UsageError
from edgecnn.models import MODELS

if TYPE_CHECKING:
    from torch import nn

TORCHVISION = "torchvision:"
GRAMMAR = f"{', '.join(MODELS)}, {TORCHVISION}NAME, or package.module:factory"
#: Spends minutes on random weights that are overwritten at once, unless told not to.
_SLOW_TO_INITIALIZE = ("googlenet", "inception_v3")


def build(architecture: str, num_classes: int | None = None) -> "nn.Module":
    """Build a network with random weights.

    Args:
        architecture: a name of the model table, ``torchvision:NAME``, or ``package.module:factory``. Naming one's own
            factory runs one's own code: it is imported from the current folder or the environment.
        num_classes: of the classifier; None for the network's own default.

    Raises:
        UsageError: there is no such network.
        CheckpointError: the factory failed, or gave something that is not a network.
    """
    if architecture in MODELS:
        return MODELS[architecture].build(10 if num_classes is None else num_classes)
    if architecture.startswith(TORCHVISION):
        return _from_torchvision(architecture.removeprefix(TORCHVISION), num_classes)
    if ":" in architecture:
        return _from_factory(architecture, num_classes)
    raise UsageError(f"unknown architecture {architecture!r}; expected {GRAMMAR}.", next_step="--arch simplecnn")


def _from_torchvision(name: str, num_classes: int | None) -> "nn.Module":
    try:
        from torchvision import models
    except ImportError as error:
        raise UsageError(
            f"torchvision:{name}: torchvision is not installed here.", next_step="pip install 'edgecnn[torch]'"
        ) from error
    known = models.list_models(module=models)
    if name not in known:
        raise UsageError(
            f"torchvision has no classifier {name!r}; it has {', '.join(known)}.",
            next_step="--arch torchvision:mobilenet_v3_small",
        )
    options: dict[str, object] = {} if num_classes is None else {"num_classes": num_classes}
    if name in _SLOW_TO_INITIALIZE:
        options["init_weights"] = False
    module: nn.Module = models.get_model(name, weights=None, **options)
    return module


def _from_factory(architecture: str, num_classes: int | None) -> "nn.Module":
    from torch import nn

    module_name, _, factory_name = architecture.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)  # as "python -m" would: the user's own file lies here
    try:
        factory = getattr(importlib.import_module(module_name), factory_name)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise UsageError(
            f"{architecture}: cannot be imported ({error}).",
            next_step="give the module as Python imports it from this folder, and a function or class in it",
        ) from error
    takes_classes = "num_classes" in inspect.signature(factory).parameters
    arguments = {"num_classes": num_classes} if takes_classes and num_classes is not None else {}
    try:
        network = factory(**arguments)
    except Exception as error:  # the user's own code may raise anything; it is named, not swallowed
        raise CheckpointError(
            f"{architecture}: raised {type(error).__name__} ({error}).", next_step="make it work without arguments"
        ) from error
    if not isinstance(network, nn.Module):
        raise CheckpointError(
            f"{architecture}: expected a torch.nn.Module, found {type(network).__name__}.",
            next_step="return the network from the factory",
        )
    return network
