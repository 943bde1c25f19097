"""The table of recipes, and the grammar of their names: what can be spelled, what is refused."""

import dataclasses
import itertools
import re
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from edgecnn.bundle.manifest import FileName
from edgecnn.errors import ExitCode, UsageError
from edgecnn.quantization import DEFAULT_RECIPE, RECIPES, Recipe, recipe
from edgecnn.quantization.range_methods import RANGE_METHODS, RangeMethod
from edgecnn.quantization.recipes import GRAMMAR, ActivationType, WeightType

#: Written out once more, so that a change of the grammar is seen.
EXTRAS = ["symmetric", "reduced", "equalized", "rounded", "corrected", "qoutput", "qoperator"]
FIELDS = ["symmetric", "reduced", "equalize", "adaptive_rounding", "correct_bias", "quantized_output", "qoperator"]
PATTERN = re.compile(
    r"(u8|s8|u16|s16)(u8|s8)-(perchannel|pertensor)-(minmax|average|percentile|entropy|mse)"
    + "".join(f"(-{word})?" for word in EXTRAS)
)
rows = pytest.mark.parametrize(("name", "row"), RECIPES.items(), ids=RECIPES)


def is_legal(fields: dict[str, Any]) -> bool:
    """Tell whether ONNX Runtime has operators on integers for a recipe that asks for them."""
    return not fields["qoperator"] or not (
        fields["adaptive_rounding"]
        or fields["correct_bias"]
        or fields["activation"] in ("u16", "s16")
        or (fields["weight"] == "u8" and (fields["activation"] == "s8" or fields["per_channel"]))
    )


any_fields = st.fixed_dictionaries(
    {
        "activation": st.sampled_from(["u8", "s8", "u16", "s16"]),
        "weight": st.sampled_from(["u8", "s8"]),
        "per_channel": st.booleans(),
        "ranges": st.sampled_from(["minmax", "average", "percentile", "entropy", "mse"]),
        **{field: st.booleans() for field in FIELDS},
    }
)


def words_of(found: Recipe) -> tuple[str | None, ...]:
    return (
        found.activation,
        found.weight,
        "perchannel" if found.per_channel else "pertensor",
        found.ranges,
        *(f"-{word}" if getattr(found, field) else None for word, field in zip(EXTRAS, FIELDS, strict=True)),
    )


# The table


@rows
def test_a_row_is_found_under_its_own_name(name: str, row: Recipe) -> None:
    assert row.name == name
    assert recipe(name) is row


@rows
def test_a_name_follows_the_grammar_and_can_go_into_a_file_name(name: str, row: Recipe) -> None:
    match = PATTERN.fullmatch(name)
    assert match
    assert match.groups() == words_of(row)
    assert TypeAdapter(FileName).validate_python(f"int8-{name}.onnx")


@rows
def test_a_row_has_a_summary_of_one_line_and_cannot_be_changed(name: str, row: Recipe) -> None:
    assert row.summary
    assert "\n" not in row.summary
    with pytest.raises(dataclasses.FrozenInstanceError):
        row.reduced = True  # type: ignore[misc]


@rows
def test_a_row_names_no_layers_of_some_network(name: str, row: Recipe) -> None:
    assert (row.float_layers, row.layer_ranges) == ((), ())


def test_the_default_is_in_the_table_and_right_on_every_cpu() -> None:
    assert RECIPES[DEFAULT_RECIPE].exact_everywhere


def test_the_summaries_tell_the_rows_apart() -> None:
    assert len({row.summary for row in RECIPES.values()}) == len(RECIPES)


# What follows from the fields


@given(any_fields.filter(is_legal))
def test_only_what_cannot_saturate_is_called_exact_everywhere(fields: dict[str, Any]) -> None:
    # u8 times full-range s8, added in pairs, overflows the 16 bits of VPMADDUBSW; see test_static.py. There is no such
    # instruction for activations of 16 bits.
    pairs_fit = fields["weight"] == "u8" or fields["reduced"] or fields["activation"] in ("u16", "s16")
    assert Recipe(**fields).exact_everywhere == pairs_fit


