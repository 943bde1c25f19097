"""What ONNX Runtime makes of an int8 model: other answers are counted, and what stays float is listed with why."""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto

from edgecnn.bundle.manifest import FusionRecord
from edgecnn.data.images import Images
from edgecnn.errors import ModelError, StageError
from edgecnn.progress import SILENT
from edgecnn.quantization import fusion
from edgecnn.quantization.fusion import N_IMAGES, audit_fusion
from edgecnn.quantization.recipes import recipe
from edgecnn.quantization.static import quantize_prepared
from edgecnn.targets import reference_session
from tests.graphs import Array, make_model, node, small_cnn
from tests.quantization.test_static import quantize
from tests.ruined import CALIBRATION, PLAIN, prepared
from tests.support import make_images

IMAGES = make_images(50, size=8, split="test")


def audit(data: bytes, images: Images = IMAGES) -> FusionRecord:
    return audit_fusion(data, images, reference_session(data, model_name="m").input, name="int8.onnx")


def between(op: str, **attributes: int) -> ModelProto:
    """Return Conv, an operator, Conv, Flatten, Gemm."""
    random = np.random.default_rng(0)
    return make_model(
        [
            node("Conv", ["x", "w1"], ["a"], name="first"),
            node(op, ["a"], ["b"], name="between", **attributes),
            node("Conv", ["b", "w2"], ["c"], name="second"),
            node("Flatten", ["c"], ["f"], name="flatten"),
            node("Gemm", ["f", "w3"], ["y"], name="last"),
        ],
        {
            "w1": random.normal(size=(4, 3, 3, 3)),
            "w2": random.normal(size=(4, 4, 3, 3)),
            "w3": random.normal(size=(64, 3)),
        },
        outputs={"y": ("N", 3)},
    )


def test_a_model_that_is_fused_whole_has_no_float() -> None:
    found = audit(quantize(small_cnn()))
    assert found.unfused == ()
    assert (found.n, found.argmax_flips) == (50, 0)
    assert found.max_abs_logit_difference < 1e-4


def test_an_operator_without_an_integer_kernel_is_listed_with_the_reason() -> None:
    (one,) = audit(quantize(between("Elu"))).unfused
    assert (one.layer, one.op) == ("between", "Elu")
    assert one.reason == "ONNX Runtime's CPU has no Elu on integers"


def test_what_recipes_leave_in_float_is_said_to_be_on_purpose() -> None:
    model = between("HardSigmoid")
    model.graph.node[1].output[0] = "gate"
    model.graph.node.insert(2, node("Mul", ["a", "gate"], ["b"], name="gated"))
    gate, gated = audit(quantize(model)).unfused
    assert (gate.layer, gate.reason) == ("between", "ONNX Runtime's CPU has no HardSigmoid on integers")
    assert (gated.layer, gated.reason.split(":")[0]) == ("gated", "left in float on purpose")


def test_a_layer_that_the_recipe_leaves_float_is_named_as_in_the_file() -> None:
    (one,) = audit(quantize(small_cnn(), dataclasses.replace(PLAIN, float_layers=("fc",)))).unfused
    assert (one.layer, one.op, one.reason) == ("fc", "Gemm", "its weights are float: the recipe leaves it so")


def test_sixteen_bits_are_float_on_a_cpu() -> None:
    found = audit(quantize(small_cnn(), recipe("u16s8-perchannel-minmax")))
    reasons = {one.layer: one.reason for one in found.unfused}
    assert reasons["conv"] == "not all that it reads and gives is in integers of a kind that its kernel takes"
    assert reasons["fc"] == "it gives the network's output, which stays float"


def test_a_network_of_floats_lists_nothing() -> None:
    assert audit(small_cnn().SerializeToString()).unfused == ()


def test_answers_that_fusing_changes_are_counted() -> None:
    # ONNX Runtime quantizes float weights between integers: what keep_float keeps it from.
    chosen = dataclasses.replace(PLAIN, float_layers=("c2",))
    data = quantize_prepared(prepared(), CALIBRATION, chosen, threads=1, progress=SILENT).data
    found = audit(data, dataclasses.replace(CALIBRATION, split="test"))
    assert found.argmax_flips > len(CALIBRATION) / 4
    assert found.max_abs_logit_difference > 1


def test_the_figures_are_those_of_the_two_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {True: np.array([[1.0, 0, 0], [0, 2, 0]]), False: np.array([[1.5, 0, 0], [0, 0, 0.25]])}

    def logits(*_: object, optimize: bool) -> Array:
        return answers[optimize]

    monkeypatch.setattr(fusion, "_logits", logits)
    found = audit(quantize(small_cnn()))
    assert (found.argmax_flips, found.max_abs_logit_difference) == (1, 2.0)
    answers[False][0, 0] = np.nan
    with pytest.raises(StageError, match=r"int8\.onnx gives NaN or infinite logits"):
        audit(quantize(small_cnn()))


def test_a_fixed_batch_is_filled_up() -> None:
    free, fixed = (audit(quantize(small_cnn(batch=batch))) for batch in ("N", 7))
    assert (fixed.n, fixed.argmax_flips) == (free.n, free.argmax_flips)


def test_many_images_are_not_all_used() -> None:
    assert audit(quantize(small_cnn()), make_images(N_IMAGES + 40, size=8, split="test")).n == N_IMAGES


def test_no_file_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = quantize(small_cnn())
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    audit(data)
    assert list(tmp_path.rglob("*")) == [here]


def test_a_temporary_folder_that_takes_nothing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = quantize(small_cnn())

    class Vanishing:
        """A folder that is gone when it is written to."""

        def __enter__(self) -> str:
            return str(tmp_path / "gone")

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(tempfile, "TemporaryDirectory", Vanishing)
    with pytest.raises(StageError, match=r"int8\.onnx: ONNX Runtime could not write the graph") as caught:
        audit(data)
    assert "TMPDIR" in caught.value.next_step


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ModelError, match=r"int8\.onnx: ONNX Runtime cannot load it"):
        audit_fusion(b"junk", IMAGES, reference_session(quantize(small_cnn()), model_name="m").input, name="int8.onnx")
