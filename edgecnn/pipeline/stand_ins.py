"""Which chip ``--provider all`` means: one that takes the bundle's models, if another of its kind does not.

Whoever names a chip is told that it does not take the model, and nothing else is asked in its place.
"""

from collections.abc import Iterable, Mapping

from edgecnn.bundle import Bundle
from edgecnn.errors import ChipError, ModelError, StageError, TargetError
from edgecnn.pipeline.context import read_model
from edgecnn.pipeline.export import FLOAT_MODEL
from edgecnn.pipeline.int8_choice import choose_int8, read_int8
from edgecnn.progress import Progress
from edgecnn.targets import running
from edgecnn.targets import target as target_row


def find_stand_ins(
    bundle: Bundle, targets: Iterable[str], *, model: str | None = None, progress: Progress
) -> dict[str, str]:
    """Return what is to be asked in place of each target whose chip does not take the bundle's models, and say so.

    What these targets failed at before is struck from the manifest: it is no longer asked for.

    Args:
        bundle: locked.
        targets: those that nobody named.
        model: the int8 model that all targets run; None for the one that each is to run.
        progress: told the chip, why, and what is asked in its place.

    Raises:
        BundleError: a model is missing or was changed.
    """
    found = {}
    for name in targets:
        instead = target_row(name).instead
        if instead is None or target_row(instead).why_not() is not None:
            continue
        (int8,) = choose_int8(bundle, [name], model).values()
        models = {FLOAT_MODEL: read_model(bundle, FLOAT_MODEL, next_step="edgecnn export model.pt")}
        models[int8] = read_int8(bundle, int8)
        if refusal := _refusal(name, models):
            progress.say(f"{refusal.message} Of all targets, {instead} is asked in its place.")
            found[name] = instead
    if found:
        failures = bundle.manifest.validation_failures
        bundle.amend({"validation_failures": tuple(old for old in failures if old.target not in found)})
    return found


def _refusal(target: str, models: Mapping[str, bytes]) -> ChipError | None:
    """Return why a target's chip does not take one of some models; what else fails is told when it is asked."""
    for name, data in models.items():
        try:
            with running(target, data, model_name=name):
                pass
        except ChipError as error:
            return error
        except (TargetError, StageError, ModelError):
            return None
    return None
