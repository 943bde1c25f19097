"""What a user says of a tuning."""

from dataclasses import dataclass
from typing import cast, get_args

from edgecnn.bundle.tuning import Objective
from edgecnn.errors import UsageError
from edgecnn.measure.latency import available_cpus
from edgecnn.pipeline.quantize_settings import QuantizeSettings
from edgecnn.quantization.recipe_file import find_recipe
from edgecnn.quantization.recipes import Recipe
from edgecnn.tuning.recipes_tried import recipes_tried

#: Top-1 that int8 may lose on the images held apart, in percentage points, unless the user says otherwise.
TUNE_MAX_DROP_PP = 0.5
TUNE_SECONDS = 60.0
#: Images a call where throughput is the objective.
THROUGHPUT_BATCH = 64


def parse_objective(text: str) -> Objective:
    """Return an objective.

    Raises:
        UsageError: there is no such objective; the known ones are listed.
    """
    for known in get_args(Objective):
        if text == known:
            return cast("Objective", text)
    raise UsageError(
        f"tune: unknown objective {text!r}; known: {', '.join(get_args(Objective))}.", next_step="--objective latency"
    )


@dataclass(frozen=True, kw_only=True)
class TuneSettings:
    """How a network is tuned.

    Attributes:
        target: row of the target table, on which everything is measured.
        max_drop_pp: top-1 that int8 may lose on training images held apart, in percentage points.
        objective: ``latency``, ``throughput`` or ``size``.
        seconds: about how long it may take; the last race and the least number of heats are run in any case.
        threads: up to how many are tried; the process is pinned to as many CPUs.
        batch: images a call; None for 1, or 64 for throughput.
        recipe: to try this one alone; None for one for each set of kernels.
        n_images: training images to calibrate on; None for 512, or half of a small set.
        n_held_out: others to judge on; None for 5,000, or all that are left.
        seed: of the choice of images and the order of measurements.
    """

    target: str = "cpu"
    max_drop_pp: float = TUNE_MAX_DROP_PP
    objective: Objective = "latency"
    seconds: float = TUNE_SECONDS
    threads: int = 1
    batch: int | None = None
    recipe: str | None = None
    n_images: int | None = None
    n_held_out: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        parse_objective(self.objective)
        if not 0 < self.seconds < float("inf"):
            raise UsageError(
                f"tune: --seconds must be above 0 and finite, found {self.seconds:g}.",
                next_step=f"--seconds {TUNE_SECONDS:g}",
            )
        if not 0 <= self.max_drop_pp <= 100:
            raise UsageError(
                f"tune: --max-drop is in percentage points, 0 to 100; found {self.max_drop_pp:g}.",
                next_step=f"--max-drop {TUNE_MAX_DROP_PP:g}",
            )
        cpus = available_cpus()
        if not 1 <= self.threads <= cpus:
            raise UsageError(
                f"tune: --threads must be 1 to {cpus}, the CPUs of this process; found {self.threads}.",
                next_step="--threads 1",
            )
        if self.batch is not None and self.batch < 1:
            raise UsageError(f"tune: --batch must be at least 1, found {self.batch}.", next_step="--batch 1")
        self.quantize_settings()  # what is wrong with the others is said before anything is read

    @property
    def images_a_call(self) -> int:
        """The batch, decided."""
        if self.batch is not None:
            return self.batch
        return THROUGHPUT_BATCH if self.objective == "throughput" else 1

    def quantize_settings(self) -> QuantizeSettings:
        """Return the settings of the images."""
        return QuantizeSettings(n_images=self.n_images, n_held_out=self.n_held_out, seed=self.seed)

    def recipes(self) -> list[Recipe]:
        """Return what is to be tried, in order.

        Raises:
            UsageError: there is no such recipe.
            InputError: a file cannot be read as one.
        """
        return recipes_tried() if self.recipe is None else [find_recipe(self.recipe)]
