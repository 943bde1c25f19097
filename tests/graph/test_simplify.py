"""Simplifying: the same function in fewer nodes, and a message for every way onnxsim can fail."""

import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper

from edgecnn.bundle.manifest import ParityRecord
from edgecnn.errors import ExitCode, ModelError, ParityError, StageError
from edgecnn.graph import onnx_file, onnxsim_process, simplify
from edgecnn.graph.image_comparison import compare_on_images
from edgecnn.graph.onnxsim_process import Limits
from edgecnn.graph.parity import BATCH_SIZES, with_extremes
from edgecnn.graph.simplify import Simplified, simplify_model
from tests.graphs import Array, copy, evaluate, make_model, node, small_cnn, weights
from tests.support import make_images

IMAGES = make_images(12, size=8)
N_COMPARED = len(with_extremes(IMAGES.pixels))
X = {"x": np.ascontiguousarray(IMAGES.pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))}


def verbose(batch: int | str = "N") -> ModelProto:
    """Return a network with a batch normalization, an Identity and a sum of constants to get rid of."""
    random = np.random.default_rng(0)
    return make_model(
        [
            node("Identity", ["x"], ["same"]),
            node("Conv", ["same", "w"], ["conv"]),
            node("BatchNormalization", ["conv", "gain", "shift", "mean", "variance"], ["norm"]),
            node("Relu", ["norm"], ["relu"]),
            node("Flatten", ["relu"], ["flat"]),
            node("Add", ["half", "half"], ["whole"]),
            node("Gemm", ["flat", "fc", "whole"], ["y"]),
        ],
        {
            "w": random.normal(size=(4, 3, 3, 3)),
            "gain": random.uniform(0.5, 2, 4),
            "shift": random.normal(size=4),
            "mean": random.normal(size=4),
            "variance": random.uniform(0.5, 2, 4),
            "fc": random.normal(size=(144, 5)),
            "half": random.normal(size=5),
        },
        inputs={"x": (batch, 3, 8, 8)},
        outputs={"y": (batch, 5)},
    )


def run(model: ModelProto, **options: Any) -> Simplified[ParityRecord]:
    data = bytes(model.SerializeToString())
    comparison = compare_on_images(data, IMAGES.pixels, "bundle/float.onnx")
    return simplify_model(data, comparison, name="bundle/float.onnx", **options)


