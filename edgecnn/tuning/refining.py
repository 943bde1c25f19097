"""Racing without what refines a recipe, and refining the winner.

Adaptive rounding and bias correction take longer than all else that makes a file, and change no kernel: what they do to
an answer costs no time on the device.
"""

import dataclasses

from edgecnn.quantization.recipes import Recipe
from edgecnn.stats import Comparison
from edgecnn.tuning.candidate import Candidate
from edgecnn.tuning.choice import Row, holds
from edgecnn.tuning.maker import Refused
from edgecnn.tuning.stages import Stages


def plain_recipe(stages: Stages, one: Recipe) -> Recipe:
    """Return a recipe without what refines it, and remember what it was."""
    plain = dataclasses.replace(one, adaptive_rounding=False, correct_bias=False, summary="")
    if plain.name != one.name:
        stages.refined[plain] = one
    return plain


def leave_float(stages: Stages, candidate: Candidate, layers: tuple[str, ...]) -> Candidate:
    """Return a candidate with more float layers, and remember what it is refined to."""
    recipe = candidate.recipe
    assert recipe is not None
    left = dataclasses.replace(recipe, float_layers=(*recipe.float_layers, *layers), summary="")
    if recipe in stages.refined:
        stages.refined[left] = dataclasses.replace(stages.refined[recipe], float_layers=left.float_layers, summary="")
    return dataclasses.replace(candidate, recipe=left)


def refine(stages: Stages, int8: Candidate) -> Candidate:
    """Return the best int8 that, refined, holds the drop budget; if none does, the one that loses least."""
    tried: dict[Candidate, float] = {}
    for one in _by_cost(stages, int8):
        if tried and stages.budget.is_over("refined"):
            break
        assert one.recipe is not None
        full = dataclasses.replace(one, recipe=stages.refined.get(one.recipe, one.recipe))
        made = stages.maker.make(full)
        if isinstance(made, Refused):
            stages.rows.append(Row(stage="refined", candidate=full, dropped=f"refused: {made.reason}"))
            continue
        assert made.drop_pp is not None
        tried[full] = made.drop_pp.delta
        if holds(made.drop_pp, stages.max_drop_pp):
            return full
        stages.rows.append(Row(stage="refined", candidate=full, made=made, dropped=_too_much(stages, made.drop_pp)))
    if not tried:
        return int8
    return min(tried, key=lambda one: tried[one])


def _too_much(stages: Stages, drop_pp: Comparison) -> str:
    return f"loses {drop_pp.delta:.2f} points; {stages.max_drop_pp:g} were allowed"


def _by_cost(stages: Stages, first: Candidate) -> list[Candidate]:
    """Return the best int8, and the best of every other recipe, the cheapest first."""
    costs = {
        row.candidate: row.standing.against_reference.delta
        for row in stages.rows
        if row.candidate.form == "int8" and row.standing is not None and row.stage in ("recipes", "rewrites")
    }
    cheapest: dict[Recipe | None, Candidate] = {first.recipe: first}
    for candidate in sorted(costs, key=lambda one: costs[one]):
        cheapest.setdefault(candidate.recipe, candidate)
    return list(cheapest.values())


def kernels(stages: Stages, candidate: Candidate) -> Candidate:
    """Return a candidate with the same kernels that was raced: refining changes none."""
    raced = {refined: plain for plain, refined in stages.refined.items()}
    recipe = candidate.recipe
    return candidate if recipe is None else dataclasses.replace(candidate, recipe=raced.get(recipe, recipe))
