"""The table of recipes: names that say what they do, one row a recipe."""

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from edgecnn.bundle.manifest import FileName
from edgecnn.errors import ExitCode, UsageError
from edgecnn.quantization import DEFAULT_RECIPE, RECIPES, Recipe, recipe

GRAMMAR = re.compile(r"(u8|s8)(u8|s8)-(perchannel|pertensor)-(minmax|mse)(-reduced)?")
rows = pytest.mark.parametrize(("name", "row"), RECIPES.items(), ids=RECIPES)


@rows
def test_a_row_is_found_under_its_own_name(name: str, row: Recipe) -> None:
    assert row.name == name
    assert recipe(name) is row


@rows
def test_a_name_follows_the_grammar_and_can_go_into_a_file_name(name: str, row: Recipe) -> None:
    match = GRAMMAR.fullmatch(name)
    assert match
    assert match.groups() == (
        row.activation,
        row.weight,
        "perchannel" if row.per_channel else "pertensor",
        row.ranges,
        "-reduced" if row.reduced else None,
    )
    assert TypeAdapter(FileName).validate_python(f"int8-{name}.onnx")


@rows
def test_a_row_has_a_summary_of_one_line_and_cannot_be_changed(name: str, row: Recipe) -> None:
    assert row.summary
    assert "\n" not in row.summary
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.reduced = True  # type: ignore[misc]


@rows
def test_only_what_cannot_saturate_is_called_exact_everywhere(name: str, row: Recipe) -> None:
    # u8 times full-range s8, added in pairs, overflows the 16 bits of VPMADDUBSW; see test_static.py.
    assert row.exact_everywhere == (row.weight == "u8" or row.reduced)


@given(
    st.builds(
        Recipe,
        activation=st.sampled_from(["u8", "s8"]),
        weight=st.sampled_from(["u8", "s8"]),
        per_channel=st.booleans(),
        ranges=st.sampled_from(["minmax", "mse"]),
        reduced=st.booleans(),
        exact_everywhere=st.booleans(),
        summary=st.just("any"),
    )
)
def test_any_recipe_can_be_read_back_from_its_name(any_recipe: Recipe) -> None:
    match = GRAMMAR.fullmatch(any_recipe.name)
    assert match
    activation, weight, granularity, ranges, reduced = match.groups()
    assert (activation, weight, ranges) == (any_recipe.activation, any_recipe.weight, any_recipe.ranges)
    assert (granularity == "perchannel", reduced == "-reduced") == (any_recipe.per_channel, any_recipe.reduced)


def test_the_default_is_in_the_table_and_right_on_every_cpu() -> None:
    assert RECIPES[DEFAULT_RECIPE].exact_everywhere


def test_the_summaries_tell_the_rows_apart() -> None:
    assert len({row.summary for row in RECIPES.values()}) == len(RECIPES)


@pytest.mark.parametrize("name", ["", "int8", "U8S8-perchannel-minmax", "u8s8-perchannel-minmax-reduced "])
def test_an_unknown_name_lists_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        recipe(name)
    assert caught.value.exit_code == ExitCode.USAGE
    assert repr(name) in caught.value.message
    for known in RECIPES:
        assert known in caught.value.message
    assert DEFAULT_RECIPE in caught.value.next_step
