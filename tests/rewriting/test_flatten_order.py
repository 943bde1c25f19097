"""A fully connected layer reads an image as it lies in memory, with its weights in that order."""

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto

from tests.graphs import constant, make_model, node
from tests.qdq_nets import QdqNet, answers
from tests.rewrites import applied, apply, ops, refusals

#: Channels last, as it comes; the network turns it channels first.
IMAGE = (4, 5, 3)
FEATURES = 60
X = np.random.default_rng(0).normal(size=(3, *IMAGE)).astype(np.float32)
NOT_WITH_THESE = ["its weights are no matrix in the file, or not one scale an output"]


def net(
    op: str = "Gemm",
    reshape: str = "Flatten",
    *,
    sizes: Any = (-1, FEATURES),
    weights: Any = None,
    batch: int | str = "N",
    outputs: tuple[str, ...] = (),
    axis: int = 1,
    **attributes: Any,
) -> ModelProto:
    """Return a transposition, a reshaping and a fully connected layer in float."""
    random = np.random.default_rng(1)
    transposed = attributes.get("transB", 0)
    shape = (7, FEATURES) if transposed else (FEATURES, 7)
    shaped = (
        node("Flatten", ["f"], ["flat"], axis=axis) if reshape == "Flatten" else node(reshape, ["f", "s"], ["flat"])
    )
    return make_model(
        [
            node("Transpose", ["x"], ["f"], perm=[0, 3, 1, 2]),
            shaped,
            node(op, ["flat", "w"], ["y"], name="fc", **attributes),
        ],
        {"w": random.normal(size=shape) if weights is None else weights, "s": np.array(sizes, np.int64)},
        inputs={"x": (batch, *IMAGE)},
        outputs={"y": (None, None), **dict.fromkeys(outputs, (None, None))},
    )


def assert_close(model: ModelProto, data: bytes) -> None:
    """Require the same answers but for the order of sixty sums: 1e-5 of the largest is a hundred times float's step."""
    given, found = answers(model.SerializeToString(), X), answers(data, X)
    np.testing.assert_allclose(found, given, rtol=0, atol=1e-5 * np.abs(given).max())


@pytest.mark.parametrize("op", ["Gemm", "MatMul"])
@pytest.mark.parametrize(
    ("reshape", "sizes"), [("Flatten", None), ("Reshape", (-1, 60)), ("Reshape", (0, 60)), ("Reshape", (0, -1))]
)
def test_the_transposition_goes(op: str, reshape: str, sizes: Any) -> None:
    model = net(op, reshape, sizes=sizes or (-1, 60))
    found = apply(model, "flatten-order")
    assert applied(found) == [("flatten-order", "fc")]
    assert ops(found.data) == ["Reshape", op]
    assert_close(model, found.data)
    assert apply(model_of(found.data), "flatten-order").sites == ()


def model_of(data: bytes) -> ModelProto:
    model = ModelProto()
    model.ParseFromString(data)
    return model


@pytest.mark.parametrize("sizes", [(3, 60), (3, -1)])
def test_a_fixed_batch_may_be_written_out(sizes: tuple[int, int]) -> None:
    model = net(reshape="Reshape", sizes=sizes, batch=3)
    found = apply(model, "flatten-order")
    assert applied(found)
    assert_close(model, found.data)


def test_rows_of_weights_may_be_outputs() -> None:
    model = net(transB=1)
    found = apply(model, "flatten-order")
    assert ops(found.data) == ["Reshape", "Gemm"]
    assert_close(model, found.data)


