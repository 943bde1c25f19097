"""What a candidate is called, and which of two is the simpler."""

import dataclasses

from edgecnn.quantization.recipes import recipe
from edgecnn.tuning.candidate import STOCK, Candidate

INT8 = recipe("u8s8-perchannel-minmax-reduced")
OPERATORS = recipe("u8s8-perchannel-minmax-reduced-qoperator")
ONE_FLOAT = dataclasses.replace(INT8, float_layers=("fc",))


def test_the_stock_model_is_float_and_the_simplest_of_all() -> None:
    others = [
        Candidate(rewrites=("a",)), Candidate(recipe=INT8), Candidate(session="no-arena"), Candidate(threads=2),
    ]  # fmt: skip
    assert (STOCK.name, STOCK.form) == ("float", "float")
    assert all(STOCK.complexity() < other.complexity() for other in others)


def test_simplicity_is_float_then_rewrites_then_float_layers_then_operators_then_options_then_threads() -> None:
    ordered = [
        STOCK,
        Candidate(threads=2),
        Candidate(session="extended"),
        Candidate(session="no-spinning"),
        Candidate(rewrites=("a",)),
        Candidate(rewrites=("a", "b")),
        Candidate(recipe=INT8),
        Candidate(recipe=INT8, threads=2),
        Candidate(recipe=INT8, session="no-arena"),
        Candidate(recipe=OPERATORS),
        Candidate(recipe=ONE_FLOAT),
        Candidate(recipe=INT8, rewrites=("a",)),
    ]
    backwards = ordered[::-1]
    assert sorted(backwards, key=lambda one: one.complexity()) == ordered


def test_names_tell_all_that_differs() -> None:
    named = Candidate(recipe=ONE_FLOAT, rewrites=("blocked",), session="no-arena", threads=2)
    assert named.name == f"{INT8.name}-1float + blocked + [float: fc] + no-arena + 2 threads"
    other = dataclasses.replace(ONE_FLOAT, float_layers=("conv",))
    assert Candidate(recipe=other).name != Candidate(recipe=ONE_FLOAT).name


def test_the_record_holds_the_same() -> None:
    record = Candidate(recipe=ONE_FLOAT, rewrites=("blocked",), session="no-arena", threads=2).record()
    assert (record.form, record.recipe, record.float_layers) == ("int8", ONE_FLOAT.name, ("fc",))
    assert (record.rewrites, record.session, record.threads) == (("blocked",), "no-arena", 2)
    assert STOCK.record().recipe is None


def test_how_it_is_opened_does_not_change_the_file() -> None:
    assert Candidate(recipe=INT8, session="no-arena", threads=2).file == Candidate(recipe=INT8).file
    assert Candidate(recipe=INT8, rewrites=("a",)).file != Candidate(recipe=INT8).file
