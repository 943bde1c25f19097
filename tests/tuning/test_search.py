"""The greedy search over made-up costs: what is tried, what is kept, and what is said of it."""

import dataclasses
from collections.abc import Callable, Sequence

import pytest

from edgecnn.bundle.tuning import Objective
from edgecnn.errors import ModelError, UsageError
from edgecnn.progress import SILENT
from edgecnn.quantization.recipes import Recipe, recipe
from edgecnn.quantization.static import Quantized
from edgecnn.tuning.budget import Budget
from edgecnn.tuning.candidate import STOCK, Candidate
from edgecnn.tuning.maker import Maker
from edgecnn.tuning.search import Search, Tuned
from edgecnn.tuning.stages import Stages
from tests.tuning.fakes import MODEL, FakeJudge, FakeMeter, FakeRewriter, make_maker, quantize

A = recipe("u8s8-perchannel-minmax-reduced-equalized-rounded-corrected")
PLAIN_A = recipe("u8s8-perchannel-minmax-reduced-equalized")
B = recipe("u8s8-pertensor-minmax-reduced")
PLANS = FakeRewriter({"int8": [("blocked", "chain"), ("blocked",), ("chain",)], "float": [("order",)]})


def search(
    cost: Callable[[Candidate], float],
    *,
    maker: Maker | None = None,
    recipes: Sequence[Recipe] = (A, B),
    layers: Sequence[str] = (),
    objective: Objective = "latency",
    max_drop_pp: float = 0.5,
    threads: int = 1,
    budget: Budget | None = None,
    meter: FakeMeter | None = None,
) -> tuple[Tuned, FakeMeter]:
    meter = meter or FakeMeter(cost)
    stages = Stages(
        maker=maker or make_maker(rewriter=PLANS),
        meter=meter,
        budget=budget or Budget(seconds=60, clock=lambda: 0.0),
        max_drop_pp=max_drop_pp,
        progress=SILENT,
    )
    found = Search(stages=stages, recipes=recipes, layers=lambda _: layers, objective=objective, max_threads=threads)
    return found.run(), meter


def by_rewrites(costs: dict[tuple[str, ...], float], *, float_: float = 20) -> Callable[[Candidate], float]:
    """Cost int8 by its rewrites alone; what is opened otherwise costs more."""

    def cost(candidate: Candidate) -> float:
        base = float_ + len(candidate.rewrites) if candidate.recipe is None else costs.get(candidate.rewrites, 50)
        return base + (0 if candidate.session == "default" else 5)

    return cost


def test_recipes_are_tried_plain_and_with_the_most_promising_rewrites_and_float_too() -> None:
    _, meter = search(by_rewrites({(): 40, ("blocked", "chain"): 15}))
    expected = {"float", "float + order"}
    expected |= {name + more for name in (PLAIN_A.name, B.name) for more in ("", " + blocked + chain")}
    assert set(meter.measured[0]) == expected
    assert meter.measured[0][0] == "float", "the reference comes first"


def test_the_other_combinations_are_tried_for_the_best_recipe_alone() -> None:
    _, meter = search(by_rewrites({(): 40, ("blocked", "chain"): 15, ("blocked",): 12}))
    tried = meter.measured[1]
    assert f"{PLAIN_A.name} + blocked" in tried
    assert not [name for name in tried if name.startswith(B.name)]


def test_the_fastest_int8_is_recommended_with_its_speedup_over_the_stock_float() -> None:
    found, _ = search(by_rewrites({(): 40, ("blocked", "chain"): 15, ("blocked",): 10}))
    assert found.recommended.candidate == Candidate(recipe=A, rewrites=("blocked",))
    assert found.int8.candidate == found.recommended.candidate
    assert (found.speedup.low, found.speedup.delta, found.speedup.high) == (2, 2, 2)
    assert found.met
    assert found.why == "the best in latency of all that lose at most 0.5 points"


def test_where_float_is_faster_that_is_said_with_figures_and_int8_is_still_the_best_int8() -> None:
    found, _ = search(by_rewrites({(): 40, ("blocked", "chain"): 30, ("blocked",): 50}))
    assert found.recommended.candidate == STOCK
    assert found.int8.candidate == Candidate(recipe=A, rewrites=("blocked", "chain"))
    assert found.why == "float is faster here: the best int8 takes 1.50 times as long (1.50 to 1.50)"
    assert found.speedup.delta == 1


def test_a_rewritten_float_that_wins_is_recommended() -> None:
    found, _ = search(lambda one: 30 if one.recipe else 20 - 4 * len(one.rewrites) + 9 * (one.session != "default"))
    assert found.recommended.candidate == Candidate(rewrites=("order",))
    assert found.speedup.delta == pytest.approx(20 / 16)


def test_where_int8_and_float_are_alike_float_is_taken_for_it_is_the_simpler() -> None:
    found, _ = search(
        lambda one: (20.5 if one.recipe is None else 20) + 9 * (one.session != "default") + len(one.rewrites)
    )
    assert found.recommended.candidate == STOCK
    assert found.why == (f"no difference could be measured between {A.name} and float; the simpler one was taken")


