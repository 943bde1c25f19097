"""A package as a table, and as JSON."""

import hashlib

from edgecnn.report.package import PackageFigures, package_items, package_view
from tests.terminal import shown

FIGURES = PackageFigures(
    folder="b-for-cpu",
    target="cpu",
    files={"float.onnx": b"12345", "float.ort": b"123", "accept.py": b""},
    tolerances={"float.onnx": 0.001, "float.ort": 0.001},
    conversion={"float.ort": 3.8e-06},
    checked={"float.onnx": 0.0002},
)
ELSEWHERE = PackageFigures(
    folder="b-for-coreml",
    target="coreml",
    files={"float.onnx": b"1"},
    tolerances={"float.onnx": 0.001},
    conversion={},
    checked=None,
)


def test_the_json_holds_every_file_and_how_far_each_model_is() -> None:
    found = package_view(FIGURES)
    assert (found["package"], found["target"], found["checked_on_target"]) == ("b-for-cpu", "cpu", True)
    assert found["models"] == [
        {"path": "float.onnx", "tolerance": 0.001, "difference_here": 0.0, "difference_on_target": 0.0002},
        {"path": "float.ort", "tolerance": 0.001, "difference_here": 3.8e-06, "difference_on_target": None},
    ]
    assert found["files"][0] == {
        "path": "float.onnx",
        "sha256": hashlib.sha256(b"12345").hexdigest(),
        "size_bytes": 5,
    }


def test_the_table_says_what_was_not_run() -> None:
    text = "\n".join(map(shown, package_items(FIGURES)))
    assert "0.0002" in text
    assert "not run" in text
    assert "package: b-for-cpu, and 1 other files" in text
    assert "is not available here" not in text


def test_what_the_cpu_cannot_run_is_told_and_so_are_the_notes() -> None:
    figures = PackageFigures(
        folder="b-for-qnn",
        target="qnn",
        files={"float.onnx": b"1", "float_ctx.onnx": b"2"},
        tolerances={"float.onnx": 0.25, "float_ctx.onnx": 0.25},
        conversion={"float_ctx.onnx": None},
        checked={"float.onnx": 0.125, "float_ctx.onnx": 0.125},
        notes=("Tolerances were measured.",),
    )
    found = package_view(figures)
    assert [model["difference_here"] for model in found["models"]] == [0.0, None]
    assert found["notes"] == ["Tolerances were measured."]
    text = "\n".join(map(shown, package_items(figures)))
    assert "cannot run" in text
    assert "Tolerances were measured." in text


def test_a_target_out_of_reach_is_named() -> None:
    text = "\n".join(map(shown, package_items(ELSEWHERE)))
    assert "coreml is not available here, so nothing was run on it" in text
