"""What a tuning left for others to use: the recipe and the rewrites that it chose."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from edgecnn.bundle.manifest import MachineRecord, Manifest
from edgecnn.bundle.tuning import Form, TuningRecord
from edgecnn.errors import BundleError
from edgecnn.pipeline.quantize_settings import QuantizeSettings
from edgecnn.quantization.recipes import Recipe


@dataclass(frozen=True, kw_only=True)
class Applied:
    """A tuning's choice, and the settings to follow it with."""

    recipe: Recipe
    rewrites: tuple[str, ...]
    settings: QuantizeSettings


def tuning_to_apply(manifest: Manifest, float_sha256: str, settings: QuantizeSettings) -> Applied | None:
    """Return what a tuning of this very float model chose; None if there is none, or the user chose.

    Images and seed are those of the tuning unless the user named any.

    Raises:
        BundleError: the manifest holds no recipe that this version knows.
    """
    record = manifest.tuning
    if record is None or record.float_sha256 != float_sha256:
        return None
    if settings.recipe is not None or settings.max_drop_pp is not None:
        return None
    if settings == QuantizeSettings():
        settings = replace(settings, n_images=record.n_images, seed=record.seed)
    return Applied(recipe=read_recipe(record), rewrites=record.chosen.rewrites, settings=settings)


def read_recipe(record: TuningRecord) -> Recipe:
    """Return the recipe of a tuning.

    Raises:
        BundleError: it is none.
    """
    told: dict[str, Any] = {key: value for key, value in record.recipe.items() if key != "name"}
    try:
        told["float_layers"] = tuple(told["float_layers"])
        told["layer_ranges"] = tuple(sorted(told["layer_ranges"].items()))
        found = Recipe(**told)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        known = ", ".join(field.name for field in fields(Recipe))
        raise BundleError(
            f"the bundle's tuning holds no recipe of this version ({error}); one has {known}.",
            next_step="edgecnn tune --force",
        ) from error
    return found


def applied_sentence(record: TuningRecord, here: MachineRecord) -> str:
    """Return what is said when a tuning is used, with a warning if another type of machine measured it."""
    text = f"as tuned for {record.target}: {record.chosen.name} (--recipe chooses another)"
    there = record.machine
    if (there.architecture, there.cpu) == (here.architecture, here.cpu):
        return text
    return (
        f"{text}; that was measured on another machine, {there.cpu} ({there.architecture}), not on this "
        f"{here.cpu} ({here.architecture}): edgecnn tune measures here"
    )


def rewritten(data: bytes, names: Sequence[str], *, name: str) -> tuple[bytes, tuple[str, ...]]:
    """Rewrite a graph; return it, and the reasons if nothing was rewritten in it."""
    from edgecnn import rewriting

    done = rewriting.rewrite(data, names, name=name)
    if any(site.applied for site in done.sites):
        return done.data, ()
    return done.data, tuple(dict.fromkeys(site.reason for site in done.sites)) or ("no place for it",)


class GraphRewriter:
    """:mod:`edgecnn.rewriting` as a :class:`edgecnn.tuning.maker.Rewriter`."""

    def rewrite(self, data: bytes, names: Sequence[str], *, name: str) -> tuple[bytes, tuple[str, ...]]:
        """Return the rewritten file, and why it was not rewritten where it was not at all."""
        return rewritten(data, names, name=name)

    def plans(self, data: bytes, *, form: Form) -> tuple[tuple[str, ...], ...]:
        """Return sensible combinations of rewrites: none first, the most promising second."""
        from edgecnn import rewriting

        return rewriting.plans(data, form=form)