def test_two_recipes_that_measure_alike_are_told_and_the_first_is_taken() -> None:
    found, _ = search(
        lambda one: 50 if one.recipe is None else (10.5 if one.recipe.per_channel else 10) + len(one.rewrites) * 9
    )
    assert found.int8.candidate == Candidate(recipe=A)
    assert (
        f"no difference could be measured between {B.name} and {PLAIN_A.name}; the simpler one was taken" in found.notes
    )


def test_a_recipe_that_loses_too_much_is_not_taken_however_fast() -> None:
    maker = make_maker(FakeJudge({B.name: 11}), PLANS)  # 0.55 points of 0.5
    found, meter = search(lambda one: 5 if one.recipe == B else 30, maker=maker)
    assert found.int8.candidate.recipe == A
    assert meter.groups[B.name] != meter.groups[A.name], "nor does it throw others out of the race"


def test_where_none_holds_the_budget_the_one_that_loses_least_is_int8_and_float_is_recommended() -> None:
    maker = make_maker(FakeJudge({A.name: 40, B.name: 100}), PLANS)
    found, _ = search(lambda one: 5 if one.recipe else 30, maker=maker)
    assert (found.met, found.int8.candidate.recipe) == (False, A)
    assert found.recommended.candidate.form == "float"
    assert found.why == "no int8 that was tried loses at most 0.5 points"


def test_for_size_the_smallest_file_is_taken_although_it_is_slower() -> None:
    maker = make_maker(rewriter=FakeRewriter({"int8": [("a-rewrite-with-a-name-that-makes-the-file-longer",)]}))
    found, _ = search(lambda one: 10 if one.rewrites else 40, maker=maker, objective="size", recipes=(A,))
    assert found.int8.candidate == Candidate(recipe=A)


def test_for_size_session_options_are_tried_for_the_smaller_file() -> None:
    maker = make_maker()
    maker.model = MODEL + b" " * 500
    _, meter = search(lambda one: 40 if one.recipe else 10, maker=maker, objective="size", recipes=(A,))
    assert [name for name in meter.measured[-2] if name.startswith(f"{A.name} + no-arena")]


@pytest.mark.parametrize(
    ("int8", "why"),
    [
        (10, "the fewest instructions of all that lose at most 0.5 points"),
        (30, "float takes fewer instructions: the best int8 takes 1.50 times as many (1.50 to 1.50)"),
    ],
)
def test_a_count_of_instructions_is_not_called_time(int8: float, why: str) -> None:
    meter = FakeMeter(lambda one: (int8 if one.recipe else 20) + 9 * len(one.rewrites), unit="instructions")
    found, _ = search(meter.cost, meter=meter)
    assert found.why == why


def test_a_layer_that_is_faster_in_float_stays_float_and_one_that_is_not_does_not() -> None:
    def cost(one: Candidate) -> float:
        layers = one.recipe.float_layers if one.recipe else ()
        slower = {"conv": -6, "fc": 3, "pw": -2}
        return 30 + sum(slower[name] for name in layers) + 9 * (one.session != "default") - one.threads

    found, meter = search(cost, maker=make_maker(), recipes=(A,), layers=("fc", "pw", "conv"))
    assert found.int8.candidate == Candidate(recipe=dataclasses.replace(A, float_layers=("conv", "pw"), summary=""))
    timed = next(names for names in meter.measured if any("[float: fc]" in name for name in names))
    assert not meter.drops[meter.measured.index(timed)], "each is held against int8, not against the best of them"
    assert not [name for name in timed if "rounded" in name or "corrected" in name], "these change no kernel"


def test_layers_that_are_tried_alone_are_timed_and_not_judged() -> None:
    judge = FakeJudge()
    found, _ = search(lambda one: 30, maker=make_maker(judge), recipes=(A,), layers=("conv", "fc"))
    assert not [name for name in judge.asked if "1float" in name]
    alone = [row for row in found.rows if row.candidate.recipe and row.candidate.recipe.float_layers]
    assert len(alone) == 2
    assert all(row.made is not None and row.made.drop_pp is None for row in alone)
    assert "no layer of int8 is faster in float" in found.notes


def test_float_layers_that_cost_accuracy_are_not_kept() -> None:
    helped = dataclasses.replace(A, float_layers=("conv",), summary="")
    maker = make_maker(FakeJudge({helped.name: 50}))
    found, _ = search(
        lambda one: 20 if one.recipe and one.recipe.float_layers == ("conv",) else 30,
        maker=maker,
        recipes=(A,),
        layers=("conv", "fc"),
    )
    assert found.int8.candidate == Candidate(recipe=A)


