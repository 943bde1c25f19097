"""Shapes and constants of a graph, against what ONNX Runtime really makes."""

import numpy as np
import pytest
from hypothesis import given, settings
from onnx import ModelProto, NodeProto, TensorProto, helper

from edgecnn.errors import ModelError
from edgecnn.graph.tensors import Tensors, read_tensors
from tests.graphs import make_model, node, small_cnn
from tests.nets import Array, everything, networks


def read(model: ModelProto) -> Tensors:
    return read_tensors(model, "net.onnx")


def on_image(
    nodes: list[NodeProto], constants: dict[str, Array] | None = None, *, shape: tuple[int | str | None, ...] = ()
) -> ModelProto:
    return make_model(nodes, constants or {}, inputs={"x": shape or ("N", 3, 8, 8)})


@settings(max_examples=150)
@given(networks())
def test_every_shape_is_the_one_that_is_really_made(model: ModelProto) -> None:
    found = read(model)
    truth = everything(model, np.ones((1, 3, 9, 8), np.float32))
    assert {name: found.shapes[name] for name in truth} == {name: values.shape for name, values in truth.items()}
    assert {name: found.stored_bytes[name] for name in truth} == {name: value.nbytes for name, value in truth.items()}


def test_a_batch_that_may_vary_is_one_and_a_fixed_one_stays() -> None:
    assert read(small_cnn()).shapes["conv"] == (1, 4, 6, 6)
    fixed = read(small_cnn(batch=5))
    assert (fixed.batch, fixed.shapes["conv"], fixed.without_batch("conv")) == (5, (5, 4, 6, 6), (4, 6, 6))


def test_sizes_that_the_graph_computes_itself_are_computed() -> None:
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "zero"], ["n"]),
        node("Shape", ["x"], ["height"], start=2, end=3),
        node("Div", ["height", "two"], ["half"]),
        node("Unsqueeze", ["n", "axis"], ["n1"]),
        node("Concat", ["n1", "half", "rest"], ["wanted"], axis=0),
        node("Reshape", ["x", "wanted"], ["y"]),
    ]
    constants = {"zero": np.array(0), "two": np.array([2]), "axis": np.array([0]), "rest": np.array([-1])}
    found = read(on_image(nodes, constants))
    assert found.shapes["y"] == (1, 4, 48)
    assert found.values["wanted"].tolist() == [1, 4, -1]
    assert [name for name in found.shapes if name not in found.constants] == ["x", "y"]


def test_a_size_counted_in_elements_is_computed_too() -> None:
    nodes = [
        node("Size", ["x"], ["size"]),
        node("Unsqueeze", ["size", "axis"], ["sizes"]),
        node("Reshape", ["x", "sizes"], ["y"]),
    ]
    assert read(on_image(nodes, {"axis": np.array([0])})).shapes["y"] == (192,)


def test_a_random_number_is_no_constant() -> None:
    nodes = [node("RandomNormal", [], ["noise"], shape=[1, 3, 8, 8]), node("Add", ["x", "noise"], ["y"])]
    assert read(on_image(nodes)).constants.keys() == set()


@pytest.mark.parametrize("mode", [0, 1])
def test_a_last_window_that_begins_beyond_the_image_is_left_out(mode: int) -> None:
    # onnx's own inference says 5 columns, every runtime makes 4
    pool = node("MaxPool", ["x"], ["y"], kernel_shape=[1, 1], strides=[1, 2], ceil_mode=mode)
    assert read(on_image([pool])).shapes["y"] == (1, 3, 8, 4)


# What is stored.


def test_a_tensor_that_only_goes_into_a_quantizer_is_stored_in_integers() -> None:
    nodes = [
        node("Relu", ["x"], ["relu"]),
        node("QuantizeLinear", ["relu", "scale", "zero"], ["q"]),
        node("DequantizeLinear", ["q", "scale", "zero"], ["dq"]),
        node("Relu", ["dq"], ["both"]),
        node("QuantizeLinear", ["both", "scale", "zero"], ["q2"]),
        node("DequantizeLinear", ["q2", "scale", "zero"], ["dq2"]),
        node("Add", ["both", "dq2"], ["y"]),
    ]
    constants = {"scale": np.array(0.1), "zero": np.array(0, np.uint8)}
    found = read(on_image(nodes, constants)).stored_bytes
    assert (found["relu"], found["q"], found["both"], found["y"], found["x"]) == (192, 192, 768, 768, 768)


def test_an_output_is_stored_as_it_is_given_back() -> None:
    nodes = [node("Relu", ["x"], ["y"]), node("QuantizeLinear", ["y", "scale", "zero"], ["q"])]
    constants = {"scale": np.array(0.1), "zero": np.array(0, np.uint8)}
    assert read(on_image(nodes, constants)).stored_bytes["y"] == 768


