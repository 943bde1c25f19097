"""One stage: who competes with whom, and that whatever comes of a candidate is in the log."""

import pytest

from edgecnn.progress import SILENT
from edgecnn.quantization.recipes import recipe
from edgecnn.tuning.budget import Budget
from edgecnn.tuning.candidate import STOCK, Candidate
from edgecnn.tuning.maker import Made
from edgecnn.tuning.stages import FLOAT, INT8, OVER, TIMED, Stages, drop_of, standing_of
from tests.tuning.fakes import FakeJudge, FakeMeter, FakeRewriter, make_maker

INT8_RECIPE = recipe("u8s8-perchannel-minmax-reduced")


def stages(judge: FakeJudge | None = None, *, useless: tuple[str, ...] = ()) -> Stages:
    return Stages(
        maker=make_maker(judge, FakeRewriter(useless=useless)),
        meter=FakeMeter(lambda one: 10 if one.recipe else 20),
        budget=Budget(seconds=60, clock=lambda: 0.0),
        max_drop_pp=0.5,
        progress=SILENT,
    )


def group(made: Stages, candidate: Candidate, *, judged: bool = True) -> str:
    one = made.maker.make(candidate, judged=judged)
    assert isinstance(one, Made)
    return made.group(one)


def test_float_int8_and_what_loses_too_much_compete_among_themselves() -> None:
    int8 = Candidate(recipe=INT8_RECIPE)
    assert group(stages(), STOCK) == FLOAT
    assert group(stages(), int8) == INT8
    assert group(stages(FakeJudge({INT8_RECIPE.name: 11})), int8) == OVER
    assert group(stages(), int8, judged=False) == TIMED


def test_what_can_still_be_refined_is_not_judged_by_what_it_loses_before() -> None:
    made = stages(FakeJudge({INT8_RECIPE.name: 11}))
    made.refined[INT8_RECIPE] = recipe("u8s8-perchannel-minmax-reduced-corrected")
    assert group(made, Candidate(recipe=INT8_RECIPE)) == INT8


def test_rows_hold_what_was_measured_and_what_was_not() -> None:
    made = stages(FakeJudge({INT8_RECIPE.name: 4}), useless=("a",))
    int8, refused = Candidate(recipe=INT8_RECIPE), Candidate(recipe=INT8_RECIPE, rewrites=("a",))
    rows = made.race("recipes", [STOCK, int8, refused, int8], needed=(STOCK,))
    assert rows == made.rows
    assert [row.candidate for row in rows] == [STOCK, int8, refused]
    assert standing_of(rows[1]).against_reference.delta == pytest.approx(0.5)
    assert drop_of(rows[1]).delta == pytest.approx(0.2)
    assert (rows[2].dropped, rows[2].standing) == ("refused: no rewrite applies: no place", None)
    assert {row.stage for row in rows} == {"recipes"}
