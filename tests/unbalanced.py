"""Networks whose channels differ by orders of magnitude, for equalization to put right."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike
from onnx import ModelProto, NodeProto

from edgecnn.quantization.equalization import Equalization
from tests.graphs import Array, evaluate, make_model, node, weights

CHANNELS = 4
#: Pixels of both signs, so that no activation is trivially positive; [6, 3, 8, 8].
X = np.random.default_rng(7).normal(size=(6, 3, 8, 8)).astype(np.float32)


def factors(seed: int, count: int, span: float = 64.0) -> Array:
    """Return numbers within [1/span, span], evenly spread in the logarithm."""
    return np.exp(np.random.default_rng(seed).uniform(-np.log(span), np.log(span), count))


def sandwich(
    between: Sequence[NodeProto],
    constants: Mapping[str, ArrayLike] | None = None,
    *,
    read: int = CHANNELS,
    last: str = "Conv",
    opset: int = 18,
) -> ModelProto:
    """Return Conv ``first`` from ``x`` to ``a``, what lies between, and layer ``last`` from ``b`` to ``y``.

    Args:
        between: nodes from ``a`` to ``b``.
        constants: what they need.
        read: channels of ``b``, or features.
        last: Conv (1x1), Gemm, or MatMul.
        opset: of the model.
    """
    random = np.random.default_rng(1)
    spread = factors(2, CHANNELS).reshape(-1, 1, 1, 1)
    end = random.normal(size=(5, read, 1, 1)) if last == "Conv" else random.normal(size=(read, 5))
    bias = ["last_b"] if last != "MatMul" else []
    return make_model(
        [
            node("Conv", ["x", "first_w", "first_b"], ["a"], name="first", pads=[1] * 4),
            *between,
            node(last, ["b", "last_w", *bias], ["y"], name="last"),
        ],
        {
            "first_w": random.normal(size=(CHANNELS, 3, 3, 3)) * spread,
            "first_b": random.normal(size=CHANNELS) * spread.ravel(),
            "last_w": end,
            **({"last_b": random.normal(size=5)} if bias else {}),
            **(constants or {}),
        },
        outputs={"y": ("N", 5, "H", "W") if last == "Conv" else ("N", 5)},
        opset=opset,
    )


def require_same_function(model: ModelProto, equalized: ModelProto, x: Array = X) -> None:
    """Demand the same bits: powers of two are multiplied exactly."""
    for factor in (1.0, 0.0, 255.0):
        feeds = {"x": (x * np.float32(factor)).astype(np.float32)}
        for expected, found in zip(evaluate(model, feeds), evaluate(equalized, feeds), strict=True):
            np.testing.assert_array_equal(found, expected)


def require_untouched(model: ModelProto, result: Equalization) -> None:
    """Demand that nothing was scaled."""
    assert result.groups == ()
    before, after = weights(model), weights(result.model)
    assert {name: array.tobytes() for name, array in before.items() if name in after} == {
        name: array.tobytes() for name, array in after.items()
    }
