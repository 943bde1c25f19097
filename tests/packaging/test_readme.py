"""The README of a package: what runs it exactly, and nothing of what is not in it."""

import numpy as np
import pytest

from edgecnn.packaging.acceptance import make_vectors
from edgecnn.packaging.readme import Subject, readme
from edgecnn.packaging.way import Way
from edgecnn.targets import reference_session
from tests.graphs import small_cnn

SESSION = reference_session(small_cnn().SerializeToString(), model_name="x")
VECTORS = make_vectors("float", SESSION, np.zeros((2, 3, 8, 8), np.float32), relative_tolerance=1e-3)
QNN = Way(provider="QNNExecutionProvider", runtime="1.32.0", requires=("onnxruntime==1.32.0", "onnxruntime-qnn==2.7.0"))
CPU = Way(provider="CPUExecutionProvider", runtime="1.32.0", requires=("onnxruntime==1.32.0",))


def written(way: Way, *files: str, checked: dict[str, float] | None = None) -> str:
    subject = Subject(
        name="net",
        target="there",
        summary="a chip",
        way=way,
        platform="arm",
        remedy=None if checked else "install it",
        checked=checked,
        notes=("One thing to know.",),
    )
    return readme(subject, {name: VECTORS for name in files if name.endswith((".onnx", ".ort"))}, files).decode()


def test_a_plugins_package_names_both_versions_and_its_one_program() -> None:
    text = written(QNN, "float.onnx", "float_ctx.onnx", "accept.py", checked={"float.onnx": 0.25})
    assert "**onnxruntime==1.32.0**, **onnxruntime-qnn==2.7.0**, execution provider `QNNExecutionProvider`" in text
    assert "`pip install onnxruntime==1.32.0 onnxruntime-qnn==2.7.0 numpy`" in text
    assert "fails a model of which a node\nran elsewhere" in text
    assert "`float_ctx.onnx` | the float model, compiled for it" in text
    assert "Run on there, the largest differences of a logit were: float.onnx 0.25." in text
    assert "\nOne thing to know.\n" in text
    for absent in ("accept.mjs", "Kotlin", "`.ort`", "required_operators", "To have it there", "$"):
        assert absent not in text


def test_other_packages_tell_of_every_program_and_of_the_ort_files() -> None:
    programs = ("accept.py", "accept.mjs", "accept.cpp", "Accept.kt", "Accept.swift")
    text = written(CPU, "float.onnx", "float.ort", "required_operators.config", *programs)
    assert all(f"`{name}` |" in text for name in programs)
    assert "optimized beforehand for Arm" in text
    assert "but for the `.ort` files, which it opens on the CPU" in text
    assert "**not run on there**" in text
    assert "To have it there: install it" in text
    assert "$" not in text


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("int8-qnn.onnx", "the int8 model made for this target"),
        ("int8-qnn_ctx.onnx", "the int8 model made for this target, compiled for it"),
        ("int8-xnnpack.ort", "the int8 model made for this target in ONNX Runtime's own format"),
        ("float_ctx.onnx", "the float model, compiled for it"),
    ],
)
def test_files_of_targets_own_are_told_by_their_names(name: str, what: str) -> None:
    assert f"| `{name}` | {what}" in written(QNN, name, "accept.py")
