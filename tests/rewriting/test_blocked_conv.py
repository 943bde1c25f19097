"""Blocked convolutions give the same integers in ONNX Runtime, and are left alone where they could not."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import assume, event, given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgecnn.rewriting.blocks import blocked_weight
from edgecnn.rewriting.editor import Editor
from tests.naive_convolution import convolutions
from tests.qdq_nets import QdqNet, answers
from tests.rewrites import applied, apply, assert_same_answers, ops, refusals

PASSES = pytest.mark.parametrize("name", ["blocked-conv", "padded-blocked-conv"])
DTYPES: st.SearchStrategy[Any] = st.sampled_from([np.uint8, np.int8])
BATCHES: st.SearchStrategy[int | str] = st.sampled_from(["N", 1, 3])
#: An image on which padding it first is worth a node.
LARGE: dict[str, Any] = {"shape": (3, 48, 48)}
OTHER_WEIGHTS = ["its weights are not int8 around 0"]


def photo_net(**how: Any) -> QdqNet:
    """Return a layer such as networks begin with, followed by a pool."""
    net = QdqNet(how.pop("shape", (3, 12, 16)), dtype=how.pop("dtype", np.uint8), seed=1)
    net.conv(6, **{"pads": (1, 1, 1, 1)} | how)
    return net


@PASSES
@given(data=st.data())
def test_answers_are_the_same_to_the_last_bit_for_any_sizes(name: str, data: st.DataObject) -> None:
    window = data.draw(st.sampled_from([(1, 1), (2, 2), (1, 2), (2, 1), (3, 2)]))
    sizes = data.draw(convolutions(down=window[0], across=data.draw(st.sampled_from([2, 4])), whole=True))
    assume(sizes.output[0] * sizes.output[1] > 1)
    shape = (data.draw(st.integers(1, 8)), *sizes.input)
    net = QdqNet(shape, seed=data.draw(st.integers(0, 9)), dtype=data.draw(DTYPES), symmetric=data.draw(st.booleans()))
    relu = data.draw(st.booleans())
    net.conv(
        data.draw(st.integers(1, 24)),
        sizes.kernel,
        strides=sizes.strides,
        pads=sizes.pads,
        per_channel=data.draw(st.booleans()),
        bias=data.draw(st.booleans()),
        activation="Relu" if relu else "",
        zero_point=int(np.iinfo(net.dtype).min) if relu else None,
    )
    if window != (1, 1):
        net.pool(window)
    if data.draw(st.booleans()):
        net.flatten()
        net.gemm(5, per_channel=data.draw(st.booleans()))
    found = assert_same_answers(net, "integer-chain", name, "flatten-order", batch=data.draw(BATCHES))
    event(f"applied {sum(site.applied for site in found.sites)} times")
    if window == (1, 1):  # the blocks for a pool may be larger than without it, and another pass sees none to fold
        again = apply(onnx.load_model_from_string(found.data), "integer-chain", name, "flatten-order")
        assert again.data == found.data, "what is rewritten is not rewritten again"


@PASSES
@pytest.mark.parametrize("batch", ["N", 1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("per_channel", [True, False])
def test_a_layer_of_a_photo_is_blocked(name: str, batch: int | str, dtype: Any, per_channel: bool) -> None:
    net = photo_net(dtype=dtype, per_channel=per_channel)
    found = assert_same_answers(net, name, batch=batch)
    assert applied(found) == [(name, "conv1")]


@PASSES
@pytest.mark.parametrize("window", [(2, 2), (1, 2), (3, 4)])
def test_the_pool_behind_it_is_folded_in(name: str, window: tuple[int, int]) -> None:
    net = photo_net()
    pool = net.pool(window)
    found = assert_same_answers(net, "integer-chain", name)
    assert found.sites[-1].reason.endswith(f"the pool {pool} folded in")
    assert ops(found.data).count("MaxPool") == 1


@pytest.mark.parametrize(
    "how",
    [
        {"window": (2, 2), "strides": (1, 1)},  # windows that overlap
        {"window": (5, 2)},  # twelve rows are not a multiple of five: two are left out
        {"window": (2, 3)},  # nor sixteen columns of three
        {"window": (2, 2), "pads": (0, 0, 1, 1)},
        {"window": (2, 2), "ceil_mode": 1},
        {"window": (2, 2), "dilations": (2, 2)},
    ],
)
def test_another_pool_stays_behind_the_blocks(how: dict[str, Any]) -> None:
    net = photo_net()
    net.pool(how.pop("window"), **how)
    model = net.model(answer=("N", 6, None, None))
    found = apply(model, "integer-chain", "blocked-conv")
    assert ("blocked-conv", "conv1") in applied(found)
    assert "folded" not in found.sites[-1].reason
    images = net.images()
    np.testing.assert_array_equal(answers(found.data, images), answers(model.SerializeToString(), images))


def test_a_pool_that_is_read_elsewhere_too_is_not_folded() -> None:
    net = photo_net()
    net.add("Flatten", [net.read()], "aside")
    net.pool()
    outputs = {"aside": (TensorProto.FLOAT, ("N", None)), net.integers: (TensorProto.UINT8, ("N", 6, 6, 8))}
    found = apply(net.model(outputs=outputs), "integer-chain", "blocked-conv")
    assert ("blocked-conv", "conv1") in applied(found)
    assert "folded" not in found.sites[-1].reason


def test_padding_is_written_out_by_the_integer_that_stands_for_zero() -> None:
    found = assert_same_answers(photo_net(**LARGE), "padded-blocked-conv")
    assert "padded by 1 and 3 columns" in found.sites[0].reason
    assert "Pad" in ops(found.data)
    older = photo_net(**LARGE, per_channel=False)
    assert "Pad" not in ops(apply(older.model(opset=10), "padded-blocked-conv").data), "Pad of opset 10 is float only"


@PASSES
@pytest.mark.parametrize("opset", [10, 11, 12, 13, 18, 21])
def test_every_opset_with_integers_is_served(name: str, opset: int) -> None:
    net = photo_net(per_channel=opset >= 13)  # when scales for each channel came
    model = net.model(opset=opset)
    found = apply(model, name)
    assert applied(found)
    images = net.images()
    np.testing.assert_array_equal(answers(found.data, images), answers(model.SerializeToString(), images))


@pytest.mark.parametrize("activation", ["Relu", "Clip"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
def test_an_activation_that_rounding_replaces_stays_between(activation: str, dtype: Any) -> None:
    net = photo_net(dtype=dtype, activation=activation, zero_point=int(np.iinfo(dtype).min))
    if activation == "Clip":
        set_bounds(net, 0, 255 * float(net.scale))
    found = assert_same_answers(net, "blocked-conv")
    assert applied(found)
    assert activation in ops(found.data)


def set_bounds(net: QdqNet, low: float, high: float) -> None:
    net.constants |= {"conv1_low": np.float32(low), "conv1_high": np.float32(high)}


@pytest.mark.parametrize(
    ("activation", "zero_point", "bounds"),
    [("Relu", 3, None), ("Clip", 0, (-1, 3)), ("Clip", 0, (0.5, 1e9)), ("Clip", 9, (0, 1e9))],
)
def test_an_activation_that_rounding_does_not_replace_keeps_it_float(
    activation: str, zero_point: int, bounds: tuple[float, float] | None
) -> None:
    net = photo_net(activation=activation, zero_point=zero_point)
    if bounds:
        set_bounds(net, *bounds)
    found = apply(net.model(), "blocked-conv")
    assert refusals(found) == ["its activation does more than rounding does, and keeps it float"]


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"values": np.ones((6, 3, 3, 3), np.uint8)}, OTHER_WEIGHTS),
        ({"per_channel": False, "weight_zero_point": np.int8(1)}, OTHER_WEIGHTS),
        ({"weight_zero_point": np.array([0, 0, 0, 0, 0, 1], np.int8)}, OTHER_WEIGHTS),
        ({"dilations": (2, 2)}, ["it is dilated"]),
        ({"strides": (3, 3)}, ["its sizes (16 columns in, 6 out) do not divide into blocks that fit"]),
        ({"group": 3}, []),
        ({"values": np.ones((6, 3, 3, 3), np.int16)}, OTHER_WEIGHTS),
    ],
)
def test_what_is_left_alone_says_why(how: dict[str, Any], reason: list[str]) -> None:
    opset = 21 if "values" in how and how["values"].dtype == np.int16 else 13
    model = photo_net(**how).model(opset=opset)
    found = apply(model, "blocked-conv")
    assert (refusals(found), applied(found)) == (reason, [])


def test_padding_that_is_only_named_is_left_alone() -> None:
    net = photo_net(pads=(0, 0, 0, 0))
    conv = next(one for one in net.nodes if one.op_type == "Conv")
    conv.attribute.remove(next(item for item in conv.attribute if item.name == "pads"))
    conv.attribute.append(helper.make_attribute("auto_pad", "SAME_UPPER"))
    assert refusals(apply(net.model(answer=("N", 6, 12, 16)), "blocked-conv")) == ["its padding is not written out"]


@PASSES
@pytest.mark.parametrize("shape", [("N", 3, "H", 16), ("N", 3, 12, "W")])
def test_an_image_whose_size_may_vary_is_left_alone(name: str, shape: tuple[int | str, ...]) -> None:
    found = apply(photo_net().model(shape=shape, answer=("N", 6, None, None)), name)
    assert refusals(found) == ["the image's size may vary"]


def test_integers_that_are_an_output_of_the_graph_are_left_alone() -> None:
    net = photo_net()
    outputs = {net.integers: (TensorProto.UINT8, ("N", 6, 12, 16))}
    found = apply(net.model(outputs=outputs), "blocked-conv")
    assert refusals(found) == ["its integers are an output of the graph"]


def test_a_layer_that_nobody_can_gain_from_is_not_spoken_of() -> None:
    net = QdqNet((16, 7, 7), seed=1)
    net.conv(16, (3, 3))
    assert apply(net.model(), "blocked-conv", "padded-blocked-conv").sites == ()


def test_a_convolution_of_another_rank_is_not_spoken_of() -> None:
    net = photo_net(bias=False)
    net.constants["conv1_w"] = net.weights((6, 12, 3))
    conv = next(one for one in net.nodes if one.op_type == "Conv")
    conv.ClearField("attribute")
    model = net.model(shape=("N", 12, 16), answer=("N", 6, 14))
    assert apply(model, "blocked-conv").sites == ()


def test_sixteen_bits_are_left_alone() -> None:
    net = QdqNet((3, 12, 16), dtype=np.uint16)
    net.conv(6)
    assert apply(net.model(opset=21), "blocked-conv").sites == ()


def test_a_layer_that_gives_other_integers_than_it_reads_is_left_alone() -> None:
    net = photo_net(zero_point=0)
    net.constants["conv1_zero_point"] = np.int8(0)
    assert apply(net.model(), "blocked-conv").sites == ()


@pytest.mark.parametrize("bias", ["float", "int16"])
def test_a_bias_that_no_integer_kernel_adds_leaves_the_layer_alone(bias: str) -> None:
    net = photo_net()
    if bias == "int16":
        net.constants |= {"conv1_b": np.ones(6, np.int16), "conv1_b_zero_point": np.zeros(6, np.int16)}
    else:
        net.nodes = [one for one in net.nodes if one.output[0] != "conv1_b_dq"]
        net.constants["conv1_b_dq"] = np.ones(6, np.float32)
    assert apply(net.model(opset=21), "blocked-conv").sites == ()


def test_a_dequantized_image_that_several_layers_read_is_blocked_for_each() -> None:
    net = QdqNet((3, 12, 16), seed=3)
    shared, outputs = net.read(), {}
    for name in ("left", "right"):
        net.conv(6, reads=shared, pads=(1, 1, 1, 1))
        outputs[net.rename(name)] = (TensorProto.FLOAT, ("N", 6, 12, 16))
    model = net.model(outputs=outputs)
    found = apply(model, "blocked-conv")
    assert len(applied(found)) == 2
    images = net.images()
    np.testing.assert_array_equal(answers(found.data, images), answers(model.SerializeToString(), images))


def shifted(weight: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **how: np.roll(weight(*args, **how), 1, axis=3)


def channels_swapped(weight: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **how: weight(*args, **how)[:, ::-1].copy()


def outputs_swapped(weight: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **how: weight(*args, **how)[::-1].copy()


@PASSES
@pytest.mark.parametrize("spoil", [shifted, channels_swapped, outputs_swapped])
def test_wrong_weights_would_be_seen(name: str, spoil: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgecnn.rewriting.blocked_conv.blocked_weight", spoil(blocked_weight))
    with pytest.raises(AssertionError, match="Mismatched elements"):
        assert_same_answers(photo_net(), name)


def test_padding_by_another_number_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Editor, "add", pad_by_nothing(Editor.add))
    with pytest.raises(AssertionError, match="Mismatched elements"):
        assert_same_answers(photo_net(**LARGE), "padded-blocked-conv")


def pad_by_nothing(add: Callable[..., str]) -> Callable[..., str]:
    """Leave out what Pad pads with, which makes it 0, here not what stands for 0."""

    def spoiled(self: Any, op: str, inputs: list[str], *rest: Any) -> str:
        return add(self, op, inputs[:2] if op == "Pad" else inputs, *rest)

    return spoiled


@PASSES
def test_what_is_blocked_keeps_its_layers_name(name: str) -> None:
    model = photo_net().model()
    found = onnx.load_model_from_string(apply(model, name).data)
    convolutions = [[node.name for node in one.graph.node if node.op_type == "Conv"] for one in (model, found)]
    assert convolutions[0] == convolutions[1] != []