@pytest.mark.parametrize(
    ("activation", "symmetric", "bits", "steps"),
    [
        ("u8", False, 8, 255),
        ("s8", False, 8, 255),
        ("u16", False, 16, 65535),
        ("s16", False, 16, 65535),
        ("u8", True, 8, 255),
        ("s8", True, 8, 254),  # -127 to 127
        ("s16", True, 16, 65534),
    ],
)
def test_bits_and_steps_are_those_of_the_activation(
    activation: ActivationType, symmetric: bool, bits: int, steps: int
) -> None:
    found = dataclasses.replace(RECIPES[DEFAULT_RECIPE], activation=activation, symmetric=symmetric)
    assert (found.activation_bits, found.steps) == (bits, steps)


# The grammar


@given(any_fields.filter(is_legal))
def test_any_recipe_is_read_back_from_its_name(fields: dict[str, Any]) -> None:
    written = Recipe(**fields, summary="")
    read = recipe(written.name)
    assert dataclasses.replace(read, summary="") == written
    match = PATTERN.fullmatch(written.name)
    assert match
    assert match.groups() == words_of(written)
    assert TypeAdapter(FileName).validate_python(f"int8-{written.name}.onnx")


def test_every_combination_has_a_name_of_its_own() -> None:
    choices = {"activation": get_args(ActivationType), "weight": get_args(WeightType), "per_channel": (True, False)}
    choices |= {"ranges": get_args(RangeMethod)} | dict.fromkeys(FIELDS, (True, False))
    all_fields = [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]
    legal = [fields for fields in all_fields if is_legal(fields)]
    assert len({Recipe(**fields).name for fields in legal}) == len(legal) == 5520


@given(any_fields.filter(lambda fields: not is_legal(fields)))
def test_operators_on_integers_refuse_what_they_cannot_do(fields: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="operators on integers") as caught:
        Recipe(**fields)
    assert caught.value.exit_code == ExitCode.USAGE
    assert "leave out -qoperator" in caught.value.next_step


@pytest.mark.parametrize(
    "name",
    [
        "u8s8-perchannel-minmax-rounded-qoperator",
        "u8s8-perchannel-minmax-corrected-qoperator",
        "u16s8-perchannel-minmax-qoperator",
        "s8u8-pertensor-mse-qoperator",
        "u8u8-perchannel-mse-qoperator",
    ],
)
def test_a_spelled_name_is_refused_for_what_it_asks_and_not_for_its_spelling(name: str) -> None:
    with pytest.raises(UsageError, match=f"{name}: .*operators on integers"):
        recipe(name)


@given(st.lists(st.sampled_from(EXTRAS[:-1]), min_size=2, max_size=4))
def test_parts_out_of_order_or_twice_are_refused(parts: list[str]) -> None:
    name = "-".join(["u8s8-pertensor-minmax", *parts])
    if parts == sorted(set(parts), key=EXTRAS.index):
        assert recipe(name).name == name
    else:
        refused(name)


def refused(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        recipe(name)
    assert caught.value.exit_code == ExitCode.USAGE
    assert repr(name) in caught.value.message
    for known in RECIPES:
        assert known in caught.value.message
    assert GRAMMAR in caught.value.message
    assert DEFAULT_RECIPE in caught.value.next_step


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-",
        "int8",
        "u8s8",
        "u8s8-perchannel",
        "u8s8-minmax-perchannel",
        "U8S8-perchannel-minmax",
        "u8s16-perchannel-minmax",
        "u8s8-perchannel-minmax-",
        "u8s8-perchannel-minmax--reduced",
        "u8s8-perchannel-minmax-reduced ",
        "u8s8-perchannel-minmax-2float",
        "u8s8-perchannel-kl",
    ],
)
def test_an_unknown_name_lists_the_known_ones_and_the_grammar(name: str) -> None:
    refused(name)


def test_the_grammar_names_every_part() -> None:
    for word in (*get_args(ActivationType), *get_args(WeightType), "perchannel", "pertensor", *RANGE_METHODS, *EXTRAS):
        assert word in GRAMMAR


def test_layers_of_their_own_are_counted_in_the_name() -> None:
    own = dataclasses.replace(
        RECIPES[DEFAULT_RECIPE], float_layers=("/fc/Gemm", "/conv/Conv"), layer_ranges=(("/a/Conv", "mse"),)
    )
    assert own.name == f"{DEFAULT_RECIPE}-2float-1ranges"
    assert TypeAdapter(FileName).validate_python(f"int8-{own.name}.onnx")
