"""What int8 costs, against an independent count."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import ModelProto, numpy_helper

from edgecnn.errors import DataError, StageError
from edgecnn.quantization.judge import Judge, decibels, sqnr_db
from tests.graphs import Array, copy, evaluate, make_model, node, small_cnn, weights
from tests.support import make_images

IMAGES = make_images(45, size=8)
X = np.ascontiguousarray(IMAGES.pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))


def noisy(model: ModelProto, size: float) -> ModelProto:
    """Return a model whose last weights are off."""
    twin = copy(model)
    tensor = next(tensor for tensor in twin.graph.initializer if tensor.name == "fc_w")
    values = weights(model)["fc_w"]
    off = np.random.default_rng(1).normal(size=values.shape, scale=size).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(values + off, "fc_w"))
    return twin


def test_every_figure_is_that_of_an_independent_count() -> None:
    model, other = small_cnn(), noisy(small_cnn(), 2.0)
    before, after = evaluate(model, {"x": X})[0], evaluate(other, {"x": X})[0]
    found = Judge(model.SerializeToString(), IMAGES, threads=1)(other.SerializeToString())
    lost = np.mean(before.argmax(1) == IMAGES.labels) - np.mean(after.argmax(1) == IMAGES.labels)
    assert found.drop_pp.delta == pytest.approx(100 * lost)
    assert found.drop_pp.low < found.drop_pp.delta < found.drop_pp.high
    assert found.agreement == np.mean(before.argmax(1) == after.argmax(1)) < 1
    ratio = np.sum(before.astype(np.float64) ** 2) / np.sum((after.astype(np.float64) - before) ** 2)
    assert found.sqnr_db == pytest.approx(10 * np.log10(ratio), rel=1e-5)


def test_a_fixed_batch_that_does_not_divide_the_images_counts_each_once() -> None:
    free, fixed = (
        Judge(small_cnn(batch=batch).SerializeToString(), IMAGES, threads=1)(
            noisy(small_cnn(batch=batch), 2.0).SerializeToString()
        )
        for batch in ("N", 7)
    )
    assert (fixed.drop_pp, fixed.agreement) == (free.drop_pp, free.agreement)
    assert fixed.sqnr_db == pytest.approx(free.sqnr_db)


def test_float_against_itself_loses_nothing() -> None:
    data = small_cnn().SerializeToString()
    found = Judge(data, IMAGES, threads=1)(data)
    assert (found.drop_pp.delta, found.agreement, found.sqnr_db) == (0, 1, float("inf"))


def test_nan_is_not_taken_for_no_noise() -> None:
    tail = [node("Log", ["below"], ["y"]), node("Sub", ["zero", "logits"], ["below"])]
    model = small_cnn(tail=tail[::-1])
    model.graph.initializer.append(numpy_helper.from_array(np.float32(-1e6).reshape(1), "zero"))
    with pytest.raises(StageError, match="the quantized model gives NaN or infinite logits") as caught:
        Judge(small_cnn().SerializeToString(), IMAGES, threads=1)(model.SerializeToString())
    assert "--recipe" in caught.value.next_step


def test_a_model_of_other_classes_is_refused() -> None:
    with pytest.raises(DataError, match=r"the float model gives \[45, 5\] for 45 images of 3 classes") as caught:
        Judge(small_cnn(classes=5).SerializeToString(), IMAGES, threads=1)
    assert caught.value.exit_code == 3


def test_logits_with_spare_axes_are_refused() -> None:
    model = make_model(
        [node("Conv", ["x", "w"], ["y"], name="conv")],
        {"w": np.ones((3, 3, 8, 8))},
        outputs={"y": ("N", 3, 1, 1)},
    )
    with pytest.raises(DataError, match=r"gives \[45, 3, 1, 1\] for 45 images of 3 classes"):
        Judge(model.SerializeToString(), IMAGES, threads=1)


def test_no_images_are_no_judge() -> None:
    none = dataclasses.replace(IMAGES, pixels=IMAGES.pixels[:0], labels=IMAGES.labels[:0])
    with pytest.raises(DataError, match="there are no images to judge on"):
        Judge(small_cnn().SerializeToString(), none, threads=1)


FLOATS = arrays.arrays(np.float32, 12, elements=st.floats(-1e3, 1e3, width=32))


@given(FLOATS, FLOATS)
def test_the_ratio_is_that_of_the_powers(signal: Array, noise: Array) -> None:
    heard = (signal + noise).astype(np.float32)
    off = sum((float(b) - float(a)) ** 2 for a, b in zip(signal, heard, strict=True))
    power = sum(float(a) ** 2 for a in signal)
    expected = float("inf") if off == 0 else 0.0 if power == 0 else 10 * np.log10(power / off)
    assert sqnr_db(signal, heard) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_no_signal_is_no_decibel_and_no_noise_is_infinite() -> None:
    assert (decibels(0.0, 1.0), decibels(1.0, 0.0), decibels(100.0, 1.0)) == (0, float("inf"), 20)
