"""Which of a bundle's int8 models a target runs."""

from collections.abc import Sequence

from edgecnn.bundle import Bundle
from edgecnn.errors import BundleError
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


def read_int8(bundle: Bundle, model: str) -> bytes:
    """Return the bytes of an int8 model, as the manifest knows them.

    Raises:
        BundleError: it is missing or was changed.
    """
    own = own_models(bundle).get(model)
    return read_model(bundle, model, next_step=f"edgecnn quantize --for {own.target}" if own else "edgecnn quantize")
