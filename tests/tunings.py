"""A made-up tuning to test with."""

import dataclasses
from pathlib import Path

from edgecnn.bundle.tuning import CandidateRecord, ConfigurationRecord, RatioRecord, RecommendationRecord, TuningRecord
from edgecnn.pipeline.quantize_settings import recorded
from edgecnn.quantization.recipes import recipe
from tests.bundles import MACHINE, NOON, read_manifest

PLAIN = "u8s8-perchannel-minmax-reduced"
CHOSEN = dataclasses.replace(recipe(PLAIN), float_layers=("fc3",), summary="")


def ratio(median: float, low: float, high: float) -> RatioRecord:
    return RatioRecord(median=median, low=low, high=high)


def configuration(
    recipe: str | None = PLAIN, *, rewrites: tuple[str, ...] = (), session: str = "default"
) -> ConfigurationRecord:
    name = " + ".join((recipe or "float", *rewrites, *([session] if session != "default" else [])))
    form = "float" if recipe is None else "int8"
    return ConfigurationRecord(name=name, form=form, recipe=recipe, rewrites=rewrites, session=session)


def tuning_record() -> TuningRecord:
    """Return a tuning in which a rewritten int8 won."""
    stock = CandidateRecord(
        stage="recipes", configuration=configuration(None), size_bytes=250447, drop_pp=0, drop_pp_low=-0.04,
        drop_pp_high=0.04, cost=25.77, heats=6, against_float=ratio(1, 1, 1), on_front=True,
    )  # fmt: skip
    slow = CandidateRecord(
        stage="recipes", configuration=configuration(), size_bytes=73417, drop_pp=0.1, drop_pp_low=-0.18,
        drop_pp_high=0.38, cost=41.65, heats=6, against_float=ratio(1.617, 1.598, 1.695),
        dropped=f"after 6 heats: slower than {PLAIN} + blocked-conv",
    )  # fmt: skip
    refused = CandidateRecord(
        stage="recipes", configuration=configuration("u8u8-perchannel-minmax", rewrites=("blocked-conv",)),
        dropped="refused: rewritten, it puts 4524 of 5,000 images into another class",
    )  # fmt: skip
    won = CandidateRecord(
        stage="final", configuration=configuration(CHOSEN.name, rewrites=("blocked-conv",)), size_bytes=91363,
        drop_pp=0.14, drop_pp_low=-0.15, drop_pp_high=0.43, cost=16.76, heats=24,
        against_float=ratio(0.659, 0.657, 0.662), on_front=True,
    )  # fmt: skip
    return TuningRecord(
        target="cpu",
        unit="us",
        objective="latency",
        max_drop_pp=0.5,
        seconds=60,
        seed=3,
        batch=1,
        threads=1,
        pinned_cpus=(1,),
        n_images=512,
        n_held_out=5000,
        float_sha256="f" * 64,
        int8_sha256="8" * 64,
        chosen=won.configuration,
        recipe=recorded(CHOSEN),
        met=True,
        candidates=(stock, slow, refused, won),
        notes=("no layer of int8 is faster in float",),
        machine=MACHINE,
        measured_at=NOON,
    )


def recommendation_record() -> RecommendationRecord:
    """Return what that tuning recommends."""
    return RecommendationRecord(
        model="int8.onnx",
        sha256="8" * 64,
        int8_sha256="8" * 64,
        configuration=configuration(CHOSEN.name, rewrites=("blocked-conv",), session="no-arena"),
        why="the best in latency that loses at most 0.5 points",
        speedup=ratio(1.572, 1.564, 1.579),
        drop_pp=0.14,
        drop_pp_low=-0.15,
        drop_pp_high=0.43,
        target="cpu",
        unit="us",
        objective="latency",
        machine=MACHINE,
        measured_at=NOON,
    )


def plant_tuning(folder: Path, *, n_images: int = 32) -> None:
    """Let a bundle's manifest say that a rewritten int8 won, so that ``quantize`` makes it."""
    manifest = read_manifest(folder)
    of_float = manifest.artifact("float.onnx")
    assert of_float is not None
    told = {"float_sha256": of_float.sha256, "n_images": n_images, "recipe": recorded(recipe(PLAIN))}
    record = tuning_record().model_copy(update=told)
    (folder / "manifest.json").write_text(manifest.model_copy(update={"tuning": record}).model_dump_json())
