"""The recipes that tuning tries where the user names none: one for each set of kernels that ONNX Runtime has.

Equalization, rounding and bias correction change no kernel, so each is as exact as it can be. None of them can saturate
on an x86 CPU without VNNI: accuracy is judged on this machine, and must hold on the target.
"""

from edgecnn.quantization.recipes import DEFAULT_RECIPE, Recipe, recipe

RECIPES_TRIED = (
    DEFAULT_RECIPE,
    "u8s8-perchannel-minmax-reduced-equalized-qoperator",
    "s8s8-perchannel-minmax-reduced-equalized-rounded-corrected",
    "u8u8-perchannel-minmax-equalized-rounded-corrected",
    "u8s8-pertensor-minmax-reduced-equalized-rounded-corrected",
)


def recipes_tried() -> list[Recipe]:
    """Return them, the default first."""
    return [recipe(name) for name in RECIPES_TRIED]
