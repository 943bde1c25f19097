"""Constants are scaled where they are read, and nowhere else."""

import numpy as np
import onnx
from onnx import helper

from edgecnn.quantization.equalization import equalize
from tests.graphs import constant, evaluate, node, weights
from tests.unbalanced import CHANNELS, X, require_same_function, sandwich

SPREAD = np.array([1.0, 50.0, 3.0, 0.02]).reshape(-1, 1, 1, 1)
SQUARE = {"shared": np.random.default_rng(5).normal(size=(CHANNELS, CHANNELS, 1, 1)) * SPREAD}


def twice() -> onnx.ModelProto:
    """Return a network in which two layers have the same weights."""
    return sandwich(
        [
            node("Relu", ["a"], ["r"]),
            node("Conv", ["r", "shared"], ["c"], name="one"),
            node("Relu", ["c"], ["s"]),
            node("Conv", ["s", "shared"], ["d"], name="two"),
            node("Relu", ["d"], ["b"]),
        ],
        SQUARE,
    )


def test_weights_that_two_layers_share_are_scaled_for_each() -> None:
    result = equalize(twice())
    inputs = {one.name: one.input[1] for one in result.model.graph.node if one.op_type == "Conv"}
    assert inputs["one"] != inputs["two"]
    assert "shared" not in weights(result.model)  # neither layer reads it any more
    assert len(result.groups) == 3
    require_same_function(twice(), result.model)


def test_the_input_model_is_not_changed() -> None:
    model = twice()
    before = model.SerializeToString()
    equalize(model)
    assert model.SerializeToString() == before


def test_a_constant_that_is_an_output_as_well_keeps_its_value() -> None:
    model = sandwich([node("Relu", ["a"], ["b"])])
    model.graph.output.append(helper.make_tensor_value_info("first_b", 1, [CHANNELS]))
    result = equalize(model)
    assert len(result.groups) == 1
    require_same_function(model, result.model)


def test_weights_in_constant_nodes_are_scaled() -> None:
    model = sandwich([node("Relu", ["a"], ["b"])])
    (stored,) = (tensor for tensor in model.graph.initializer if tensor.name == "first_w")
    model.graph.node.insert(0, node("Constant", [], ["first_w"], value=stored))
    model.graph.initializer.remove(stored)
    result = equalize(model)
    assert result.groups[0].scale_high > 1
    assert "Constant" not in {one.op_type for one in result.model.graph.node}
    require_same_function(model, result.model)


def test_weights_behind_an_identity_are_scaled_for_their_own_reader() -> None:
    model = twice()
    model.graph.node.insert(0, node("Identity", ["shared"], ["alias"]))
    next(one for one in model.graph.node if one.name == "two").input[1] = "alias"
    result = equalize(model)
    assert len(result.groups) == 3
    require_same_function(model, result.model)


def test_names_stay_where_nothing_is_shared() -> None:
    model = sandwich([node("Relu", ["a"], ["b"])])
    assert set(weights(equalize(model).model)) == set(weights(model))


def test_a_bias_of_one_number_grows_into_one_a_channel() -> None:
    model = sandwich([node("Flatten", ["a"], ["f"]), node("Gemm", ["f", "w", "c"], ["g"], name="mid"),
                      node("Relu", ["g"], ["b"])],
                     {"w": np.random.default_rng(0).normal(size=(256, 6)) * np.array([1, 9, 80, 0.1, 1, 30])},
                     read=6, last="Gemm")  # fmt: skip
    model.graph.initializer.append(constant("c", np.array(0.5)))
    result = equalize(model)
    assert weights(result.model)["c"].shape == (6,)
    assert len(set(weights(result.model)["c"].tolist())) > 1
    require_same_function(model, result.model)


def test_a_bias_may_be_left_out() -> None:
    model = sandwich([node("Relu", ["a"], ["b"])])
    del model.graph.node[0].input[2]
    result = equalize(model)
    assert len(result.groups) == 1
    require_same_function(model, result.model)


def test_scales_that_are_no_powers_of_two_change_the_last_digits_only() -> None:
    model = sandwich([node("Relu", ["a"], ["b"])])
    result = equalize(model, power_of_two=False)
    expected, found = evaluate(model, {"x": X})[0], evaluate(result.model, {"x": X})[0]
    assert (found != expected).any()
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
