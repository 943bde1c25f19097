"""What can be tried: one way to make the file, and one way to open it."""

from dataclasses import dataclass

from edgecnn.bundle.tuning import ConfigurationRecord, Form
from edgecnn.quantization.recipes import Recipe
from edgecnn.targets.session_options import DEFAULT_SESSION, SESSION_OPTIONS


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A configuration; without a recipe it is float, and with nothing at all the stock float.onnx.

    Attributes:
        recipe: how it is quantized, or None.
        rewrites: names of graph rewrites, in the order in which they are done.
        session: row of the table of session options.
        threads: for ONNX Runtime's operators.
    """

    recipe: Recipe | None = None
    rewrites: tuple[str, ...] = ()
    session: str = DEFAULT_SESSION
    threads: int = 1

    @property
    def form(self) -> Form:
        """``float`` or ``int8``."""
        return "float" if self.recipe is None else "int8"

    @property
    def name(self) -> str:
        """The configuration in words; no two have the same."""
        parts = ["float" if self.recipe is None else self.recipe.name, *self.rewrites]
        if self.recipe is not None and self.recipe.float_layers:
            parts.append(f"[float: {', '.join(self.recipe.float_layers)}]")
        parts += [self.session] if self.session != DEFAULT_SESSION else []
        parts += [f"{self.threads} threads"] if self.threads != 1 else []
        return " + ".join(parts)

    @property
    def file(self) -> tuple[Recipe | None, tuple[str, ...]]:
        """What decides the bytes."""
        return self.recipe, self.rewrites

    def complexity(self) -> tuple[int, ...]:
        """Return how far it is from the stock float model: of two that measure alike the lesser one is taken.

        Float before int8, then fewer rewrites, fewer float layers in int8, pairs of quantize and dequantize before
        operators on integers, session options in the order of their table, fewer threads. What is still equal keeps
        the order in which it was tried.
        """
        recipe = self.recipe
        return (
            int(recipe is not None),
            len(self.rewrites),
            len(recipe.float_layers) if recipe else 0,
            int(recipe.qoperator) if recipe else 0,
            list(SESSION_OPTIONS).index(self.session),
            self.threads,
        )

    def record(self) -> ConfigurationRecord:
        """Return it as it stands in the manifest."""
        return ConfigurationRecord(
            name=self.name,
            form=self.form,
            recipe=None if self.recipe is None else self.recipe.name,
            float_layers=() if self.recipe is None else self.recipe.float_layers,
            rewrites=self.rewrites,
            session=self.session,
            threads=self.threads,
        )


#: The stock float.onnx: what everything is measured against.
STOCK = Candidate()
