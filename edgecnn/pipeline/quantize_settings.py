"""What a user says of a quantization."""

import dataclasses
from dataclasses import dataclass

from pydantic import JsonValue

from edgecnn.errors import UsageError
from edgecnn.quantization.recipe_file import find_recipe
from edgecnn.quantization.recipes import DEFAULT_RECIPE, Recipe
from edgecnn.quantization.search import ladder


@dataclass(frozen=True, kw_only=True)
class QuantizeSettings:
    """How a network is quantized.

    Attributes:
        recipe: a row of the recipe table, a name that spells one out, or a ``.toml`` file; None for the default, or
            for several to choose from under ``max_drop_pp``.
        n_images: training images to calibrate on; None for 512, or all of a smaller set.
        seed: of their choice.
        max_drop_pp: search for the cheapest quantization that loses no more top-1 than this, in percentage points.
        n_held_out: other training images to judge on; None for 5,000, or all that are left of a smaller set.
    """

    recipe: str | None = None
    n_images: int | None = None
    seed: int = 0
    max_drop_pp: float | None = None
    n_held_out: int | None = None

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise UsageError(f"quantize: --seed must be at least 0, found {self.seed}.", next_step="--seed 0")
        if self.max_drop_pp is not None and not 0 <= self.max_drop_pp <= 100:
            raise UsageError(
                f"quantize: --max-drop is in percentage points, 0 to 100; found {self.max_drop_pp}.",
                next_step="--max-drop 0.3",
            )
        if self.n_held_out is not None and self.n_held_out < 1:
            raise UsageError(
                f"quantize: --held-out must be at least 1, found {self.n_held_out}.", next_step="--held-out 5000"
            )

    def recipes(self) -> list[Recipe]:
        """Return what is to be tried, in order.

        Raises:
            UsageError: there is no such recipe.
            InputError: a file cannot be read as one.
        """
        if self.recipe is None and self.max_drop_pp is not None:
            return ladder()
        return [find_recipe(self.recipe or DEFAULT_RECIPE)]


def recorded(recipe: Recipe) -> dict[str, JsonValue]:
    """Return the exact recipe as it stands in the manifest: enough to make the same bytes again."""
    fields = {key: value for key, value in dataclasses.asdict(recipe).items() if key != "summary"}
    fields["float_layers"] = list(recipe.float_layers)
    fields["layer_ranges"] = dict(recipe.layer_ranges)
    if not recipe.quantized_output:  # younger than the others: bundles made before it are still done
        del fields["quantized_output"]
    return {"name": recipe.name, **fields}