@pytest.mark.parametrize(
    "model",
    [
        net(transA=1, weights=np.ones((3, 7)), batch=3),
        net(reshape="Reshape", sizes=(-1, 30), weights=np.ones((30, 7))),
        net(axis=2, weights=np.ones((5 * 3 * 4 // 3, 7))),
        net(outputs=("flat",)),
    ],
    ids=["transposed", "not whole images", "another axis", "read elsewhere"],
)
def test_what_is_no_row_of_one_image_is_left_alone(model: ModelProto) -> None:
    assert apply(model, "flatten-order").sites == ()


def test_a_transposition_that_is_read_elsewhere_stays_for_that() -> None:
    model = net()
    model.graph.output.append(node_output("f", ("N", 3, 4, 5)))
    found = apply(model, "flatten-order")
    assert sorted(ops(found.data)) == ["Gemm", "Reshape", "Transpose"]
    assert_close(model, found.data)


def node_output(name: str, shape: tuple[int | str, ...]) -> Any:
    from onnx import helper

    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


@pytest.mark.parametrize("perm", [[0, 1, 3, 2], [0, 2, 1, 3], [0, 2, 3, 1]])
def test_other_transpositions_are_left_alone(perm: list[int]) -> None:
    model = net()
    model.graph.node[0].attribute[0].ints[:] = perm
    assert apply(model, "flatten-order").sites == ()


@pytest.mark.parametrize("weights", [np.ones((2, FEATURES, 7)), np.ones(FEATURES)], ids=["a stack", "a row"])
def test_weights_that_are_no_matrix_are_left_alone(weights: Any) -> None:
    model = net("MatMul", weights=weights)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    model.graph.output[0].type.tensor_type.shape.dim.add()
    for _ in range(weights.ndim - 1):
        model.graph.output[0].type.tensor_type.shape.dim.add()
    assert refusals(apply(model, "flatten-order")) == NOT_WITH_THESE


def test_weights_that_are_computed_are_left_alone() -> None:
    model = net()
    model.graph.node.insert(0, node("Exp", ["w"], ["e"]))
    model.graph.node[-1].input[1] = "e"
    assert refusals(apply(model, "flatten-order")) == NOT_WITH_THESE


def quantized(*, per_channel: bool = False, dtype: Any = np.uint8, seed: int = 1) -> QdqNet:
    made = QdqNet(IMAGE, seed=seed, dtype=dtype)
    made.move("Transpose", shape=(3, 4, 5), perm=[0, 3, 1, 2])
    made.flatten()
    made.gemm(7, per_channel=per_channel)
    return made


@settings(max_examples=30)
@given(seed=st.integers(0, 99), per_channel=st.booleans(), batch=st.sampled_from([1, 3, 0]), signed=st.booleans())
def test_integers_are_the_same_to_the_last_bit(seed: int, per_channel: bool, batch: int, signed: bool) -> None:
    made = quantized(per_channel=per_channel, seed=seed, dtype=np.int8 if signed else np.uint8)
    model, images = made.model(batch=batch or "N"), made.images(batch or 3)
    found = apply(model, "integer-chain", "flatten-order")
    assert applied(found)[-1] == ("flatten-order", "gemm7")
    assert "Transpose" not in ops(found.data)
    np.testing.assert_array_equal(answers(found.data, images), answers(model.SerializeToString(), images))


@pytest.mark.parametrize(("axis", "known"), [(0, True), (-2, True), (1, False), (-1, False)])
def test_a_scale_for_each_input_stays_with_its_input(axis: int, known: bool) -> None:
    made = quantized()
    reader = next(one for one in made.nodes if one.output[0] == "gemm7_w_dq")
    length = 7 if axis in (0, -2) else FEATURES
    made.constants |= {
        "gemm7_w_scale": np.linspace(0.01, 0.03, length, dtype=np.float32),
        "gemm7_w_zero_point": np.zeros(length, np.int8),
    }
    reader.attribute.append(attribute("axis", axis))
    model, images = made.model(), made.images()
    found = apply(model, "integer-chain", "flatten-order")
    assert (("flatten-order", "gemm7") in applied(found)) is known
    assert (NOT_WITH_THESE[0] in refusals(found)) is not known
    given_answers = answers(model.SerializeToString(), images)
    np.testing.assert_allclose(answers(found.data, images), given_answers, rtol=1e-5)


def attribute(name: str, value: int) -> Any:
    from onnx import helper

    return helper.make_attribute(name, value)


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 0, 2), (0, 2, 1)])
def test_weights_in_another_order_would_be_seen(axes: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = np.arange(FEATURES).reshape(3, 4, 5).transpose(axes).ravel()
    take = np.take
    monkeypatch.setattr("numpy.take", lambda values, order, axis: take(values, wrong, axis))
    model = net()
    with pytest.raises(AssertionError, match="Mismatched elements"):
        assert_close(model, apply(model, "flatten-order").data)


def test_quantized_weights_that_are_no_matrix_or_scaled_in_blocks_are_left_alone() -> None:
    stack = net("MatMul")
    reader = node("DequantizeLinear", ["q", "s"], ["read"])
    stack.graph.node.insert(0, reader)
    stack.graph.node[-1].input[1] = "read"
    replace_constant(stack, "q", np.ones((2, FEATURES, 7), np.int8))
    replace_constant(stack, "s", np.float32(0.1))
    stack.graph.output[0].type.tensor_type.shape.dim.add()
    assert refusals(apply(stack, "flatten-order")) == NOT_WITH_THESE
    blocks = net()
    blocks.opset_import[0].version, blocks.ir_version = 21, 10
    blocks.graph.node.insert(0, node("DequantizeLinear", ["q", "s"], ["read"], axis=0, block_size=30))
    blocks.graph.node[-1].input[1] = "read"
    replace_constant(blocks, "q", np.ones((FEATURES, 7), np.int8))
    replace_constant(blocks, "s", np.ones((2, 7), np.float32))
    assert refusals(apply(blocks, "flatten-order")) == NOT_WITH_THESE


def replace_constant(model: ModelProto, name: str, values: Any) -> None:
    kept = [tensor for tensor in model.graph.initializer if tensor.name != name]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, constant(name, values)])


@pytest.mark.parametrize("channels", [1, 8])
def test_a_single_pixel_of_integers_is_flattened_from_channels_last(channels: int) -> None:
    made = QdqNet((channels, 1, 1), seed=1)
    made.flatten()
    made.gemm(5)
    model, images = made.model(), made.images(3)
    found = apply(model, "integer-chain", "flatten-order")
    assert applied(found)[-1] == ("flatten-order", "gemm4")
    assert ops(found.data).count("Transpose") == 1
    np.testing.assert_array_equal(answers(found.data, images), answers(model.SerializeToString(), images))
    assert apply(onnx.load_model_from_string(found.data), "integer-chain", "flatten-order").data == found.data


def test_a_single_pixel_of_floats_is_left_alone() -> None:
    model = make_model(
        [node("Flatten", ["x"], ["flat"]), node("Gemm", ["flat", "w"], ["y"], name="fc")],
        {"w": np.ones((4, 2), np.float32)},
        inputs={"x": ("N", 4, 1, 1)},
        outputs={"y": (None, None)},
    )
    assert applied(apply(model, "flatten-order")) == []
