"""What each target is to run and what a bundle was proven on: figures of the manifest and no others."""

import io

from rich.console import Console

from edgecnn.report.fit import (
    fitted_items,
    fitted_sentences,
    fitted_view,
    proven_on,
)
from edgecnn.report.markdown import render
from tests.bundles import (
    emulated_result,
    fitted_manifest,
    fitted_record,
    fixed_manifest,
    saturation_record,
    search_record,
    validation_result,
)


def printed(items: list[object]) -> str:
    out = io.StringIO()
    Console(file=out, width=120).print(*items)
    return " ".join(out.getvalue().split())


def test_a_bundle_is_proven_where_it_was_validated_and_nowhere_else() -> None:
    manifest = fitted_manifest().model_copy(update={"validation": (validation_result(), emulated_result())})
    found = proven_on(manifest)
    assert [(one.target, one.model) for one in found] == [
        ("cpu", "int8.onnx"),
        ("cpu@haswell", "int8.onnx"),
        ("qnn", "int8-qnn.onnx"),
    ]
    assert found[0].versions == "python 3.12.9, onnxruntime 1.32.0"
    assert found[0].result is manifest.validation[0], "a view: nothing is copied and nothing measured"
    assert "coreml" not in {one.target for one in found}, "a prediction proves nothing"


def test_a_bundle_that_was_not_validated_is_proven_nowhere() -> None:
    bare = fixed_manifest().model_copy(update={"validation": ()})
    assert proven_on(bare) == []
    assert "Proven on" not in render(bare, title="b").decode()


def test_the_report_says_where_with_versions_and_what_to_ship() -> None:
    report = render(fitted_manifest(), title="b").decode()
    assert (
        "| qnn | int8-qnn.onnx | 8123 | +0.43 | python 3.12.9, onnxruntime 1.32.0 | Example CPU @ 2.50GHz |" in report
    )
    assert "| coreml | float.onnx | float |" in report
    assert "| qnn | int8-qnn.onnx | u16s8-perchannel-mse |" in report
    assert "it\\|wants that" in report
    assert "| int8-qnn.onnx | qnn | 3 | 1 | 23.5 | 38.1 | 0.612 |" in report
    assert "What to ship where" not in render(fixed_manifest(), title="b").decode()


def test_why_and_what_was_chosen_from_are_told() -> None:
    said = fitted_sentences(fitted_record())
    assert said[0] == "qnn: it|wants that."
    assert said[1] == (
        "qnn: on 4881 training images held apart u8s8-perchannel-mse loses +2.35, u16s8-perchannel-mse loses +0.46 "
        "points; 0.31 were allowed; none holds the budget, and the best of them was taken."
    )
    assert "none holds" not in fitted_sentences(fitted_record(choice=search_record()))[1]


def test_a_model_that_could_saturate_elsewhere_says_so_and_a_safe_one_does_not() -> None:
    assert fitted_sentences(fitted_record())[-1] == (
        "int8-qnn.onnx is for qnn alone: on x86 CPUs without VNNI dot products of 1 of its layers can saturate; "
        "int8.onnx is for them."
    )
    assert len(fitted_sentences(fitted_record(saturation=saturation_record(unsafe=0), choice=None))) == 1
    assert len(fitted_sentences(fitted_record(saturation=None, choice=None))) == 1


def test_any_says_what_the_audit_found() -> None:
    record = fitted_record(target="any", model="int8.onnx", choice=None, saturation=saturation_record(unsafe=0))
    assert fitted_sentences(record)[1].startswith("int8.onnx: x86 without VNNI: no dot product of the 2 layers audited")


def test_the_terminal_and_the_view_show_what_to_ship() -> None:
    manifest = fitted_manifest()
    text = printed(list(fitted_items(manifest.fitted, manifest.artifacts)))
    assert "qnn int8-qnn.onnx 81,234 u16s8-perchannel-mse" in text
    assert "coreml float.onnx 250,421 float" in text
    view = fitted_view("folder", manifest.fitted, manifest.artifacts, ["coreml"])
    qnn, coreml = view["fitted"]
    assert (qnn["size_bytes"], qnn["can_saturate"], qnn["unchanged"]) == (81234, 1, False)
    assert (coreml["recipe"], coreml["can_saturate"], coreml["unchanged"]) == (None, None, True)
    assert qnn["choice"]["tries"][0]["recipe"] == "u8s8-perchannel-mse"
