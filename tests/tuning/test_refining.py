"""Recipes raced without what refines them, and how they are found again."""

import dataclasses

import pytest

from edgecnn.progress import SILENT
from edgecnn.quantization.recipes import recipe
from edgecnn.tuning.budget import Budget
from edgecnn.tuning.candidate import STOCK, Candidate
from edgecnn.tuning.choice import Row
from edgecnn.tuning.refining import kernels, leave_float, plain_recipe, refine
from edgecnn.tuning.stages import Stages
from tests.tuning.fakes import FakeJudge, FakeMeter, make_maker

FULL = recipe("u8s8-perchannel-minmax-reduced-equalized-rounded-corrected")
OTHER = recipe("u8s8-pertensor-minmax-reduced-equalized-rounded-corrected")
OPERATORS = recipe("u8s8-perchannel-minmax-reduced-equalized-qoperator")


def stages(judge: FakeJudge | None = None, *, seconds_gone: float = 0) -> Stages:
    clock = iter([0.0, *[seconds_gone] * 1000])
    return Stages(
        maker=make_maker(judge),
        meter=FakeMeter(lambda one: 10 if one.recipe and one.recipe.per_channel else 20),
        budget=Budget(seconds=60, clock=lambda: next(clock)),
        max_drop_pp=0.5,
        progress=SILENT,
    )


def raced(judge: FakeJudge, *, seconds_gone: float = 0) -> tuple[Stages, Candidate]:
    """Return stages in which the plain forms of two recipes were raced, and the faster of them."""
    made = stages(judge, seconds_gone=seconds_gone)
    candidates = [Candidate(recipe=plain_recipe(made, one)) for one in (FULL, OTHER)]
    made.race("recipes", [STOCK, *candidates], needed=(STOCK, *candidates))
    return made, candidates[0]


def test_a_plain_recipe_keeps_its_kernels_and_is_found_again() -> None:
    made = stages()
    plain = plain_recipe(made, FULL)
    assert plain.name == "u8s8-perchannel-minmax-reduced-equalized"
    assert made.refined == {plain: FULL}
    assert kernels(made, Candidate(recipe=FULL)) == Candidate(recipe=plain)
    assert kernels(made, STOCK) == STOCK


def test_a_recipe_that_nothing_refines_is_itself() -> None:
    made = stages()
    assert plain_recipe(made, OPERATORS).name == OPERATORS.name
    assert made.refined == {}


def test_float_layers_stay_float_when_it_is_refined() -> None:
    made = stages()
    left = leave_float(made, Candidate(recipe=plain_recipe(made, FULL), rewrites=("a",)), ("fc", "conv"))
    assert left.rewrites == ("a",)
    assert left.recipe is not None
    assert left.recipe.float_layers == ("fc", "conv")
    assert made.refined[left.recipe] == dataclasses.replace(FULL, float_layers=("fc", "conv"), summary="")


def test_the_best_is_refined_and_nothing_else() -> None:
    made, first = raced(FakeJudge())
    assert refine(made, first) == Candidate(recipe=FULL)
    assert not [row for row in made.rows if row.stage == "refined"]


@pytest.mark.parametrize(("seconds_gone", "expected"), [(0, OTHER), (100, FULL)])
def test_the_next_best_is_refined_if_there_is_time(seconds_gone: float, expected: object) -> None:
    made, first = raced(FakeJudge({FULL.name: 60}), seconds_gone=seconds_gone)
    assert refine(made, first).recipe == expected
    assert [row.dropped for row in made.rows if row.stage == "refined"] == ["loses 3.00 points; 0.5 were allowed"]


def test_if_none_holds_the_budget_the_one_that_loses_least_is_taken() -> None:
    made, first = raced(FakeJudge({FULL.name: 60, OTHER.name: 50}))
    assert refine(made, first).recipe == OTHER


def test_one_that_is_refused_is_logged_and_passed_over() -> None:
    made, first = raced(FakeJudge(wrong_rewritten={"a": 9}))
    blocked = dataclasses.replace(first, rewrites=("a",))
    assert refine(made, blocked).recipe == OTHER
    (row,) = (row for row in made.rows if row.stage == "refined")
    assert isinstance(row, Row)
    assert row.dropped is not None
    assert row.dropped.startswith("refused: rewritten, it puts 9 of 2,000 images into another class")
