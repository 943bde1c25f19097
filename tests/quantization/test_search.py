"""The search: the first recipe that holds the budget, else the fewest float layers, else the best and the truth."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import onnx
import pytest

from edgecnn.progress import SILENT, Progress
from edgecnn.quantization import search as room
from edgecnn.quantization.judge import Judgement
from edgecnn.quantization.recipes import RECIPES, Recipe, recipe
from edgecnn.quantization.search import Found, ladder, search
from edgecnn.quantization.sensitivity import Sensitivity, measure_sensitivity
from edgecnn.stats import Comparison
from tests.ruined import CALIBRATION, LAYERS, PLAIN, judge, prepared

PER_TENSOR = recipe("u8s8-pertensor-minmax")
SIXTEEN = recipe("u16u8-perchannel-minmax")


def hunt(recipes: Sequence[Recipe], budget_pp: float, *, by: Any = None, progress: Progress = SILENT) -> Found:
    return search(recipes, budget_pp, prepared, CALIBRATION, by or judge(), threads=1, progress=progress)


def names(found: Found) -> list[str]:
    return [one.recipe.name for one in found.tries]


def test_the_first_recipe_that_holds_the_budget_ends_the_search() -> None:
    found = hunt([PER_TENSOR, PLAIN], 100)
    assert (names(found), found.best.met) == ([PER_TENSOR.name], True)
    assert found.best is found.tries[0]


class Scripted:
    """A judge that says how many points a model loses by which of its layers are float."""

    def __init__(self, drop_pp: Any) -> None:
        self._drop_pp = drop_pp
        self._real = judge()
        self.images = self._real.images

    def __call__(self, data: bytes) -> Judgement:
        model = onnx.load_model_from_string(data)
        made = {output for item in model.graph.node for output in item.output}
        kept = {item.name for item in model.graph.node if item.name in LAYERS and item.input[1] not in made}
        drop = self._drop_pp(frozenset(kept), data)
        return dataclasses.replace(self._real(data), drop_pp=Comparison(delta=drop, low=drop - 1, high=drop + 1))


def test_a_later_recipe_is_taken_where_the_first_loses_too_much() -> None:
    drops = iter([3.0, 0.4])
    found = hunt([PER_TENSOR, PLAIN], 0.5, by=Scripted(lambda kept, data: next(drops)))
    assert names(found) == [PER_TENSOR.name, PLAIN.name]
    assert [one.met for one in found.tries] == [False, True]
    assert found.best is found.tries[1]


def test_a_ruined_layer_stays_float_and_no_other() -> None:
    found = hunt([PER_TENSOR, PLAIN], 3.0)
    assert found.best.met
    assert found.best.recipe.float_layers == ("c2",)
    assert found.quantized.float_layers == ("c2",)
    assert found.tries[0].judgement.drop_pp.delta > 3
    assert names(found)[:2] == [PER_TENSOR.name, PLAIN.name]
    again = judge()(found.quantized.data)
    assert again == found.best.judgement, "the model is that of the best try"


def ranked(monkeypatch: pytest.MonkeyPatch, order: Sequence[str]) -> None:
    """Let the ranking put layers into another order than the right one."""

    def measure(*arguments: Any, **options: Any) -> Sensitivity:
        real = measure_sensitivity(*arguments, **options)
        by_name = {layer.layer: layer for layer in real.layers}
        return dataclasses.replace(real, layers=tuple(by_name[name] for name in order))

    monkeypatch.setattr(room, "measure_sensitivity", measure)


def test_a_float_layer_that_was_not_needed_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    ranked(monkeypatch, ["fc1", "c3", "c2", "c1", "fc2"])
    found = hunt([PLAIN], 3.0)
    assert [one.recipe.float_layers for one in found.tries] == [
        (), ("fc1",), ("fc1", "c3"), ("fc1", "c3", "c2"), ("c3", "c2"), ("c2",),
    ]  # fmt: skip
    assert found.best.recipe.float_layers == ("c2",)


def test_a_layer_that_is_needed_is_not_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    ranked(monkeypatch, ["fc1", "c3", "c2", "c1", "fc2"])
    needed = Scripted(lambda kept, data: 0.0 if {"fc1", "c2"} <= kept else 9.0)
    found = hunt([PLAIN], 3.0, by=needed)
    assert found.best.recipe.float_layers == ("fc1", "c2")
    assert [one.recipe.float_layers for one in found.tries][-2:] == [("c3", "c2"), ("fc1", "c2")]


def test_float_layers_that_the_user_named_stay_float(monkeypatch: pytest.MonkeyPatch) -> None:
    ranked(monkeypatch, ["c2", "fc1", "c3", "c1", "fc2"])
    asked = dataclasses.replace(PLAIN, float_layers=("fc2",))
    found = hunt([asked], 3.0)
    assert found.best.recipe.float_layers == ("fc2", "c2")
    assert all("fc2" in one.recipe.float_layers for one in found.tries)


def test_a_budget_that_cannot_be_met_gives_the_best_and_says_so() -> None:
    drops = {frozenset(): 7.0, frozenset({"c2"}): 2.0}
    found = hunt([PLAIN], 0.5, by=Scripted(lambda kept, data: drops.get(kept, 4.0)))
    assert (found.best.met, found.best.recipe.float_layers, found.best.judgement.drop_pp.delta) == (False, ("c2",), 2.0)
    assert len(found.tries) == 1 + len(LAYERS) - 1, "with all but one layer float it gives up"
    assert not any(one.met for one in found.tries)
    assert max(len(one.recipe.float_layers) for one in found.tries) == len(LAYERS) - 1


def test_a_budget_is_held_in_decimals() -> None:
    exactly = 100 * 0.029
    assert exactly > 2.9
    assert hunt([PLAIN], 2.9, by=Scripted(lambda kept, data: exactly)).best.met
    assert not hunt([PLAIN], 2.9, by=Scripted(lambda kept, data: 2.90001)).best.met


class Listener:
    def __init__(self) -> None:
        self.told: list[str] = []

    def say(self, text: str) -> None:
        self.told.append(text)

    def update(self, task: str, done: int, total: int, detail: str = "") -> None:
        pass


def test_every_try_is_told() -> None:
    listener = Listener()
    found = hunt([PER_TENSOR, PLAIN], 3.0, progress=listener)
    lines = [line for line in listener.told if " dB: " in line]
    assert len(lines) == len(found.tries)
    for line, one in zip(lines, found.tries, strict=True):
        assert line.startswith(f"{one.recipe.name}: {one.judgement.drop_pp.delta:+.2f} points (")
        assert line.endswith("enough" if one.met else "too much")
    base = dataclasses.replace(found.best.recipe, float_layers=())
    assert f"no recipe alone is enough; looking for the layers that cost most with {base.name}" in listener.told


def test_the_ladder_holds_recipes_that_answer_alike_on_every_cpu() -> None:
    rungs = ladder()
    assert len(rungs) == len({rung.name for rung in rungs}) > 1
    assert all(rung.exact_everywhere for rung in rungs)
    assert rungs[0].name in RECIPES
