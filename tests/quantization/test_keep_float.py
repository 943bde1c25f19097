"""Float layers stay float when ONNX Runtime opens the file, and compute what they computed."""

import dataclasses

import numpy as np
import onnx
import pytest
from onnx import ModelProto

from edgecnn.progress import SILENT
from edgecnn.quantization.judge import sqnr_db
from edgecnn.quantization.keep_float import keep_float, quantize_and_keep_float
from edgecnn.quantization.prepare import prepare
from edgecnn.quantization.static import quantize_prepared
from edgecnn.targets import reference_session
from edgecnn.targets.session import feed
from tests.graphs import Array, evaluate, make_model, node
from tests.ruined import CALIBRATION, HELD_OUT, MODEL, PLAIN, prepared

X = np.ascontiguousarray(HELD_OUT.pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))


def fused(data: bytes) -> Array:
    """Return the answers as ONNX Runtime gives them with all its optimizations."""
    session = reference_session(data, model_name="int8")
    return session.run(feed(HELD_OUT.pixels, session.input))


def as_written(data: bytes) -> Array:
    return evaluate(onnx.load_model_from_string(data), {"x": X})[0]


def likeness_db(data: bytes) -> float:
    """Return how like the answers with and without optimizations are; a tie may be rounded the other way."""
    return sqnr_db(as_written(data), fused(data))


def spread_cnn() -> ModelProto:
    """Return five layers whose weights want a scale for each channel."""
    random = np.random.default_rng(0)
    spread = np.exp(random.uniform(-5, 5, 7))
    return make_model(
        [
            node("Conv", ["x", "w1"], ["a"], name="c1"),
            node("Conv", ["a", "w2", "b2"], ["b"], name="c2"),
            node("Relu", ["b"], ["b_relu"], name="r2"),
            node("Conv", ["b_relu", "w3"], ["c"], name="c3"),
            node("GlobalAveragePool", ["c"], ["g"], name="gap"),
            node("Flatten", ["g"], ["f"], name="flatten"),
            node("Gemm", ["f", "w4", "b4"], ["h"], name="fc1"),
            node("Gemm", ["h", "w5"], ["y"], name="fc2"),
        ],
        {
            "w1": random.normal(size=(4, 3, 3, 3)),
            "w2": random.normal(size=(6, 4, 3, 3)) * spread[:6].reshape(-1, 1, 1, 1),
            "b2": random.normal(size=6),
            "w3": random.normal(size=(5, 6, 1, 1)) / spread[:6].reshape(1, -1, 1, 1),
            "w4": random.normal(size=(5, 7)) * spread,
            "b4": random.normal(size=7),
            "w5": random.normal(size=(7, 3)) / spread[:, None],
        },
        outputs={"y": ("N", 3)},
    )


@pytest.mark.parametrize("layer", ["c2", "c3", "fc1"])
def test_a_float_layer_between_integers_stays_float(layer: str) -> None:
    chosen = dataclasses.replace(PLAIN, float_layers=(layer,))
    ready = prepare(spread_cnn(), CALIBRATION, PLAIN, name="ours.onnx", threads=1, progress=SILENT)
    plain = quantize_prepared(ready, CALIBRATION, chosen, threads=1, progress=SILENT)
    kept = quantize_and_keep_float(ready, CALIBRATION, chosen, threads=1, progress=SILENT)
    assert kept.float_layers == plain.float_layers == (layer,)
    np.testing.assert_array_equal(as_written(kept.data), as_written(plain.data))
    assert likeness_db(kept.data) > likeness_db(plain.data) + 10


def test_without_float_layers_nothing_is_written_anew() -> None:
    plain = quantize_prepared(prepared(), CALIBRATION, PLAIN, threads=1, progress=SILENT)
    kept = quantize_and_keep_float(prepared(), CALIBRATION, PLAIN, threads=1, progress=SILENT)
    assert kept.data == plain.data


def test_all_layers_float_are_no_integers_at_all() -> None:
    others = [item.name for item in MODEL.graph.node]
    chosen = dataclasses.replace(PLAIN, float_layers=tuple(others))
    kept = quantize_and_keep_float(prepared(), CALIBRATION, chosen, threads=1, progress=SILENT)
    np.testing.assert_allclose(fused(kept.data), as_written(MODEL.SerializeToString()), rtol=1e-3, atol=1e-2)


def quantized(model: ModelProto, *float_layers: str) -> ModelProto:
    chosen = dataclasses.replace(PLAIN, float_layers=float_layers)
    one = prepare(model, CALIBRATION, PLAIN, name="ours.onnx", threads=1, progress=SILENT)
    data = quantize_prepared(one, CALIBRATION, chosen, threads=1, progress=SILENT).data
    return onnx.load_model_from_string(data)


@pytest.mark.parametrize(
    ("op", "shape", "attributes"),
    [
        ("Conv", (4, 1, 3, 3), {"group": 4}),
        ("ConvTranspose", (4, 2, 3, 3), {}),
        ("Gemm", (5, 144), {"transB": 1}),
    ],
)
def test_every_kind_of_layer_is_kept(op: str, shape: tuple[int, ...], attributes: dict[str, int]) -> None:
    random = np.random.default_rng(0)
    gemm = op == "Gemm"
    spread = np.exp(random.uniform(-4, 4, (shape[0], *[1] * (len(shape) - 1))))
    nodes = [
        node("Conv", ["x", "w1"], ["a"], name="first"),
        *([node("Flatten", ["a"], ["flat"], name="flatten")] if gemm else []),
        node(op, ["flat" if gemm else "a", "w2"], ["b"], name="kept", **attributes),
        *([] if gemm else [node("Flatten", ["b"], ["c"], name="end")]),
        node("Gemm", ["b" if gemm else "c", "w3"], ["y"], name="last"),
    ]
    wide = {"Conv": 4 * 16, "ConvTranspose": 2 * 64, "Gemm": 5}[op]
    model = make_model(
        nodes,
        {
            "w1": random.normal(size=(4, 3, 3, 3)),
            "w2": random.normal(size=shape) * spread,
            "w3": random.normal(size=(wide, 3)),
        },
        outputs={"y": ("N", 3)},
    )
    found = quantized(model, "kept")
    before = evaluate(found, {"x": X})[0]
    assert keep_float(found) == 1
    onnx.checker.check_model(found)
    np.testing.assert_array_equal(evaluate(found, {"x": X})[0], before)
    assert likeness_db(found.SerializeToString()) > 50
    read = {name for item in found.graph.node for name in item.input}
    assert {tensor.name for tensor in found.graph.initializer} <= read, "nothing is left behind"
