"""Kernels for each place of a pool's window compute what the pool compares, within float's rounding."""

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, helper

from edgecnn.rewriting.blocks import Convolution, phase_weight
from edgecnn.rewriting.pool_phases import FULL, phase_pads
from tests.graphs import Array, Shape, make_model, node
from tests.naive_convolution import convolutions, convolve, pool
from tests.qdq_nets import answers
from tests.rewrites import applied, apply, ops, refusals

CONV = Convolution(input=(12, 16), output=(12, 16), kernel=(3, 3), strides=(1, 1), pads=(1, 1, 1, 1))


def net(
    conv: Convolution = CONV,
    window: tuple[int, int] = (2, 2),
    *,
    channels: int = 3,
    outputs: int = 6,
    bias: bool = True,
    batch: int | str = "N",
    seed: int = 0,
    pooled: dict[str, Any] | None = None,
    shape: Shape | None = None,
    read: tuple[str, ...] = (),
    **attributes: Any,
) -> ModelProto:
    """Return a convolution, a Relu and a pool in float."""
    random = np.random.default_rng(seed)
    how = {"strides": conv.strides, "pads": conv.pads} | attributes
    group = attributes.get("group", 1)
    constants: dict[str, Array] = {"w": random.normal(size=(outputs, channels // group, *conv.kernel))}
    if bias:
        constants["b"] = random.normal(size=outputs)
    return make_model(
        [
            node("Conv", ["x", *constants], ["c"], name="conv", **how),
            node("Relu", ["c"], ["r"], name="relu"),
            node(
                "MaxPool", ["r"], ["y"], name="pool", **({"kernel_shape": window, "strides": window} | (pooled or {}))
            ),
        ],
        constants,
        inputs={"x": shape or (batch, channels, *conv.input)},
        outputs={"y": (batch, outputs, None, None), **dict.fromkeys(read, (batch, outputs, None, None))},
    )


def assert_close(model: ModelProto, data: bytes, images: Array) -> None:
    """Require the same answers but for the order of their sums: 1e-5 of the largest, a hundred times float's step."""
    given, found = answers(model.SerializeToString(), images), answers(data, images)
    np.testing.assert_allclose(found, given, rtol=0, atol=1e-5 * np.abs(given).max() + 1e-9)


def images_for(conv: Convolution, channels: int = 3, count: int = 3) -> Array:
    return np.random.default_rng(9).normal(size=(count, channels, *conv.input)).astype(np.float32)


@given(data=st.data())
def test_phases_with_their_padding_reach_just_what_the_convolution_reached(data: st.DataObject) -> None:
    window = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    conv = data.draw(convolutions(down=window[0], across=window[1]))
    channels, outputs = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 6))
    random = np.random.default_rng(0)
    image, weight = (
        random.integers(1, 99, (channels, *conv.input)),
        random.integers(-99, 99, (outputs, channels, *conv.kernel)),
    )
    phases = phase_weight(weight, conv, window)
    strides = (conv.strides[0] * window[0], conv.strides[1] * window[1])
    made = convolve(image, phases, strides, phase_pads(conv, phases.shape[2:], window))
    largest = made.reshape(-1, outputs, *made.shape[1:]).max(0)
    np.testing.assert_array_equal(largest, pool(convolve(image, weight, conv.strides, conv.pads), window))


@settings(max_examples=60)
@given(data=st.data())
def test_answers_are_the_same_for_any_sizes(data: st.DataObject) -> None:
    window = data.draw(st.sampled_from([(2, 2), (3, 3), (1, 2), (2, 1), (3, 2)]))
    conv = data.draw(convolutions(down=window[0], across=window[1]))
    assume(all(pad < size for pad, size in zip(conv.pads, conv.kernel * 2, strict=True)))
    channels, batch = data.draw(st.integers(1, 8)), data.draw(st.sampled_from([0, 1, 3]))
    model = net(
        conv,
        window,
        channels=channels,
        outputs=data.draw(st.integers(1, FULL - 1)),
        bias=data.draw(st.booleans()),
        batch=batch or "N",
        seed=data.draw(st.integers(0, 9)),
    )
    found = apply(model, "pool-phases")
    assert applied(found) == [("pool-phases", "conv")]
    assert_close(model, found.data, images_for(conv, channels, batch or 3))
    assert apply(onnx.load_model_from_string(found.data), "pool-phases").sites == ()


def test_the_pool_compares_channels() -> None:
    found = apply(net(), "pool-phases")
    assert found.sites[0].reason == "24 outputs in place of 6, compared by pool"
    assert ops(found.data) == ["Conv", "Relu", "Reshape", "MaxPool", "Reshape"]


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (net(shape=("N", 3, "H", 16)), "the image's size may vary"),
        (net(pads=(0, 0, 0, 0), auto_pad="VALID"), None),
        (net(dilations=[2, 2]), "it is dilated"),
        (net(window=(5, 2)), "the pool leaves out some of its outputs"),
        (net(window=(2, 3)), "the pool leaves out some of its outputs"),
    ],
)
def test_what_cannot_be_shifted_says_why(model: ModelProto, reason: str | None) -> None:
    assert refusals(apply(model, "pool-phases")) == ([reason] if reason else [])


def test_padding_that_is_only_named_is_left_alone() -> None:
    model = net()
    conv = model.graph.node[0]
    conv.attribute.remove(next(item for item in conv.attribute if item.name == "pads"))
    conv.attribute.append(helper.make_attribute("auto_pad", "SAME_UPPER"))
    assert refusals(apply(model, "pool-phases")) == ["its padding is not written out"]


@pytest.mark.parametrize(
    "model",
    [
        net(outputs=FULL),
        net(group=3),
        net(window=(1, 1)),
        net(pooled={"strides": (1, 1)}),
        net(pooled={"pads": (0, 0, 1, 1)}),
        net(pooled={"ceil_mode": 1}),
        net(read=("r",)),
        net(read=("c",)),
    ],
    ids=["full", "groups", "no window", "overlapping", "padded", "ceiling", "relu read", "convolution read"],
)
def test_where_nothing_is_to_be_gained_or_kept_nothing_is_said(model: ModelProto) -> None:
    assert apply(model, "pool-phases").sites == ()


@pytest.mark.parametrize("place", [1, 2])
def test_weights_or_a_bias_that_are_computed_are_left_alone(place: int) -> None:
    model = net()
    conv = model.graph.node[0]
    twin = node("Exp", [conv.input[place]], ["computed"])
    conv.input[place] = "computed"
    model.graph.node.insert(0, twin)
    assert apply(model, "pool-phases").sites == ()


def test_an_answer_that_is_the_pool_keeps_its_name_and_other_readers() -> None:
    model = net()
    model.graph.node.append(node("Neg", ["y"], ["z"]))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ("N", 6, None, None)))
    found = apply(model, "pool-phases")
    assert_close(model, found.data, images_for(CONV))


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_wrong_weights_would_be_seen(axis: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoiled(*args: Any) -> Array:
        return np.roll(phase_weight(*args), 1, axis=axis)

    monkeypatch.setattr("edgecnn.rewriting.pool_phases.phase_weight", spoiled)
    model = net()
    with pytest.raises(AssertionError, match="Mismatched elements"):
        assert_close(model, apply(model, "pool-phases").data, images_for(CONV))
