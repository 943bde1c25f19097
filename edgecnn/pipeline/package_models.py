"""Which of a bundle's models go into a package, in the form in which the target reads them."""

from collections.abc import Mapping
from dataclasses import dataclass

from edgecnn.bundle import Bundle
from edgecnn.pipeline.context import read_model
from edgecnn.pipeline.export import FLOAT_MODEL
from edgecnn.pipeline.fit_commit import own_model, own_models
from edgecnn.pipeline.int8_choice import int8_for, read_int8
from edgecnn.quantization.fit import fit_for
from edgecnn.targets import Target


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The models of a package.

    Attributes:
        models: by file name, float first, as the target reads them.
        originals: as the bundle has them.
        notes: what there is to say of the choice, in sentences.
    """

    models: Mapping[str, bytes]
    originals: Mapping[str, bytes]
    notes: tuple[str, ...] = ()


def choose_models(bundle: Bundle, target_name: str, row: Target) -> Chosen:
    """Return ``float.onnx``, and the int8 model that the target is to run: its own where the bundle has one.

    Args:
        bundle: whose models they are.
        target_name: of ``row``.
        row: of the target table, or of a board.

    Raises:
        BundleError: a model is missing or was changed.
        TargetError: the target reads no such file at all.
    """
    name, notes = _int8_model(bundle, target_name)
    found = {FLOAT_MODEL: read_model(bundle, FLOAT_MODEL, next_step="edgecnn export model.pt")}
    if name is not None:
        found[name] = read_int8(bundle, name)
    adapted = {name: row.runtime.adapt(data) if row.runtime else data for name, data in found.items()}
    changed = [name for name, data in adapted.items() if data != found[name]]
    if changed:
        notes += (
            f"{' and '.join(changed)}: the bundle's, written as {target_name} reads them; they were held against the "
            "bundle's on the CPU.",
        )
    return Chosen(models=adapted, originals=found, notes=notes)


def _int8_model(bundle: Bundle, target_name: str) -> tuple[str | None, tuple[str, ...]]:
    provider, fit = fit_for(target_name)
    name = int8_for(bundle, target_name)
    if name in own_models(bundle) or (fit.is_default and not fit.ships_float):
        return name, ()
    if fit.ships_float:
        return None, (f"No int8 model is packed: {fit.reason}.",)
    command = f"edgecnn quantize --for {provider}"
    return name, (f"The bundle has no {own_model(provider)}, so {name} is packed; {command} writes it: {fit.reason}.",)
