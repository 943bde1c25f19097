"""Predictions in words: which model to ship, what cuts it, and how far the prediction reaches."""

import io

import pytest
from rich.console import Console

from edgecnn.bundle.prediction import PredictionRecord
from edgecnn.report.markdown import render
from edgecnn.report.prediction import prediction_items, prediction_sentences, prediction_view
from tests.bundles import fitted_manifest, prediction_record


def of(
    model: str, *, partitions: int, taken: int = 20, suitability: str = "yes", **changes: object
) -> PredictionRecord:
    """Return a prediction of a model of 20 nodes."""
    return prediction_record(
        model=model, nodes=20, supported_nodes=taken, partitions=partitions, suitability=suitability, **changes
    )


FLOAT = of("float.onnx", partitions=1, breakers=())
INT8 = of("int8.onnx", partitions=8, taken=6, suitability="no")


def test_the_model_that_is_cut_least_is_to_be_shipped() -> None:
    said = prediction_sentences([FLOAT, INT8])[0]
    assert said == "coreml MLProgram: ship float.onnx: 1 partition; 8 partitions in int8.onnx (cut by Mish|)."
    assert prediction_sentences([INT8, FLOAT])[0] == said


def test_models_that_are_cut_alike_are_named_together() -> None:
    other = of("int8.onnx", partitions=1, breakers=())
    assert prediction_sentences([FLOAT, other])[0] == "coreml MLProgram: ship float.onnx or int8.onnx: 1 partition."


def test_where_every_model_is_cut_too_often_none_is_to_be_shipped_yet() -> None:
    worse = of("float.onnx", partitions=4, taken=15, suitability="no")
    said = prediction_sentences([INT8, worse])
    assert said[0].startswith("coreml MLProgram: not worth trying yet; float.onnx is cut least: 4 partitions; 8 part")
    assert said[1] == "coreml MLProgram: 28 Mish| in float.onnx: is not taken; write something else."


@pytest.mark.parametrize(("partitions", "taken", "better"), [(1, 2, False), (2, 19, True)])
def test_suitability_goes_before_partitions(partitions: int, taken: int, better: bool) -> None:
    word = "maybe" if better else "no"
    other = of("int8.onnx", partitions=partitions, taken=taken, suitability=word, breakers=())
    lame = of("float.onnx", partitions=1, taken=3, suitability="no", breakers=())
    named = "int8.onnx" if better else "float.onnx"
    assert named in prediction_sentences([other, lame])[0].split(";")[0 if better else 1]


def test_a_model_of_which_nothing_is_taken_is_never_the_best() -> None:
    nothing = of("int8.onnx", partitions=0, taken=0, suitability="no", breakers=())
    some = of("float.onnx", partitions=5, taken=9, suitability="no", breakers=())
    said = prediction_sentences([nothing, some])[0]
    assert "float.onnx is cut least: 5 partitions; no node is taken in int8.onnx" in said


def test_each_form_of_a_provider_has_its_own_sentence() -> None:
    other = FLOAT.model_copy(update={"form": "NeuralNetwork"})
    assert [one.split(":")[0] for one in prediction_sentences([FLOAT, other])[:2]] == [
        "coreml MLProgram",
        "coreml NeuralNetwork",
    ]


def test_a_batch_that_varies_is_told_for_nnapi_alone() -> None:
    nnapi = FLOAT.model_copy(update={"target": "nnapi", "form": None})
    assert any("edgecnn export --batch 1" in one for one in prediction_sentences([nnapi]))
    fixed = nnapi.model_copy(update={"dynamic_batch": False})
    assert not any("--batch 1" in one for one in prediction_sentences([fixed, FLOAT]))


def test_cautions_and_what_was_not_checked_are_told_once() -> None:
    careful = FLOAT.model_copy(update={"cautions": ("fc: it may stay",)})
    said = prediction_sentences([careful, careful.model_copy(update={"model": "int8.onnx"})])
    assert [one for one in said if "may stay" in one] == ["coreml: fc: it may stay."]
    assert said[-1] == "Told from types of operators: conditions on Conv, Gemm are not checked (unchecked)."
    assert not any("Told from" in one for one in prediction_sentences([FLOAT.model_copy(update={"unchecked": ()})]))


def test_the_terminal_shows_every_prediction_and_says_that_nothing_ran() -> None:
    out = io.StringIO()
    Console(file=out, width=120).print(*prediction_items([FLOAT, INT8]))
    text = out.getvalue()
    assert "Predicted, not run" in text
    assert "6 of 20" in text
    assert "cut by Mish|" in " ".join(text.split())


def test_the_view_holds_the_records_and_the_sentences() -> None:
    view = prediction_view("folder", [FLOAT, INT8])
    assert view["path"] == "folder"
    assert [row["partitions"] for row in view["predictions"]] == [1, 8]
    assert view["predictions"][1]["breakers"][0]["op"] == "Mish|"
    assert view["sentences"] == prediction_sentences([FLOAT, INT8])


def test_the_report_says_the_same_sentences_and_nothing_breaks_out_of_a_cell() -> None:
    manifest = fitted_manifest()
    report = render(manifest, title="b").decode()
    assert "| int8.onnx | coreml MLProgram | 7 | 19 of 47 | no | onnxruntime 1.32.0 |" in report
    assert "(cut by Mish\\|)" in report
    assert "Predicted" not in render(manifest.model_copy(update={"predictions": ()}), title="b").decode()
