"""The saturation audit in words: what is safe is said to be, and nothing else."""

import pytest

from edgecnn.bundle.manifest import SaturationRecord
from edgecnn.report.saturation import saturation_sentences
from tests.bundles import saturation_record


def test_layers_that_can_saturate_are_named_with_the_cure() -> None:
    first, *_ = saturation_sentences(saturation_record())
    assert "can exceed 16 bits in conv_2" in first
    assert "--recipe u8s8-perchannel-minmax-reduced" in first
    assert "no dot product" not in first


def test_the_cure_is_a_recipe() -> None:
    from edgecnn.quantization.recipes import RECIPES

    first, *_ = saturation_sentences(saturation_record())
    assert RECIPES[first.split()[-1]].exact_everywhere


def test_what_is_not_known_is_not_said_to_be_safe() -> None:
    sentences = saturation_sentences(saturation_record(unsafe=0))
    assert sentences[0].startswith("x86 without VNNI: no dot product of the 2 layers audited can saturate")
    assert sentences[-1] == "Not known of attention: its weights are not constant."


def test_the_worst_of_all_layers_is_named() -> None:
    record = saturation_record(unsafe=0).model_copy(update={"unknown": {}})
    assert "no dot product can saturate; the worst sum of two products is -32131" in saturation_sentences(record)[0]


def test_what_may_overflow_on_arm_is_named() -> None:
    record = saturation_record(unsafe=0).model_copy(update={"may_overflow_on_arm": {"conv_1|x": 3}})
    assert any(
        sentence.startswith("Arm: two weights of -128") and "conv_1|x" in sentence
        for sentence in saturation_sentences(record)
    )
    assert not any("Arm" in sentence for sentence in saturation_sentences(saturation_record()))


@pytest.mark.parametrize("exempt", [{}, {"a": "it is widened", "b": "it is widened"}])
def test_nothing_to_audit_is_said(exempt: dict[str, str]) -> None:
    sentences = saturation_sentences(SaturationRecord(layers=(), exempt=exempt))
    assert sentences[0] == "x86 without VNNI: no dot product can saturate."
    assert sentences[1:] == (["Layers that cannot, whatever their weights: 2 (it is widened)."] if exempt else [])


def test_what_could_not_be_audited_is_not_said_to_be_safe() -> None:
    first, second = saturation_sentences(SaturationRecord(layers=(), unknown={"attention": "no constants"}))
    assert first == "x86 without VNNI: no layer could be audited."
    assert second == "Not known of attention: no constants."