def test_rounding_and_correction_are_left_to_the_winner() -> None:
    asked: list[Recipe] = []

    def noted(one: Recipe) -> Quantized:
        asked.append(one)
        return quantize(one)

    slow = recipe("s8s8-perchannel-minmax-reduced-equalized-rounded-corrected")
    maker = make_maker(quantizer=noted, rewriter=PLANS)
    found, _ = search(
        lambda one: 30 if one.recipe and one.recipe.activation == "s8" else 10, maker=maker, recipes=(A, slow)
    )
    assert [one for one in asked if one.adaptive_rounding] == [A]
    assert found.int8.candidate.recipe == A


def test_what_loses_too_much_before_it_is_refined_is_not_thrown_out_for_that() -> None:
    maker = make_maker(FakeJudge({PLAIN_A.name: 500, B.name: 3}))
    found, _ = search(lambda one: 10 if one.recipe and one.recipe.equalize else 30, maker=maker)
    assert (found.int8.candidate, found.met) == (Candidate(recipe=A), True)


def test_where_the_refined_winner_loses_too_much_the_next_best_recipe_is_taken_and_that_is_logged() -> None:
    maker = make_maker(FakeJudge({A.name: 40, B.name: 3}))
    found, _ = search(lambda one: 10 if one.recipe and one.recipe.equalize else 30, maker=maker)
    assert (found.int8.candidate, found.met) == (Candidate(recipe=B), True)
    (row,) = (row for row in found.rows if row.stage == "refined")
    assert (row.candidate.recipe, row.dropped) == (A, "loses 2.00 points; 0.5 were allowed")


def test_session_options_are_tried_for_the_winner_and_kept_if_they_help() -> None:
    found, meter = search(
        lambda one: (10 if one.recipe else 20) - (one.session == "no-arena") + 9 * len(one.rewrites), recipes=(A,)
    )
    assert found.recommended.candidate == Candidate(recipe=A, session="no-arena")
    assert found.int8.candidate == Candidate(recipe=A), "the file is the same; how it is opened is recommended"
    assert not [name for name in meter.measured[-2] if "no-spinning" in name], "one thread never spins"


def test_threads_are_tried_up_to_the_limit() -> None:
    found, meter = search(
        lambda one: (30 if one.recipe else 60) / one.threads + (one.session != "default"), recipes=(A,), threads=3
    )
    tried = meter.measured[-2]
    assert {name.rsplit(" + ", 1)[-1] for name in tried if name.endswith("threads")} == {"2 threads", "3 threads"}
    assert [name for name in tried if "no-spinning + 2 threads" in name]
    assert found.recommended.candidate.threads == 3


def test_the_last_race_drops_nobody_and_gives_the_figures() -> None:
    found, meter = search(by_rewrites({(): 40, ("blocked",): 10}))
    assert meter.drops == [True] * (len(meter.drops) - 1) + [False]
    assert len(meter.drops) == 4
    assert meter.measured[-1] == ["float", f"{A.name} + blocked"]
    assert found.recommended.stage == "final"


def test_what_there_was_no_time_for_is_told_and_has_no_figure() -> None:
    now = iter([0.0, *[100.0] * 1000])
    found, meter = search(by_rewrites({(): 40}), budget=Budget(seconds=60, clock=lambda: next(now)))
    untried = [row for row in found.rows if row.dropped == "not tried: the time was over"]
    assert {row.candidate.recipe for row in untried} >= {B}
    assert all(row.standing is None and row.made is None for row in untried)
    assert found.int8.candidate == Candidate(recipe=A), "the first recipe is made in any case"
    assert all(seconds > 0 for seconds in meter.seconds)


def test_a_file_that_the_target_does_not_run_is_refused_and_told() -> None:
    meter = FakeMeter(by_rewrites({(): 40, ("blocked", "chain"): 10}), refused={PLAIN_A.name: "no kernel for it"})
    found, _ = search(meter.cost, meter=meter)
    (row,) = (row for row in found.rows if row.candidate == Candidate(recipe=PLAIN_A) and row.stage == "recipes")
    assert (row.dropped, row.standing) == ("refused: no kernel for it", None)


def test_the_same_file_is_not_raced_against_itself() -> None:
    def same(one: Recipe) -> Quantized:
        return Quantized(data=b'{"recipe": "same", "rewrites": []}', float_layers=())

    found, meter = search(lambda one: 10, maker=make_maker(quantizer=same))
    assert meter.measured[0] == ["float", PLAIN_A.name]
    (row,) = (row for row in found.rows if row.candidate == Candidate(recipe=B))
    assert row.dropped == f"the same file as {PLAIN_A.name}"


def test_without_any_int8_the_reason_of_the_first_is_told() -> None:
    def too_old(_: Recipe) -> Quantized:
        raise ModelError("is of opset 9", next_step="export it anew")

    with pytest.raises(UsageError, match=r"no int8 model could be made and run .*is of opset 9"):
        search(lambda one: 10, maker=make_maker(quantizer=too_old))


def test_the_front_is_marked_in_the_log() -> None:
    found, _ = search(by_rewrites({(): 40, ("blocked",): 10}))
    front = {row.candidate for row in found.rows if row.on_front}
    assert Candidate(recipe=PLAIN_A, rewrites=("blocked",)) in front
    assert Candidate(rewrites=("order",)) not in front
