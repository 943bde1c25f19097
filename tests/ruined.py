"""A network one layer of which int8 ruins, and images that the float network gets all right."""

import dataclasses

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from edgecnn.data.images import Images
from edgecnn.progress import SILENT
from edgecnn.quantization.judge import Judge
from edgecnn.quantization.prepare import Prepared, prepare
from edgecnn.quantization.recipes import Recipe, recipe
from tests.graphs import Array, evaluate, make_model, node
from tests.support import make_images

LAYERS = ("c1", "c2", "c3", "fc1", "fc2")
PLAIN = recipe("u8s8-perchannel-minmax-reduced")
#: An input of ``c2`` that is zero for every image: its weights do nothing but set the scale.
_DEAD = 3


def ruined_cnn() -> ModelProto:
    """Return five layers; ``c2`` has weights so large that beside them int8 rounds all others to zero."""
    random = np.random.default_rng(0)
    constants = {
        "w1": random.normal(size=(4, 3, 3, 3)),
        "b1": random.normal(size=4),
        "w2": random.normal(size=(6, 4, 3, 3)),
        "b2": random.normal(size=6),
        "w3": random.normal(size=(5, 6, 1, 1)),
        "w4": random.normal(size=(5, 7)),
        "b4": random.normal(size=7),
        "w5": random.normal(size=(7, 3)),
    }
    constants["w1"][_DEAD], constants["b1"][_DEAD] = 0, -1
    constants["w2"][:, _DEAD] = 1e4
    model = _model({**constants, "b5": np.zeros(3)})
    middle = np.median(_logits(model, tinted(200, seed=0)), axis=0)  # else one class would always win
    return _model({**constants, "b5": -middle})


def _model(constants: dict[str, NDArray[np.float64]]) -> ModelProto:
    return make_model(
        [
            node("Conv", ["x", "w1", "b1"], ["a"], name="c1"),
            node("Relu", ["a"], ["a_relu"], name="r1"),
            node("Conv", ["a_relu", "w2", "b2"], ["b"], name="c2"),
            node("Relu", ["b"], ["b_relu"], name="r2"),
            node("Conv", ["b_relu", "w3"], ["c"], name="c3"),
            node("GlobalAveragePool", ["c"], ["g"], name="gap"),
            node("Flatten", ["g"], ["f"], name="flatten"),
            node("Gemm", ["f", "w4", "b4"], ["h"], name="fc1"),
            node("Gemm", ["h", "w5", "b5"], ["y"], name="fc2"),
        ],
        constants,
        outputs={"y": ("N", 3)},
    )


def tinted(n: int, *, seed: int) -> Images:
    """Return random images with 8x8 pixels, each of a colour of its own."""
    images = make_images(n, size=8, seed=seed)
    tint = np.random.default_rng(seed).uniform(0, 1, (n, 1, 1, 3))
    return dataclasses.replace(images, pixels=(images.pixels * tint).astype(np.uint8))


def _logits(model: ModelProto, images: Images) -> Array:
    x = np.ascontiguousarray(images.pixels.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255))
    return evaluate(model, {"x": x})[0]


def answered_by(model: ModelProto, images: Images) -> Images:
    """Return images labelled as a model classifies them."""
    return dataclasses.replace(images, labels=_logits(model, images).argmax(1).astype(np.int64))


MODEL = ruined_cnn()
CALIBRATION = answered_by(MODEL, tinted(40, seed=1))
HELD_OUT = answered_by(MODEL, tinted(300, seed=2))


def prepared(one: Recipe = PLAIN) -> Prepared:
    """Return the network, looked at."""
    return prepare(MODEL, CALIBRATION, one, name="ours.onnx", threads=1, progress=SILENT)


def judge() -> Judge:
    """Return a judge on images that set no range."""
    return Judge(MODEL.SerializeToString(), HELD_OUT, threads=1)
