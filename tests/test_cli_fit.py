"""``quantize --for``, ``run --for``, ``targets predict`` and measuring by name, as a user types them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgecnn.cli import _main
from tests.bundles import read_manifest, snapshot
from tests.golden_files import assert_golden

Call = Callable[..., tuple[int, str, str]]
DOCUMENT = Path(__file__).parents[1] / "docs" / "json.md"


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    """Return a way to run a command in this process: exit code, stdout with its white space folded, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        code = _main([str(argument) for argument in arguments])
        found = capfd.readouterr()
        return code, " ".join(found.out.split()), " ".join(found.err.split())

    return run


def test_the_help_of_predicting(capfd: pytest.CaptureFixture[str]) -> None:
    assert _main(["targets", "predict", "--help"]) == 0
    assert_golden("help-targets-predict.txt", capfd.readouterr().out)


def test_quantize_for_targets_says_what_to_ship(bundle_copy: Path, call: Call) -> None:
    arguments = ("quantize", "--bundle", bundle_copy, "--images", 32, "--for", "xnnpack", "--for", "coreml")
    code, out, _ = call(*arguments)
    assert code == 0
    assert "xnnpack int8-xnnpack.onnx" in out
    assert "coreml float.onnx" in out
    assert "CoreML takes no quantize and dequantize" in out
    code, _, err = call(*arguments)
    assert code == 0
    assert "--for xnnpack: nothing changed, not done again (--force does it again)" in err


def test_quantize_for_as_json_has_the_documented_fields(bundle_copy: Path, call: Call) -> None:
    code, out, _ = call("quantize", "--bundle", bundle_copy, "--images", 32, "--for", "xnnpack", "--json")
    found: dict[str, Any] = json.loads(out)
    assert code == 0
    assert found.keys() == {"bundle", "fitted", "verdict"}
    (row,) = found["fitted"]
    documented = DOCUMENT.read_text().split("## `quantize --for`")[1].split("```")[1]
    assert all(f'"{name}"' in documented for name in row)
    assert row["model_sha256"] == snapshot(bundle_copy)["int8-xnnpack.onnx"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--for", "nonsense"], "unknown target 'nonsense'; known: any, cpu, wasm"),
        (["--for", "qnn", "--recipe", "u8s8-perchannel-minmax"], "--for qnn chooses the recipe, --recipe"),
        (["--for", "xnnpack", "--max-drop", "1"], "nothing for --max-drop to choose"),
        (["--for", "webgpu", "--anyway"], "takes no int8"),
        (["--anyway"], "--anyway goes with --for"),
    ],
)
def test_bad_words_after_for_are_exit_code_2_and_change_nothing(
    bundle_copy: Path, call: Call, arguments: list[str], said: str
) -> None:
    before = snapshot(bundle_copy)
    code, out, err = call("quantize", "--bundle", bundle_copy, *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert "Next: " in err
    assert snapshot(bundle_copy) == before


def test_a_targets_model_is_validated_and_benched_by_name(bundle_copy: Path, call: Call) -> None:
    call("quantize", "--bundle", bundle_copy, "--images", 32, "--for", "xnnpack")
    name = ("--bundle", bundle_copy, "--model", "int8-xnnpack.onnx")
    code, out, _ = call("validate", *name, "--max-drop", 100)
    assert code == 0
    assert "int8 is int8-xnnpack.onnx on cpu." in out
    assert "accuracy drop on cpu, int8-xnnpack.onnx" in out
    code, out, _ = call("bench", *name, "--pairs", 6, "--rounds", 1, "--seconds", 0.1, "--json")
    found = json.loads(out)
    assert code == 0
    assert [(row["int8_model"], row["target"]) for row in found["results"]] == [("int8-xnnpack.onnx", "cpu")]
    saved = bundle_copy.parent / "saved.json"
    code, out, _ = call("bench", *name, "--pairs", 6, "--rounds", 1, "--seconds", 0.1, "--profile", "--save", saved)
    assert (code, "Layers on cpu" in out) == (0, True)
    size = (bundle_copy / "int8-xnnpack.onnx").stat().st_size
    assert json.loads(saved.read_text())["models"]["int8-xnnpack.onnx"]["size_bytes"] == size
    code, _, err = call("validate", "--bundle", bundle_copy, "--model", "int8-qnn.onnx")
    assert code == 3
    assert "it has int8-xnnpack.onnx. Next: edgecnn quantize --for qnn" in err


def test_int8_by_its_own_name_is_what_it_is_without(bundle_copy: Path, call: Call) -> None:
    code, out, _ = call("validate", "--bundle", bundle_copy, "--model", "int8.onnx", "--max-drop", 100, "--json")
    assert code == 0
    assert "results" in json.loads(out)


def test_predictions_are_shown_and_kept(bundle_copy: Path, call: Call) -> None:
    code, out, _ = call("targets", "predict", "--bundle", bundle_copy)
    assert code == 0
    assert "Predicted, not run" in out
    assert "coreml MLProgram: ship float.onnx: 1 partition; 8 partitions in int8.onnx" in out
    assert len(read_manifest(bundle_copy).predictions) == 6


def test_predictions_as_json_have_the_documented_fields(bundle_copy: Path, call: Call) -> None:
    model = bundle_copy / "float.onnx"
    code, out, _ = call("targets", "predict", model, "--provider", "nnapi", "--json")
    found = json.loads(out)
    assert code == 0
    (row,) = found["predictions"]
    documented = DOCUMENT.read_text().split("## `targets predict`")[1].split("```")[1]
    assert all(f'"{name}"' in documented for name in (*found, *row))
    assert json.loads(call("targets", "--json", "predict", model, "--provider", "nnapi")[1]) == found


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--provider", "qnn"], 2, "qnn: is not predicted; known: coreml, nnapi"),
        (["none.onnx"], 2, "takes a file or a bundle, found both"),
    ],
)
def test_what_cannot_be_predicted_is_refused(
    bundle_copy: Path, call: Call, arguments: list[str], code: int, said: str
) -> None:
    found, out, err = call("targets", "predict", *arguments, "--bundle", bundle_copy)
    assert (found, out) == (code, "")
    assert said in err


def test_run_for_a_target_shows_what_to_ship(bundle_copy: Path, call: Call) -> None:
    arguments = ("run", "--bundle", bundle_copy, "--epochs", 2, "--max-drop", 100, "--tune-seconds", 0)
    code, out, _ = call(*arguments, "--for", "coreml")
    assert code == 0
    assert "What to ship" in out
    assert "coreml float.onnx" in out
    code, _, err = call(*arguments, "--for", "any", "--recipe", "u8s8-pertensor-minmax")
    assert (code, "--for any chooses the recipe" in err) == (2, True)
