"""Recipes of one's own: what a TOML file can say, what is refused, and that layers really get what it says."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest

from edgecnn.errors import EdgecnnError, ExitCode, InputError, UsageError
from edgecnn.progress import SILENT
from edgecnn.quantization import DEFAULT_RECIPE, RECIPES, Recipe
from edgecnn.quantization.recipe_file import MAX_BYTES, find_recipe, read_recipe
from edgecnn.quantization.static import quantize_model
from tests.graphs import small_cnn
from tests.quantization.test_static import IMAGES, Graph, expected_range, values_of

DEFAULT = RECIPES[DEFAULT_RECIPE]


def write(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "own.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(tmp_path: Path, text: str | bytes) -> Recipe:
    return read_recipe(write(tmp_path, text))


PLAIN = RECIPES["u8s8-perchannel-minmax-reduced"]

# What it can say


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ('activation = "s16"', "activation", "s16"),
        ('weight = "u8"', "weight", "u8"),
        ("per_channel = false", "per_channel", False),
        ('ranges = "entropy"', "ranges", "entropy"),
        ("symmetric = true", "symmetric", True),
        ("reduced = false", "reduced", False),
        ("equalize = true", "equalize", True),
        ("adaptive_rounding = true", "adaptive_rounding", True),
        ("correct_bias = true", "correct_bias", True),
        ("quantized_output = true", "quantized_output", True),
        ("qoperator = true", "qoperator", True),
        ('float_layers = ["b", "a"]', "float_layers", ("b", "a")),
        ("[layer_ranges]\nb = 'mse'\na = 'minmax'", "layer_ranges", (("a", "minmax"), ("b", "mse"))),
    ],
)
def test_each_field_changes_that_field_alone(tmp_path: Path, text: str, field: str, value: object) -> None:
    changes: dict[str, Any] = {field: value, "summary": ""}
    assert read(tmp_path, f"recipe = '{PLAIN.name}'\n{text}") == dataclasses.replace(PLAIN, **changes)
    assert getattr(PLAIN, field) != value


def test_every_field_of_a_recipe_can_be_said_but_its_summary(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, "unheard = 1")
    for field in dataclasses.fields(Recipe):
        assert (field.name in caught.value.message) == (field.name != "summary")


def test_an_empty_file_is_the_default(tmp_path: Path) -> None:
    assert read(tmp_path, "") == dataclasses.replace(DEFAULT, summary="")


@pytest.mark.parametrize("base", [*RECIPES, "s16s8-pertensor-average-symmetric"])
def test_it_may_start_from_any_recipe(tmp_path: Path, base: str) -> None:
    found = read(tmp_path, f'recipe = "{base}"\nfloat_layers = ["fc"]')
    assert found.name == f"{base}-1float"


def test_what_ends_in_toml_is_a_file_and_all_else_a_name(tmp_path: Path) -> None:
    path = write(tmp_path, "equalize = true")
    assert find_recipe(str(path)).equalize
    assert find_recipe("s8s8-perchannel-minmax") is RECIPES["s8s8-perchannel-minmax"]
    with pytest.raises(UsageError, match="unknown recipe 'own'"):
        find_recipe("own")


# What is refused


def refused(path: Path, error: type[EdgecnnError], words: str) -> EdgecnnError:
    with pytest.raises(error) as caught:
        read_recipe(path)
    assert type(caught.value) is error
    assert words in caught.value.message
    assert caught.value.next_step
    assert len(caught.value.message) < 1000
    return caught.value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("equalise = true", "equalise: Extra inputs are not permitted"),
        ('summary = "mine"', "summary: Extra inputs"),
        ("per_channel = 1", "per_channel: Input should be a valid boolean, found 1"),
        ('reduced = "yes"', "reduced: Input should be a valid boolean, found 'yes'"),
        ('activation = "u4"', "activation: Input should be 'u8', 's8', 'u16' or 's16', found 'u4'"),
        ('ranges = "kl"', "found 'kl'"),
        ('float_layers = "fc"', "float_layers: Input should be a valid list"),
        ("float_layers = [1]", "float_layers.0: Input should be a valid string, found 1"),
        ("layer_ranges = ['fc']", "layer_ranges: Input should be a valid dictionary"),
        ("[layer_ranges]\nfc = 'kl'", "layer_ranges.fc: Input should be 'minmax'"),
        ("recipe = 3", "recipe: Input should be a valid string, found 3"),
        ("equalize = " + "[" * 50 + "]" * 50, "equalize: Input should be a valid boolean"),
        (f'equalize = "{"a" * 100_000}"', "found 'aaaa"),
    ],
)
def test_a_wrong_field_is_named_with_what_was_found(tmp_path: Path, text: str, words: str) -> None:
    error = refused(write(tmp_path, text), InputError, words)
    assert "own.toml: " in error.message
    assert error.exit_code == ExitCode.BAD_INPUT


@pytest.mark.parametrize(
    "text",
    [
        "equalize = tru",
        "equalize: true",
        '{"equalize": true}',
        "equalize = true\nequalize = true",
        b"\xff\xfe\x00",
        b"PK\x03\x04",
        "equalize = " + "[" * 100_000,
        "equalize = " + "1" * 10_000,
    ],
    ids=["word", "yaml", "json", "twice", "not utf-8", "zip", "deep", "long number"],
)
def test_what_is_no_toml_is_refused(tmp_path: Path, text: str | bytes) -> None:
    refused(write(tmp_path, text), InputError, "own.toml: cannot be read as a recipe (")


def test_a_file_may_be_as_large_as_said_and_no_larger(tmp_path: Path) -> None:
    assert read(tmp_path, "#" * MAX_BYTES) == dataclasses.replace(DEFAULT, summary="")
    refused(write(tmp_path, "#" * (MAX_BYTES + 1)), InputError, f"larger than {MAX_BYTES} bytes")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")  # reading it would wait for ever
    for path in (tmp_path / "none.toml", tmp_path, tmp_path / "pipe.toml"):
        refused(path, InputError, "expected a recipe, found no file")


def test_a_base_that_does_not_exist_lists_those_that_do(tmp_path: Path) -> None:
    error = refused(write(tmp_path, 'recipe = "int4"'), UsageError, "unknown recipe 'int4'")
    assert DEFAULT_RECIPE in error.message


def test_one_file_does_not_start_from_another(tmp_path: Path) -> None:
    refused(write(tmp_path, 'recipe = "own.toml"'), UsageError, "unknown recipe 'own.toml'")


def test_what_cannot_go_together_is_a_wrong_use(tmp_path: Path) -> None:
    refused(write(tmp_path, "qoperator = true\ncorrect_bias = true"), UsageError, "operators on integers")


# That layers get what it says


def quantized(recipe: Recipe) -> Graph:
    data = small_cnn().SerializeToString()
    return Graph(quantize_model(data, IMAGES, recipe, name="ours.onnx", threads=1, progress=SILENT))


@pytest.mark.parametrize("base", [DEFAULT_RECIPE, "u8u8-pertensor-minmax-qoperator", "s8s8-pertensor-mse-symmetric"])
def test_float_layers_stay_float_and_the_others_do_not(tmp_path: Path, base: str) -> None:
    graph = quantized(read(tmp_path, f'recipe = "{base}"\nfloat_layers = ["fc"]'))
    fc = graph.layers["fc"]
    assert (fc.op_type, list(fc.input[1:])) == ("Gemm", ["fc_w", "fc_b"])
    assert graph.constants["fc_w"].dtype == "float32"
    assert "conv_w" not in graph.constants
    assert {array.dtype.name for name, array in graph.constants.items() if name.startswith("conv_w")} >= {
        "uint8" if "u8u8" in base else "int8"
    }


@pytest.mark.parametrize("layer", ["conv", "relu"])
def test_a_layer_or_the_activation_behind_it_gets_its_range_by_the_method_it_names(tmp_path: Path, layer: str) -> None:
    graph = quantized(read(tmp_path, f'recipe = "u8s8-perchannel-minmax"\n[layer_ranges]\n{layer} = "average"'))
    low, high = expected_range(values_of(small_cnn(), "relu"), RECIPES["u8s8-perchannel-minmax"])
    averages = values_of(small_cnn(), "relu").reshape(len(IMAGES), -1).max(1).mean(dtype="float64")
    assert float(graph.operand("fc", 0).scale) == pytest.approx(averages / 255, rel=1e-5)
    assert averages < 0.9 * high
    assert low == 0
    assert float(graph.operand("conv", 0).scale) == pytest.approx(float(IMAGES.pixels.max()) / 255 / 255, rel=1e-5)


@pytest.mark.parametrize("text", ['float_layers = ["fc", "conv9"]', "[layer_ranges]\nconv9 = 'mse'"])
def test_a_layer_that_the_model_has_not_is_listed_with_those_it_has(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        quantized(read(tmp_path, text))
    assert caught.value.message == "ours.onnx: has no layer conv9; it has conv, relu, pool, flatten, fc."
    assert caught.value.exit_code == ExitCode.USAGE
