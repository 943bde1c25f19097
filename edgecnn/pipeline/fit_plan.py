"""What ``--for`` asks for, checked before anything is read."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from edgecnn.errors import UsageError
from edgecnn.pipeline.quantize_settings import QuantizeSettings
from edgecnn.quantization.fit import FIT_MAX_DROP_PP, Fit, fit_for


def plan_fit(names: Sequence[str], settings: QuantizeSettings, *, anyway: bool = False) -> dict[str, Fit]:
    """Return the rows of the targets asked for, each once, by provider.

    Args:
        names: rows of the fit table, or targets.
        settings: what else the user says of the quantization.
        anyway: write int8 also where the target should run float.

    Raises:
        UsageError: a target is unknown, or what else is asked for contradicts it.
    """
    if not names:
        raise UsageError("quantize: --anyway goes with --for TARGET.", next_step="--for coreml --anyway")
    rows = dict(fit_for(name) for name in names)
    said = f"--for {' --for '.join(names)}"
    if settings.recipe is not None:
        rows = {name: _only(name, row, settings.recipe, anyway=anyway) for name, row in rows.items()}
    judged = [name for name, row in rows.items() if len(row.recipes) > 1]
    for option, value in (("--max-drop", settings.max_drop_pp), ("--held-out", settings.n_held_out)):
        if value is not None and not judged:
            raise UsageError(
                f"{said}: there is one recipe for it, and nothing for {option} to choose.",
                next_step=f"leave out {option}",
            )
    if anyway:
        _require_integers(rows, said)
    return rows


def _only(name: str, row: Fit, recipe: str, *, anyway: bool) -> Fit:
    """Return a row with one of its own recipes: what a target takes is not the user's to choose."""
    if row.ships_float and not anyway:
        raise UsageError(
            f"--for {name}: ships float.onnx, which has no recipe: {row.reason}.", next_step="leave out --recipe"
        )
    if recipe not in row.recipes:
        raise UsageError(
            f"--for {name} chooses the recipe, --recipe {recipe} is none of those that it takes: "
            f"{', '.join(row.recipes) or 'none'}.",
            next_step=f"--recipe {row.recipes[-1]}, or leave it out" if row.recipes else "leave out --recipe",
        )
    return replace(row, recipes=(recipe,))


def _require_integers(rows: Mapping[str, Fit], said: str) -> None:
    """Refuse ``--anyway`` where no integers could run, and where it would change nothing."""
    for name, row in rows.items():
        if not row.recipes:
            raise UsageError(f"--for {name}: takes no int8: {row.reason}.", next_step=f"ship float.onnx to {name}")
    if not any(row.ships_float for row in rows.values()):
        raise UsageError(f"{said}: gets int8 without --anyway.", next_step="leave out --anyway")


def job_settings(row: Fit, settings: QuantizeSettings) -> QuantizeSettings:
    """Return the settings of the images for a row: with some held apart where recipes are judged."""
    if len(row.recipes) == 1:
        return replace(settings, max_drop_pp=None, n_held_out=None)
    budget = FIT_MAX_DROP_PP if settings.max_drop_pp is None else settings.max_drop_pp
    return replace(settings, max_drop_pp=budget)
