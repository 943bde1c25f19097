"""A recipe of one's own: a TOML file with the fields of :class:`~edgecnn.quantization.recipes.Recipe`.

::

    recipe = "u8s8-perchannel-minmax-reduced"     # what to start from
    equalize = true
    float_layers = ["/fc3/Gemm"]
    [layer_ranges]
    "/conv1/Conv" = "mse"
"""

import dataclasses
import reprlib
import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from edgecnn.errors import InputError
from edgecnn.quantization.range_methods import RangeMethod
from edgecnn.quantization.recipes import DEFAULT_RECIPE, ActivationType, Recipe, WeightType, recipe

MAX_BYTES = 2**20


class _Fields(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    recipe: str = DEFAULT_RECIPE
    activation: ActivationType | None = None
    weight: WeightType | None = None
    per_channel: bool | None = None
    ranges: RangeMethod | None = None
    symmetric: bool | None = None
    reduced: bool | None = None
    equalize: bool | None = None
    adaptive_rounding: bool | None = None
    correct_bias: bool | None = None
    quantized_output: bool | None = None
    qoperator: bool | None = None
    float_layers: list[str] | None = None
    layer_ranges: dict[str, RangeMethod] | None = None


def find_recipe(text: str) -> Recipe:
    """Return the recipe of a name, or of a ``.toml`` file.

    Raises:
        UsageError: there is no such recipe.
        InputError: the file cannot be read as one.
    """
    return read_recipe(Path(text)) if text.endswith(".toml") else recipe(text)


def read_recipe(path: Path) -> Recipe:
    """Read a recipe from a TOML file.

    Raises:
        UsageError: it starts from a recipe that does not exist.
        InputError: it cannot be read, is no TOML, or has a field that a recipe has not.
    """
    try:
        if not path.is_file():
            raise InputError(f"{path}: expected a recipe, found no file.", next_step="see docs/quantization.md")
        if path.stat().st_size > MAX_BYTES:
            raise InputError(
                f"{path}: is larger than {MAX_BYTES} bytes; a recipe is not.", next_step="see docs/quantization.md"
            )
        fields = _Fields.model_validate(tomllib.loads(path.read_text("utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        known = ", ".join(_Fields.model_fields)
        raise InputError(
            f"{path}: {where}: {first['msg']}, found {reprlib.repr(first['input'])}; a recipe has {known}.",
            next_step="see docs/quantization.md",
        ) from error
    except (OSError, ValueError, RecursionError) as error:  # not UTF-8, not TOML, endless digits, endless brackets
        raise InputError(
            f"{path}: cannot be read as a recipe ({error}).", next_step="see docs/quantization.md"
        ) from error
    said = fields.model_dump(exclude_none=True, exclude={"recipe"})
    if "float_layers" in said:
        said["float_layers"] = tuple(said["float_layers"])
    if "layer_ranges" in said:
        said["layer_ranges"] = tuple(sorted(said["layer_ranges"].items()))
    return dataclasses.replace(recipe(fields.recipe), **said, summary="")
