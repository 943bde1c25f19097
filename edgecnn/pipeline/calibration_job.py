"""What quantizing and sensitivity share: images that set the ranges, others to judge on, and the model."""

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import JsonValue

from edgecnn.bundle import Bundle
from edgecnn.bundle.manifest import CalibrationRecord
from edgecnn.data import Dataset, Images
from edgecnn.errors import DataError
from edgecnn.pipeline.context import Options
from edgecnn.pipeline.export import FLOAT_MODEL
from edgecnn.pipeline.quantize_settings import QuantizeSettings, recorded
from edgecnn.progress import Progress
from edgecnn.quantization.calibration import choose_calibration_images, count_calibration_images
from edgecnn.quantization.recipes import Recipe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onnx import ModelProto

    from edgecnn.quantization.judge import Judge, Judgement
    from edgecnn.quantization.prepare import Prepared
    from edgecnn.quantization.range_methods import Range

#: Training images to calibrate on, unless the user says otherwise or the set is smaller.
N_IMAGES = 512
#: Other training images to judge on.
N_HELD_OUT = 5000


@dataclass(kw_only=True)
class CalibrationJob:
    """A float model about to be quantized, once or many times.

    Attributes:
        name: what to call the model in a message.
        model: the float ONNX file.
        dataset: its images.
        settings: what the user said.
        recipes: to try, in order.
        n_images: how many set the ranges.
        n_held_out: how many others judge; 0 where nothing is judged.
        progress: told what happens.
        rewrites: of the quantized graph, by name.
    """

    name: str
    model: bytes
    dataset: Dataset
    settings: QuantizeSettings
    recipes: list[Recipe]
    n_images: int
    n_held_out: int
    progress: Progress
    rewrites: tuple[str, ...] = ()
    _prepared: "dict[Any, Prepared]" = field(default_factory=dict)

    def recorded(self) -> dict[str, JsonValue]:
        """Return what decides the outcome, as it stands in the manifest."""
        images: dict[str, JsonValue] = {"images": self.n_images, "seed": self.settings.seed}
        if self.settings.max_drop_pp is None:
            rewrites: dict[str, JsonValue] = {"rewrites": list(self.rewrites)} if self.rewrites else {}
            return {"recipe": recorded(self.recipes[0]), **images, **rewrites}
        search: dict[str, JsonValue] = {
            "max_drop_pp": self.settings.max_drop_pp,
            "held_out": self.n_held_out,
            "recipes": [recorded(one) for one in self.recipes],
        }
        return {**images, **search}

    def choose_images(self) -> None:
        """Choose the images that set the ranges, and the others.

        Raises:
            DataError: there are too few.
        """
        chosen, record = choose_calibration_images(self.dataset, self.n_images + self.n_held_out, self.settings.seed)
        self.images: Images = chosen.take(np.arange(self.n_images))
        self.held_out: Images = chosen.take(np.arange(self.n_images, self.n_images + self.n_held_out))
        if self.n_held_out and set(self.images.content_sha256()) & set(self.held_out.content_sha256()):
            apart = ~np.isin(self.held_out.content_sha256(), self.images.content_sha256())
            self.held_out = self.held_out.take(np.flatnonzero(apart))
        if self.n_held_out and not len(self.held_out):
            raise DataError(
                f"quantize: {self.dataset.name} repeats its training images: each of the {self.n_held_out} held apart "
                "is one of those that set the ranges.",
                next_step="give more training images with --data, or set more apart with --held-out",
            )
        self.calibration: CalibrationRecord = record.model_copy(
            update={"n": self.n_images, "image_sha256": record.image_sha256[: self.n_images]}
        )

    @cached_property
    def threads(self) -> int:
        """As many as this process may use."""
        from edgecnn.measure.latency import available_cpus

        return available_cpus()

    @cached_property
    def graph(self) -> "ModelProto":
        """The float model, checked, with a name for every node: layers are told apart by it."""
        from edgecnn.graph.node_names import with_node_names
        from edgecnn.quantization.prepare import read_float_model
        from edgecnn.quantization.static import needed_opset

        needs_opset = max(map(needed_opset, self.recipes))
        return with_node_names(read_float_model(self.model, self.name, needs_opset=needs_opset))

    def prepare(self, recipe: Recipe, known: "Mapping[str, Range] | None" = None) -> "Prepared":
        """Look at the activations for a recipe; what several recipes need is done once."""
        from edgecnn.quantization.prepare import prepare
        from edgecnn.quantization.range_methods import RANGE_METHODS

        methods = {recipe.ranges, *(method for _, method in recipe.layer_ranges)}
        counted = any(RANGE_METHODS[method].needs_histogram for method in methods)
        key = (recipe.equalize, recipe.symmetric, counted)
        if key not in self._prepared:
            self._prepared[key] = prepare(
                self.graph,
                self.images,
                recipe,
                name=self.name,
                threads=self.threads,
                progress=self.progress,
                known=known,
            )
        return self._prepared[key]

    def judge(self) -> "Judge":
        """Return a judge on the images held apart."""
        from edgecnn.quantization.judge import Judge

        return Judge(self.model, self.held_out, threads=self.threads)


def calibration_job(
    bundle: Bundle,
    dataset: Dataset,
    model: bytes,
    settings: QuantizeSettings,
    options: Options,
    *,
    judges: bool = False,
) -> CalibrationJob:
    """Return the job of a bundle, sizes decided; no image is chosen yet.

    Args:
        judges: whether images are held apart although no search is asked for.

    Raises:
        DataError: there are too few training images for both.
    """
    available = count_calibration_images(dataset)
    n_images = settings.n_images if settings.n_images is not None else min(N_IMAGES, available) or N_IMAGES
    n_held_out = 0
    if judges or settings.max_drop_pp is not None:
        if settings.n_images is None:
            n_images = min(N_IMAGES, max(1, available // 2))
        n_held_out = settings.n_held_out or max(1, min(N_HELD_OUT, available - n_images))
        _require_images(dataset, available, n_images, n_held_out)
    return CalibrationJob(
        name=str(bundle.path(FLOAT_MODEL)),
        model=model,
        dataset=dataset,
        settings=settings,
        recipes=settings.recipes(),
        n_images=n_images,
        n_held_out=n_held_out,
        progress=options.progress,
    )


def _require_images(dataset: Dataset, available: int, n_images: int, n_held_out: int) -> None:
    if n_images < 1:
        raise DataError(
            f"quantize: expected at least one calibration image, found {n_images}.", next_step="--images 512"
        )
    if n_images + n_held_out > available:
        half = available // 2
        raise DataError(
            f"quantize: {n_images} images that set the ranges and {n_held_out} others to judge on were asked for; "
            f"{dataset.name} has {len(dataset.train)} training images, of which {available} are not test images.",
            next_step=f"--images {half} --held-out {half}" if half else "give more training images with --data",
        )


def judgement_fields(judgement: "Judgement") -> dict[str, Any]:
    """Return the fields of a JudgementRecord."""
    return {
        "drop_pp": judgement.drop_pp.delta,
        "drop_pp_low": judgement.drop_pp.low,
        "drop_pp_high": judgement.drop_pp.high,
        "sqnr_db": finite(judgement.sqnr_db),
    }


def finite(value: float) -> float | None:
    """Return None for infinity, which JSON has not."""
    return value if math.isfinite(value) else None
