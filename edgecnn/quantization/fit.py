"""Which recipe fits which target, and why: one row a provider.

Providers differ in the integers that they take, and one that takes none runs none: it hands the nodes to the CPU. Each
reason was seen with onnxruntime, or read in its provider, as ``docs/fit.md`` says.
"""

from dataclasses import dataclass

from edgecnn.errors import UsageError
from edgecnn.quantization.recipes import DEFAULT_RECIPE, Recipe, recipe
from edgecnn.targets import TARGETS, target

#: Points that the cheaper of two recipes may lose on training images held apart before the dearer one is taken.
FIT_MAX_DROP_PP = 0.3


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What a target is to be given.

    Attributes:
        recipes: by name, the cheapest first; the first that holds the drop budget is taken. None of them: the target
            takes no integers.
        reason: why, in a sentence.
        ships_float: whether ``float.onnx`` is what the target should run.
    """

    recipes: tuple[str, ...]
    reason: str
    ships_float: bool = False

    def candidates(self) -> list[Recipe]:
        """Return the recipes, the cheapest first."""
        return [recipe(name) for name in self.recipes]

    @property
    def is_default(self) -> bool:
        """Whether it is the recipe that ``int8.onnx`` has unless someone says otherwise."""
        return self.recipes == (DEFAULT_RECIPE,) and not self.ships_float


#: By provider; ``cpu`` is every ``cpu@...`` as well. The least that is true of each is in its reason.
FITS: dict[str, Fit] = {
    "any": Fit(
        recipes=("u8s8-perchannel-minmax-reduced-equalized-rounded-corrected",),
        reason="7-bit weights: no dot product can saturate on any CPU, with VNNI or without",
    ),
    "cpu": Fit(
        recipes=("u8s8-perchannel-minmax-reduced-equalized-rounded-corrected",),
        reason="7-bit weights give the same answers on CPUs with and without VNNI; edgecnn tune finds what is fastest",
    ),
    "wasm": Fit(
        recipes=("u8s8-perchannel-minmax-reduced-equalized-rounded-corrected",),
        reason="the kernels of the CPU, compiled to WebAssembly: what holds for every CPU holds there",
    ),
    "openvino": Fit(
        recipes=("u8s8-perchannel-minmax-reduced-equalized-rounded-corrected",),
        reason="OpenVINO reads quantize and dequantize with u8 activations, and runs on CPUs without VNNI, too",
    ),
    "nnapi": Fit(
        recipes=("u8s8-perchannel-minmax-reduced-equalized-rounded-corrected",),
        reason="NNAPI takes u8 activations alone, with s8 weights of one scale for each channel in convolutions",
    ),
    "xnnpack": Fit(
        recipes=("s8s8-perchannel-minmax-equalized-rounded-corrected",),
        reason="XNNPACK takes convolutions with s8 activations and s8 weights; of u8 with s8 it takes the pools alone",
    ),
    "qnn": Fit(
        recipes=(
            "u8s8-perchannel-minmax-equalized-rounded-corrected-qoutput",
            "u16s8-perchannel-minmax-equalized-rounded-corrected-qoutput",
        ),
        reason="Hexagon sums in 32 bits and needs no 7-bit weights; 16-bit activations where 8 bits lose too much",
    ),
    "coreml": Fit(
        recipes=("u8s8-perchannel-minmax-reduced-equalized-rounded-corrected",),
        ships_float=True,
        reason="CoreML takes no quantize and dequantize: each would be a cut, and every layer between them float",
    ),
    "webgpu": Fit(
        recipes=(),
        ships_float=True,
        reason="WebGPU computes in float: integers would be converted around every layer",
    ),
}


def fit_for(name: str) -> tuple[str, Fit]:
    """Return the row of a target, and its name: that of the provider, without the machine.

    Raises:
        UsageError: there is no such target, or no recipe is known for it.
    """
    provider = name.partition("@")[0]
    if name not in FITS and name not in TARGETS:
        known = ", ".join(dict.fromkeys([*FITS, *TARGETS]))
        if provider not in FITS or "://" not in name:
            raise UsageError(f"--for: unknown target {name!r}; known: {known}.", next_step="--for any")
        target(name)
    if provider not in FITS:
        raise UsageError(
            f"--for {name}: no recipe is known for it; known: {', '.join(FITS)}.", next_step="--for any, or --recipe"
        )
    return provider, FITS[provider]
