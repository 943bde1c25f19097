"""Which activations integers stand in for, and which must stay: the networks that ONNX Runtime alone gets wrong."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from numpy.typing import ArrayLike
from onnx import ModelProto, NodeProto, TensorProto, helper

from edgecnn.quantization import recipe
from edgecnn.quantization.removable import kept_activations
from tests.graphs import evaluate, make_model, node
from tests.quantization.test_static import X, quantize, run

BOUNDS = {"low": 1.0, "high": 3.0}
RECIPE_NAMES = [
    "u8s8-perchannel-minmax-reduced",
    "u8u8-perchannel-minmax",
    "s8s8-pertensor-mse-symmetric",
    "u16s8-perchannel-entropy",
    "u8u8-pertensor-minmax-qoperator",
    "u8s8-pertensor-minmax-reduced-qoperator",
    "s8s8-perchannel-minmax-symmetric-qoperator",
]


def net(
    between: Sequence[NodeProto],
    constants: Mapping[str, ArrayLike] | None = None,
    *,
    features: int = 144,
    opset: int = 18,
) -> ModelProto:
    """Return Conv from ``x`` to ``a``, what lies between, and a Gemm that reads ``b``."""
    random = np.random.default_rng(0)
    return make_model(
        [
            node("Conv", ["x", "w"], ["a"], name="conv"),
            *between,
            node("Flatten", ["b"], ["flat"]),
            node("Gemm", ["flat", "fw"], ["y"], name="fc"),
        ],
        {"w": random.normal(size=(4, 3, 3, 3)), "fw": random.normal(size=(features, 3)), **(constants or {})},
        outputs={"y": ("N", 3)},
        opset=opset,
    )


def pool(source: str, target: str) -> NodeProto:
    return node("MaxPool", [source], [target], kernel_shape=[2, 2], strides=[2, 2])


def clip(low: float | None, high: float | None) -> ModelProto:
    bounds = {name: value for name, value in (("low", low), ("high", high)) if value is not None}
    inputs = ["a", "low" if low is not None else "", "high" if high is not None else ""]
    return net([node("Clip", inputs, ["b"], name="act")], bounds)


RELU_BEHIND: dict[str, ModelProto] = {
    "MaxPool": net([pool("a", "p"), node("Relu", ["p"], ["b"], name="act")], features=36),
    "Flatten": net([node("Flatten", ["a"], ["p"]), node("Relu", ["p"], ["b"], name="act")]),
    "Transpose": net([node("Transpose", ["a"], ["p"], perm=[0, 2, 3, 1]), node("Relu", ["p"], ["b"], name="act")]),
    "another reader": net(
        [node("Relu", ["a"], ["r"], name="act"), node("Concat", ["r", "a"], ["b"], axis=1)], features=288
    ),
    "Relu, as Clip": net(
        [node("Relu", ["a"], ["r"]), node("Clip", ["r", "low", "high"], ["b"], name="act")], {"low": 0.0, "high": 1.0}
    ),
}


def close(model: ModelProto, name: str, tolerance: float = 0.06) -> None:
    expected, found = evaluate(model, {"x": X})[0], run(quantize(model, recipe(name)))
    assert np.abs(found - expected).max() < tolerance * np.abs(expected).max()


@pytest.mark.parametrize("name", RECIPE_NAMES)
@pytest.mark.parametrize("bounds", [(1.0, 3.0), (-3.0, -1.0), (0.5, None), (None, -0.5), (0.0, 2.0), (-1.0, 1.0)])
def test_a_clip_still_clips_where_zero_lies_outside_its_bounds(
    bounds: tuple[float | None, float | None], name: str
) -> None:
    close(clip(*bounds), name)


@pytest.mark.parametrize("name", RECIPE_NAMES)
@pytest.mark.parametrize("behind", RELU_BEHIND)
def test_an_activation_still_acts_where_the_integers_before_it_end_elsewhere(behind: str, name: str) -> None:
    close(RELU_BEHIND[behind], name)


@pytest.mark.parametrize("qoperator", [False, True])
@pytest.mark.parametrize(
    ("bounds", "kept"),
    [
        ((1.0, 3.0), True),
        ((-3.0, -1.0), True),
        ((1e-3, None), True),
        ((None, -1e-3), True),
        ((0.0, 6.0), False),
        ((-1.0, 1.0), False),
        ((-3.0, 0.0), False),
        ((None, None), False),
        ((None, 6.0), False),
    ],
)
def test_a_clip_is_kept_exactly_if_it_moves_zero(
    bounds: tuple[float | None, float | None], kept: bool, qoperator: bool
) -> None:
    assert [item.name for item in kept_activations(clip(*bounds), qoperator=qoperator)] == ["act"] * kept


@pytest.mark.parametrize(("low", "kept"), [(1.0, True), (0.0, False)])
def test_bounds_may_be_attributes_or_constant_nodes(low: float, kept: bool) -> None:
    old = net([node("Clip", ["a"], ["b"], name="act", min=low, max=6.0)], opset=10)
    value = helper.make_tensor("value", TensorProto.FLOAT, [], [low])
    made = net([node("Constant", [], ["low"], value=value), node("Clip", ["a", "low"], ["b"], name="act")])
    for model in (old, made):
        assert [item.name for item in kept_activations(model, qoperator=False)] == ["act"] * kept


def test_a_bound_that_is_computed_may_be_anything() -> None:
    model = net([node("ReduceMin", ["x"], ["low"], keepdims=0), node("Clip", ["a", "low"], ["b"], name="act")])
    assert [item.name for item in kept_activations(model, qoperator=False)] == ["act"]


@pytest.mark.parametrize("behind", RELU_BEHIND)
def test_only_operators_on_integers_keep_what_pairs_can_stand_in_for(behind: str) -> None:
    model = RELU_BEHIND[behind]
    assert kept_activations(model, qoperator=False) == []
    assert [item.name for item in kept_activations(model, qoperator=True)] == ["act"]


@pytest.mark.parametrize("op", ["Add", "Mul", "Concat"])
def test_operators_with_a_scale_of_their_own_take_a_relu_in(op: str) -> None:
    attributes = {"axis": 1} if op == "Concat" else {}
    model = net(
        [node(op, ["a", "a"], ["p"], **attributes), node("Relu", ["p"], ["b"])],
        features=288 if op == "Concat" else 144,
    )
    assert kept_activations(model, qoperator=True) == []
    for name in RECIPE_NAMES:
        close(model, name)


@pytest.mark.parametrize("qoperator", [False, True])
def test_an_answer_of_the_network_is_not_clipped_with_what_reads_it(qoperator: bool) -> None:
    model = net([node("Relu", ["a"], ["b"], name="act")])
    model.graph.output.append(helper.make_tensor_value_info("a", TensorProto.FLOAT, ["N", 4, 6, 6]))
    assert [item.name for item in kept_activations(model, qoperator=qoperator)] == ["act"]