# What cannot be right.


def test_two_inputs_are_refused_by_name() -> None:
    model = make_model([node("Add", ["left", "right"], ["y"])], {}, inputs={"left": (1, 4), "right": (1, 4)})
    with pytest.raises(ModelError, match=r"net.onnx: expected one input, the image; found 2 \(left, right\)") as caught:
        read(model)
    assert caught.value.next_step


def test_no_input_is_refused() -> None:
    model = on_image([node("Relu", ["x"], ["y"])], {"x": np.zeros((1, 3, 8, 8), np.float32)})
    with pytest.raises(ModelError, match=r"found 0 \(none\)"):
        read(model)


def test_an_input_with_a_value_in_the_file_is_no_input() -> None:
    model = on_image([node("Conv", ["x", "w"], ["y"])], {"w": np.ones((2, 3, 3, 3), np.float32)})
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, (2, 3, 3, 3)))
    assert read(model).shapes["y"] == (1, 2, 6, 6)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (("N", 3, "height", 8), r"\[N, 3, height, 8\]; only the first may vary"),
        (("N", 3, 8, None), r"\[N, 3, 8, \?\]"),
        (("N", "N", 8, 8), r"\[N, N, 8, 8\]"),
        (("N", 0, 8, 8), r"\[N, 0, 8, 8\]"),
        ((0, 3, 8, 8), r"\[0, 3, 8, 8\]"),
        (("N",), "found 1 dimensions"),
    ],
)
def test_a_size_that_is_not_fixed_is_refused(shape: tuple[int | str | None, ...], words: str) -> None:
    with pytest.raises(ModelError, match=f"net.onnx: .*the input x.*{words}") as caught:
        read(on_image([node("Relu", ["x"], ["y"])], shape=shape))
    assert "export it with" in caught.value.next_step


def test_an_image_smaller_than_a_window_is_refused() -> None:
    pool = node("MaxPool", ["x"], ["y"], kernel_shape=[9, 3])
    with pytest.raises(ModelError, match=r"nothing is left of the image after MaxPool make_y \(1x3x0x6\)"):
        read(on_image([pool]))


def foreign(*, shape: tuple[int | str, ...] | None) -> ModelProto:
    model = on_image([node("Wavelet", ["x"], ["w"], domain="theirs"), node("Relu", ["w"], ["y"])])
    model.opset_import.append(helper.make_opsetid("theirs", 1))
    if shape is not None:
        model.graph.value_info.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, shape))
    return model


def test_the_word_of_the_file_is_taken_for_an_unknown_operator_and_marked() -> None:
    found = read(foreign(shape=("N", 12, 4, 4)))
    assert found.shapes["y"] == (1, 12, 4, 4)
    assert found.declared == {"w"}


@pytest.mark.parametrize("shape", [None, ("N", "C", 4, 4)])
def test_an_unknown_operator_without_a_full_word_is_refused(shape: tuple[int | str, ...] | None) -> None:
    with pytest.raises(ModelError, match="what Wavelet make_w gives is not known: onnx does not know the operator"):
        read(foreign(shape=shape))


def test_the_word_of_the_file_is_not_taken_where_the_shape_can_be_derived() -> None:
    model = on_image([node("Relu", ["x"], ["y"])])
    model.graph.value_info.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 99)))
    found = read(model)
    assert (found.shapes["y"], found.declared) == ((1, 3, 8, 8), frozenset())


def test_a_shape_that_depends_on_the_image_is_refused() -> None:
    nodes = [node("NonZero", ["x"], ["where"]), node("Relu", ["x"], ["y"])]
    with pytest.raises(ModelError, match="the size of what NonZero make_where gives is not known") as caught:
        read(on_image(nodes))
    assert "depend on what is in the image" in caught.value.next_step


def test_a_graph_that_contradicts_itself_is_refused_with_the_reason() -> None:
    nodes = [node("Conv", ["x", "w"], ["y"], strides=[0, 0])]
    with pytest.raises(ModelError, match=r"Conv make_y gives is not known \(Attribute strides must only contain pos"):
        read(on_image(nodes, {"w": np.ones((2, 3, 3, 3), np.float32)}))


def test_arithmetic_on_sizes_that_fails_is_refused() -> None:
    nodes = [node("Gather", ["sizes", "seven"], ["one"]), node("Reshape", ["x", "one"], ["y"])]
    with pytest.raises(ModelError, match=r"net\.onnx: Gather make_one cannot be computed") as caught:
        read(on_image(nodes, {"sizes": np.array([1, 2]), "seven": np.array([7])}))
    assert caught.value.next_step


def test_sparse_weights_are_refused() -> None:
    model = on_image([node("Relu", ["x"], ["y"])])
    values = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))
    with pytest.raises(ModelError, match="sparse weights"):
        read(model)
