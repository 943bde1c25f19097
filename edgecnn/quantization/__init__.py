"""Static post-training quantization to int8: recipes, ranges, and the QDQ graph."""

from edgecnn.quantization.recipes import DEFAULT_RECIPE, RECIPES, Recipe, recipe

__all__ = ["DEFAULT_RECIPE", "RECIPES", "Recipe", "recipe"]
