"""Which of a bundle's int8 models a target runs."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence

from edgecnn.bundle import Bundle
from edgecnn.errors import BundleError, ModelError, StageError, TargetError
from edgecnn.pipeline.context import read_model
from edgecnn.pipeline.fit_commit import own_models, require_own
from edgecnn.pipeline.quantize import INT8_MODEL, PORTABLE_MODEL
from edgecnn.targets import target as target_row
from edgecnn.targets.placement import CPU_PROVIDER

#: The models whose figures are the bundle's own; those of a target's own model are in its record.
SHARED_MODELS = (INT8_MODEL, PORTABLE_MODEL)


def int8_for(bundle: Bundle, target: str) -> str:
    """Return the file that a target runs as int8.

    The one made for it (``quantize --for``) goes first. ONNX Runtime's CPU kernels, wherever they run, take
    ``int8.onnx`` as it was tuned for them; to other providers goes the same arithmetic as it was before its rewrites.
    """
    provider = target.partition("@")[0]
    fitted = {one.target: name for name, one in own_models(bundle).items()}
    if provider in fitted:
        return fitted[provider]
    if target_row(target).provider != CPU_PROVIDER and bundle.manifest.artifact(PORTABLE_MODEL) is not None:
        return PORTABLE_MODEL
    return INT8_MODEL


def choose_int8(bundle: Bundle, targets: Sequence[str], model: str | None = None) -> dict[str, str]:
    """Return the int8 model of each target; ``model`` names one for all of them.

    Raises:
        BundleError: the bundle has no such model.
    """
    if model is None:
        return {name: int8_for(bundle, name) for name in targets}
    if model not in SHARED_MODELS:
        require_own(bundle, model)
    elif model == PORTABLE_MODEL and bundle.manifest.artifact(PORTABLE_MODEL) is None:
        raise BundleError(
            f"{bundle.folder}: has no {PORTABLE_MODEL}: its {INT8_MODEL} was not rewritten, and is portable.",
            next_step=f"--model {INT8_MODEL}",
        )
    return dict.fromkeys(targets, model)


def advice_without_twin(bundle: Bundle, int8_models: Mapping[str, str]) -> dict[str, str]:
    """Return what to do where a target refuses ``int8.onnx`` that was rewritten for the CPU's kernels, by target.

    A bundle of an earlier version has no file of the same arithmetic as it was before that.

    Args:
        bundle: of any version.
        int8_models: the int8 model of each target, by file name.
    """
    record = bundle.manifest.stages.get("quantize")
    rewritten = record is not None and bool(record.settings.get("rewrites"))
    lost = rewritten and bundle.manifest.artifact(PORTABLE_MODEL) is None
    if not lost:
        return {}
    advice = (
        f"edgecnn quantize, which writes {PORTABLE_MODEL}: the same int8 as it was before its rewrites for the CPU; "
        "then the same command"
    )
    return {
        target: advice
        for target, model in int8_models.items()
        if model == INT8_MODEL and target_row(target).provider != CPU_PROVIDER
    }


@contextlib.contextmanager
def advising(advice: str | None) -> Iterator[None]:
    """Give what fails inside this next step instead of its own; None leaves it."""
    try:
        yield
    except (TargetError, StageError, ModelError) as error:
        if advice is None:
            raise
        raise type(error)(error.message, next_step=advice) from error


def read_int8(bundle: Bundle, model: str) -> bytes:
    """Return the bytes of an int8 model, as the manifest knows them.

    Raises:
        BundleError: it is missing or was changed.
    """
    own = own_models(bundle).get(model)
    return read_model(bundle, model, next_step=f"edgecnn quantize --for {own.target}" if own else "edgecnn quantize")
