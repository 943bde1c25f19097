"""The choice among recipes of a target: the first that loses little enough, on images held apart."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgecnn.bundle import Bundle
from edgecnn.data import load
from edgecnn.pipeline.calibration_job import CalibrationJob
from edgecnn.pipeline.context import Options
from edgecnn.pipeline.fit_model import fitting_job, make_fitted
from edgecnn.pipeline.quantize_settings import QuantizeSettings
from edgecnn.quantization.fit import Fit
from edgecnn.quantization.judge import Judge, Judgement
from edgecnn.stats import Comparison

CHEAP, MIDDLE, DEAR = "u8s8-pertensor-minmax", "u8s8-perchannel-minmax", "u16s8-perchannel-minmax"
MakeJob = Callable[..., CalibrationJob]


@pytest.fixture
def make_job(finished_bundle: Path) -> MakeJob:
    def make(*recipes: str, max_drop_pp: float | None = None) -> CalibrationJob:
        bundle = Bundle.open(finished_bundle)
        settings = QuantizeSettings(n_images=16, n_held_out=64 if len(recipes) > 1 else None, max_drop_pp=max_drop_pp)
        row = Fit(recipes=recipes, reason="it wants that")
        dataset = load("digits", height=32, width=32)
        return fitting_job(bundle, dataset, bundle.read("float.onnx", next_step=""), row, settings, Options())

    return make


@pytest.fixture
def drops(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[float]], None]:
    """Return what makes the judge find these drops, one after the other."""

    def plant(values: list[float]) -> None:
        left = list(values)

        def judge(self: Judge, data: bytes) -> Judgement:
            drop = left.pop(0)
            return Judgement(drop_pp=Comparison(delta=drop, low=drop - 1, high=drop + 1), sqnr_db=np.inf, agreement=1)

        monkeypatch.setattr(Judge, "__call__", judge)

    return plant


@pytest.mark.parametrize(
    ("values", "budget", "chosen", "tried", "met"),
    [
        ([0.1], 0.3, CHEAP, 1, True),
        ([0.3], 0.3, CHEAP, 1, True),
        ([0.31, -0.5], 0.3, MIDDLE, 2, True),
        ([5.0, 0.9, 0.2], 0.3, DEAR, 3, True),
        ([5.0, 0.4, 0.9], 0.3, MIDDLE, 3, False),
        ([0.1, 0.2, 0.0], 0.0, DEAR, 3, True),
    ],
)
def test_the_first_recipe_within_the_budget_is_taken_else_the_one_that_loses_least(
    make_job: MakeJob,
    drops: Callable[[list[float]], None],
    values: list[float],
    budget: float,
    chosen: str,
    tried: int,
    met: bool,
) -> None:
    drops(values)
    _, recipe, record = make_fitted(make_job(CHEAP, MIDDLE, DEAR, max_drop_pp=budget))
    assert recipe.name == chosen
    assert record is not None
    assert (record.met, record.max_drop_pp, record.n) == (met, budget, 64)
    assert [one.drop_pp for one in record.tries] == values[:tried]
    assert [one.recipe for one in record.tries] == [CHEAP, MIDDLE, DEAR][:tried]


def test_what_is_returned_is_the_model_of_the_chosen_recipe(
    make_job: MakeJob, drops: Callable[[list[float]], None]
) -> None:
    drops([9.0, 0.0])
    chosen, _, _ = make_fitted(make_job(CHEAP, MIDDLE, max_drop_pp=1))
    alone, _, record = make_fitted(make_job(MIDDLE))
    assert chosen.data == alone.data
    assert record is None, "there was nothing to choose"


def test_images_are_held_apart_only_for_a_choice(make_job: MakeJob) -> None:
    alone, several = make_job(CHEAP), make_job(CHEAP, MIDDLE)
    assert (alone.n_held_out, several.n_held_out) == (0, 64)
    several.choose_images()
    assert not set(several.images.content_sha256()) & set(several.held_out.content_sha256())
    assert "max_drop_pp" in several.recorded()
    assert "max_drop_pp" not in alone.recorded()