def onnxsim_gives(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    """Let onnxsim answer the same, whatever it is given and whichever passes are left out."""
    monkeypatch.setattr(simplify, "run_onnxsim", lambda data, skipped, limits: answer)


def behaves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
    """Put a shell script in the place of the Python that would run onnxsim."""
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


@pytest.fixture(scope="module")
def simplified() -> Simplified[ParityRecord]:
    return run(verbose())


def test_what_is_superfluous_goes_and_the_answers_stay(simplified: Simplified[ParityRecord]) -> None:
    model = onnx_file.parse(simplified.data, "simplified")
    assert sorted(item.op_type for item in model.graph.node) == ["Conv", "Flatten", "Gemm", "Relu"]
    expected, found = evaluate(verbose(), X)[0], evaluate(model, X)[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_the_record_says_what_was_counted_and_compared(simplified: Simplified[ParityRecord]) -> None:
    assert simplified.nodes_before == {
        "Identity": 1,
        "Conv": 1,
        "BatchNormalization": 1,
        "Relu": 1,
        "Flatten": 1,
        "Add": 1,
        "Gemm": 1,
    }
    assert simplified.nodes_after == {"Conv": 1, "Relu": 1, "Flatten": 1, "Gemm": 1}
    parity = simplified.record
    assert (parity.stage, parity.reference, parity.n) == ("simplify", "the exported model", N_COMPARED)
    assert parity.batch_sizes == BATCH_SIZES
    assert parity.max_relative_difference < 1e-5


def test_the_versions_stay_and_the_same_model_gives_the_same_bytes(simplified: Simplified[ParityRecord]) -> None:
    model = onnx_file.parse(simplified.data, "simplified")
    assert (model.ir_version, model.opset_import[0].version) == (8, 18)
    assert (model.producer_name, model.producer_version) == ("edgecnn", "")
    assert run(verbose()).data == simplified.data


def test_a_newer_ir_that_onnxsim_writes_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    newer = small_cnn()
    newer.ir_version = 10
    onnxsim_gives(monkeypatch, newer.SerializeToString())
    assert onnx_file.parse(run(small_cnn()).data, "simplified").ir_version == 8


def test_a_fixed_batch_stays_fixed_and_is_compared_at_its_size() -> None:
    simplified = run(verbose(batch=5))
    model = onnx_file.parse(simplified.data, "simplified")
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 5
    assert (simplified.record.batch_sizes, simplified.record.n) == ((5,), N_COMPARED)


def reversed_weights(values: Array) -> Array:
    return values[::-1]


def one_percent_more(values: Array) -> Array:
    return values * np.float32(1.01)


@pytest.mark.parametrize("change", [reversed_weights, one_percent_more])
@pytest.mark.parametrize("tensor", ["conv_w", "conv_b", "fc_w", "fc_b"])
def test_scrambled_weights_are_found(
    tensor: str, change: Callable[[Array], Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    scrambled = copy(small_cnn())
    for item in scrambled.graph.initializer:
        if item.name == tensor:
            item.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(change(weights(scrambled)[tensor])), tensor))
    onnxsim_gives(monkeypatch, scrambled.SerializeToString())
    with pytest.raises(ParityError, match="the simplified model and the exported model differ") as caught:
        run(small_cnn())
    assert "Nothing was written" in caught.value.message
    assert caught.value.next_step


@pytest.mark.parametrize("answer", [b"", b"Simplifying...\n", small_cnn().SerializeToString()[:-50]])
def test_an_answer_that_is_no_model_is_refused(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    onnxsim_gives(monkeypatch, answer)
    with pytest.raises(ModelError, match="the simplified model"):
        run(small_cnn())


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL])
def test_a_crash_is_a_message_that_names_the_signal(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    behaves(monkeypatch, tmp_path, f"echo 'free(): invalid pointer' >&2\nkill -{int(number)} $$")
    with pytest.raises(StageError) as caught:
        run(small_cnn())
    assert caught.value.exit_code == ExitCode.STAGE_FAILED
    assert f"onnxsim ended with signal {int(number)} (free(): invalid pointer)" in caught.value.message
    assert "go on with the model as it is" in caught.value.next_step


def test_a_failure_names_the_code_and_the_last_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    behaves(monkeypatch, tmp_path, "echo Traceback >&2\necho 'ValueError: no shapes' >&2\nexit 3")
    with pytest.raises(StageError, match=r"ended with code 3 \(ValueError: no shapes\)"):
        run(small_cnn())


def test_a_silent_failure_is_said_to_be_silent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    behaves(monkeypatch, tmp_path, "exit 1")
    with pytest.raises(StageError, match=r"ended with code 1 \(it said nothing\)"):
        run(small_cnn())


def test_a_process_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    behaves(monkeypatch, tmp_path, f"echo $$ > {tmp_path / 'pid'}\nexec sleep 600")
    with pytest.raises(StageError, match="did not finish within 2 s") as caught:
        run(small_cnn(), limits=Limits(seconds=2))
    assert "--time-limit" in caught.value.next_step
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


def test_a_broken_model_never_reaches_onnxsim(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    behaves(monkeypatch, tmp_path, f"touch {tmp_path / 'started'}")
    comparison = compare_on_images(small_cnn().SerializeToString(), IMAGES.pixels, "bundle/float.onnx")
    with pytest.raises(ModelError, match=r"bundle/float\.onnx"):
        simplify_model(small_cnn().SerializeToString()[:-50], comparison, name="bundle/float.onnx")
    assert not (tmp_path / "started").exists()


def test_no_module_of_the_current_folder_or_the_workers_is_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("onnx.py", "onnxsim.py"):
        (tmp_path / name).write_text("raise SystemExit('a stranger was here')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(onnxsim_process, "WORKER", shutil.copy(onnxsim_process.WORKER, tmp_path))
    assert run(small_cnn()).record.n == N_COMPARED


def test_a_branch_that_no_real_image_takes_is_compared_too(monkeypatch: pytest.MonkeyPatch) -> None:
    # The brightest pixel of a photograph is never the darkest one as well; only a white image is all white.
    def darkest(threshold: float) -> ModelProto:
        return make_model(
            [
                node("ReduceMin", ["x", "axes"], ["darkest"], keepdims=0),
                node("Sub", ["darkest", "threshold"], ["beyond"]),
                node("Relu", ["beyond"], ["seen"]),
                node("Unsqueeze", ["seen", "last"], ["column"]),
                node("Concat", ["column", "column"], ["y"], axis=1),
            ],
            {"axes": np.array([1, 2, 3]), "threshold": threshold, "last": np.array([1])},
            outputs={"y": ("N", 2)},
        )

    onnxsim_gives(monkeypatch, darkest(0.8).SerializeToString())
    with pytest.raises(ParityError, match="the simplified model and the exported model differ"):
        run(darkest(0.9))


#: A stand-in for onnxsim that spoils a weight in the passes named, and does nothing in the others.
SPOILER = """
import os
import numpy as np
from onnx import numpy_helper

class onnxsim_cpp2py_export:
    _list_optimizers = staticmethod(lambda: [f"pass_{index}" for index in range(11)])

def simplify(model, skipped_optimizers, skip_constant_folding, skip_shape_inference):
    skipped = skipped_optimizers + ["constant_folding"] * skip_constant_folding
    for spoiled in os.environ["SPOILED"].split():
        name, tensor = spoiled.split("=")
        for weight in model.graph.initializer:
            if weight.name == tensor and name not in skipped:
                weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.1), tensor))
    return model, True
"""


@pytest.fixture
def spoil(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Return a function that says which pass spoils which weight: ``pass=weight``, several with spaces between."""
    (tmp_path / "onnxsim.py").write_text(SPOILER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return lambda text: monkeypatch.setenv("SPOILED", text)


@pytest.mark.parametrize("name", ["pass_0", "pass_5", "pass_10", "constant_folding"])
def test_the_pass_that_changes_the_answers_is_found_and_left_out(spoil: Callable[[str], None], name: str) -> None:
    spoil(f"{name}=fc_w")
    found = run(small_cnn())
    assert [one.name for one in found.skipped] == [name]
    assert "the first layer that differs is Gemm 'fc'" in found.skipped[0].reason
    assert onnx_file.serialize(small_cnn()) == found.data


def test_two_passes_that_change_the_answers_are_found_both(spoil: Callable[[str], None]) -> None:
    spoil("pass_7=conv_w pass_2=fc_w")
    found = run(small_cnn())
    assert {one.name for one in found.skipped} == {"pass_7", "pass_2"}
    assert "Conv 'conv'" in found.skipped[0].reason
    assert found.record.max_relative_difference == 0


def test_what_no_pass_is_to_blame_for_is_an_error_that_names_the_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    scrambled = copy(small_cnn())
    scrambled.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(weights(scrambled)["conv_w"] * np.float32(2), "conv_w")
    )
    onnxsim_gives(monkeypatch, scrambled.SerializeToString())
    with pytest.raises(ParityError, match="No pass of onnxsim alone does it; the first layer that differs is Conv"):
        run(small_cnn())


def test_layer_by_layer_on_demand_every_tensor_has_a_twin() -> None:
    layers = run(small_cnn(), bisect=True).layers
    assert layers is not None
    assert (layers.first, layers.n, layers.n_equal) == (None, 6, 6)
    assert run(small_cnn()).layers is None


def test_labels_in_the_model_stay_in_it() -> None:
    labelled = small_cnn()
    onnx_file.write_labels(labelled, ["cat", "dog", "sea lion"])
    assert onnx_file.read_labels(onnx_file.parse(run(labelled).data, "simplified")) == ("cat", "dog", "sea lion")
