"""What quantize takes over from a tuning, and when it does not."""

import dataclasses

import pytest

from edgecnn.bundle.manifest import Manifest
from edgecnn.errors import BundleError
from edgecnn.pipeline.quantize_settings import QuantizeSettings, recorded
from edgecnn.pipeline.tuned import applied_sentence, read_recipe, rewritten, tuning_to_apply
from edgecnn.quantization.recipes import RECIPES
from edgecnn.rewriting import REWRITES
from tests.graphs import small_cnn
from tests.tunings import tuning_record

FLOAT = "f" * 64


def manifest() -> Manifest:
    return Manifest(edgecnn_version="0", tuning=tuning_record())


def test_a_tuning_of_this_float_model_is_applied_with_its_images_and_seed() -> None:
    found = tuning_to_apply(manifest(), FLOAT, QuantizeSettings())
    assert found is not None
    assert found.recipe.name == "u8s8-perchannel-minmax-reduced-1float"
    assert (found.recipe.float_layers, found.rewrites) == (("fc3",), ("blocked-conv",))
    assert found.settings == QuantizeSettings(n_images=512, seed=3)


def test_images_that_the_user_names_are_the_users() -> None:
    found = tuning_to_apply(manifest(), FLOAT, QuantizeSettings(n_images=64))
    assert found is not None
    assert found.settings == QuantizeSettings(n_images=64)


@pytest.mark.parametrize(
    ("settings", "sha256"),
    [
        (QuantizeSettings(), "e" * 64),
        (QuantizeSettings(recipe="u8s8-perchannel-minmax"), FLOAT),
        (QuantizeSettings(max_drop_pp=0.3), FLOAT),
    ],
    ids=["another model", "a recipe", "a search"],
)
def test_it_is_not_applied_to_another_model_or_against_the_users_will(settings: QuantizeSettings, sha256: str) -> None:
    assert tuning_to_apply(manifest(), sha256, settings) is None
    assert tuning_to_apply(Manifest(edgecnn_version="0"), FLOAT, settings) is None


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_read_back_as_it_was_recorded(name: str) -> None:
    one = dataclasses.replace(RECIPES[name], float_layers=("a", "b"), layer_ranges=(("c", "mse"),), summary="")
    assert read_recipe(tuning_record().model_copy(update={"recipe": recorded(one)})) == one


@pytest.mark.parametrize("spoil", [{"mood": "good"}, {"float_layers": None}, {"layer_ranges": ["a"]}])
def test_a_recipe_of_another_version_is_refused(spoil: dict[str, object]) -> None:
    record = tuning_record()
    spoiled = record.model_copy(update={"recipe": {**record.recipe, **spoil}})
    with pytest.raises(BundleError, match="holds no recipe of this version") as caught:
        read_recipe(spoiled)
    assert caught.value.next_step == "edgecnn tune --force"


def test_another_type_of_machine_is_named_and_the_same_one_is_not() -> None:
    record = tuning_record()
    assert applied_sentence(record, record.machine) == (
        "as tuned for cpu: u8s8-perchannel-minmax-reduced-1float + blocked-conv (--recipe chooses another)"
    )
    other = record.machine.model_copy(update={"cpu": "Other CPU", "load_average": 7.0})
    assert "measured on another machine, Example CPU @ 2.50GHz (x86_64), not on this Other CPU" in applied_sentence(
        record, other
    )


def test_a_graph_in_which_nothing_can_be_rewritten_says_why() -> None:
    data = small_cnn().SerializeToString()
    found, why_not = rewritten(data, ["integer-chain"], name="m")  # it is for int8
    assert found == data
    assert why_not
    found, why_not = rewritten(data, list(REWRITES), name="m")
    assert found != data
    assert why_not == ()
