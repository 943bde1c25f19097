"""Search and sensitivity on a terminal and as JSON: every figure, and no promise that was not kept."""

import io

from edgecnn.bundle.manifest import SensitivityRecord
from edgecnn.report.quantization import (
    search_items,
    search_sentence,
    search_view,
    sensitivity_items,
    sensitivity_view,
)
from tests.bundles import judgement, search_record, sensitivity_record


def shown(items: "list[object]") -> str:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=120, markup=True)
    for item in items:
        console.print(item)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_every_try_is_a_row() -> None:
    text = shown([*search_items(search_record())])
    assert "4,987 training images held apart" in text
    for words in ("u8s8-pertensor-minmax-2float", "+2.35", "+2.14..+2.56", "22.3"):
        assert words in text
    assert text.count("met") >= 2


def test_the_sentence_names_the_fewest_float_layers_that_will_do() -> None:
    assert search_sentence(search_record()) == (
        "u8s8-pertensor-minmax-1float loses +0.23 points; 0.35 were allowed; float stay conv_1|x."
    )


def test_a_budget_that_was_not_met_is_said_with_the_best() -> None:
    assert search_sentence(search_record(met=False)) == (
        "The budget of 0.35 points cannot be met; the best found is u8s8-pertensor-minmax-2float, which loses "
        "+0.12 (-0.09..+0.34)."
    )


def test_a_recipe_that_does_without_float_layers_names_none() -> None:
    record = search_record()
    met = record.tries[0].model_copy(update={"met": True, "drop_pp": 0.1})
    assert "float stay" not in search_sentence(record.model_copy(update={"tries": (met,)}))


def bars(record: SensitivityRecord) -> dict[str, int]:
    """Return how long each layer's bar is."""
    lines = [line.split() for line in shown([*sensitivity_items(record)]).splitlines() if "█" in line]
    return {words[0]: words[-1].count("█") for words in lines}


def test_every_layer_is_a_row_and_the_first_has_the_longest_bar() -> None:
    record = sensitivity_record()
    text = shown([*sensitivity_items(record)])
    for words in ("conv_1|x", "12.3", "exact", "15.2", "+1.36", "37.4", "+0.04", "43.2", "41.4", "3,987", "+23.2"):
        assert words in text
    assert "All layers in integers: 14.2 dB, +1.46 points" in " ".join(text.split())
    assert bars(record) == {"conv_1|x": 30}


def test_a_layer_that_makes_the_logits_exact_wins_more_than_any_other() -> None:
    record = sensitivity_record()
    exact = record.layers[0].model_copy(update={"all_but": judgement(0.0, None)})
    other = record.layers[1].model_copy(update={"all_but": judgement(0.5, 20.15)})
    changed = record.model_copy(update={"layers": (exact, other)})
    assert bars(changed) == {"conv_1|x": 30, "conv_2": 30}
    rows = [line.split() for line in shown([*sensitivity_items(changed)]).splitlines()]
    assert ["conv_1|x", "exact", "█" * 30] in rows


def test_layers_that_gain_nothing_have_no_bar() -> None:
    record = sensitivity_record()
    assert bars(record.model_copy(update={"whole": judgement(0.0, None)})) == {}
    assert bars(record.model_copy(update={"whole": judgement(0.0, 99.0)})) == {}


def test_a_strangers_layer_is_no_markup() -> None:
    record = sensitivity_record()
    named = record.layers[0].model_copy(update={"layer": "[/x][bold]"})
    assert shown([*sensitivity_items(record.model_copy(update={"layers": (named,)}))]).count("[/x][bold]") == 2


def test_json_holds_the_records() -> None:
    assert search_view(None) == {}
    assert search_view(search_record())["search"]["tries"][2]["float_layers"] == ["conv_1|x"]
    view = sensitivity_view("artifacts/x", sensitivity_record())
    assert view.keys() == {"bundle", "recipe", "n", "whole", "layers"}
    assert view["layers"][0]["activation_sqnr_db"] is None
    assert view["layers"][0]["alone"]["drop_pp"] == 1.357
