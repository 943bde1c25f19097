"""What is looked at before integers come in: which tensors get a range, by which method, and of which model."""

import dataclasses

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from edgecnn.errors import ModelError, UsageError
from edgecnn.progress import SILENT
from edgecnn.quantization import RECIPES, Recipe, recipe
from edgecnn.quantization.prepare import Prepared, activations, prepare, read_float_model
from edgecnn.quantization.range_methods import RANGE_METHODS, Range, RangeMethod, choose_range
from tests.graphs import copy, evaluate, make_model, node, small_cnn, weights
from tests.quantization.test_static import IMAGES, X

DEFAULT = RECIPES["u8s8-perchannel-minmax-reduced"]
SYMMETRIC = dataclasses.replace(DEFAULT, symmetric=True)
QOPERATOR = dataclasses.replace(DEFAULT, qoperator=True)


def ready(model: ModelProto, plan: Recipe = DEFAULT) -> Prepared:
    return prepare(model, IMAGES, plan, name="ours.onnx", threads=1, progress=SILENT)


def clipped(low: float, high: float) -> ModelProto:
    model = small_cnn()
    model.graph.node[1].CopyFrom(node("Clip", ["conv", "low", "high"], ["relu"], name="clip"))
    model.graph.initializer.extend(make_model([], {"low": low, "high": high}).graph.initializer)
    return model


def with_output(tensor: str) -> ModelProto:
    model = small_cnn()
    model.graph.output.append(helper.make_tensor_value_info(tensor, TensorProto.FLOAT, ["N", None, None, None]))
    return model


# Which tensors


@pytest.mark.parametrize(
    ("model", "plan", "unobserved"),
    [
        (small_cnn(), DEFAULT, {"conv"}),
        (small_cnn(), QOPERATOR, {"conv"}),
        (small_cnn(), SYMMETRIC, set()),
        (clipped(0.0, 6.0), DEFAULT, {"conv"}),
        (clipped(-1.0, 1.0), DEFAULT, {"conv"}),
        (clipped(1.0, 3.0), DEFAULT, set()),
        (clipped(1.0, 3.0), QOPERATOR, set()),
        (with_output("conv"), DEFAULT, set()),
        (with_output("relu"), DEFAULT, {"conv"}),
    ],
)
def test_what_an_activation_alone_reads_is_not_looked_at_if_the_activation_goes(
    model: ModelProto, plan: Recipe, unobserved: set[str]
) -> None:
    prepared = ready(model, plan)
    everything = {"x", "conv", "relu", "pool", "flat", "y"}
    assert set(prepared.observed) == everything - unobserved
    assert set(prepared.ranges(plan)) == everything


def test_what_another_node_reads_as_well_is_looked_at() -> None:
    model = small_cnn()
    model.graph.node.append(node("Sigmoid", ["conv"], ["side"]))
    model.graph.output.append(helper.make_tensor_value_info("side", TensorProto.FLOAT, ["N", 4, 6, 6]))
    assert "conv" in ready(model).observed


def test_a_relu_behind_no_layer_with_weights_leaves_what_it_reads_looked_at() -> None:
    model = small_cnn(tail=[node("Neg", ["logits"], ["minus"]), node("Relu", ["minus"], ["y"])])
    assert {"logits", "minus", "y"} <= set(ready(model).observed)


def test_constants_and_integers_get_no_range() -> None:
    model = small_cnn(
        tail=[
            node("Shape", ["logits"], ["shape"]),
            node("Reshape", ["logits", "shape"], ["same"]),
            node("Add", ["same", "one"], ["y"]),
        ]
    )
    model.graph.initializer.extend(make_model([], {"one": 1.0}).graph.initializer)
    found = ready(model)
    assert set(found.observed) == {"x", "relu", "pool", "flat", "logits", "same", "y"}


def test_a_tensor_of_unknown_type_gets_none() -> None:
    assert activations(small_cnn(), DEFAULT) == ["x", "y"], "without inferred shapes only the ends are typed"


# Which range


def test_before_an_activation_that_goes_the_range_is_that_behind_it() -> None:
    prepared = ready(small_cnn())
    ranges = prepared.ranges(DEFAULT)
    assert ranges["conv"] == ranges["relu"]
    assert ranges["relu"].low == 0
    assert ready(small_cnn(), SYMMETRIC).ranges(SYMMETRIC)["conv"] != ranges["relu"]


@pytest.mark.parametrize("method", RANGE_METHODS)
@pytest.mark.parametrize("layer", ["conv", "relu", "pool"])
def test_a_layer_of_its_own_method_has_that_range_and_the_others_the_recipes(layer: str, method: RangeMethod) -> None:
    plan = dataclasses.replace(DEFAULT, layer_ranges=((layer, method),))
    prepared = ready(small_cnn(), plan)
    own = {"conv": {"conv", "relu"}, "relu": {"conv", "relu"}, "pool": {"pool"}}[layer]
    found, usual = prepared.ranges(plan), prepared.ranges(DEFAULT)
    tensor = layer if layer != "conv" else "relu"
    expected = choose_range(method, prepared.observed[tensor], 255)
    assert {name: found[name] for name in own} == dict.fromkeys(own, expected)
    assert {name: found[name] for name in found if name not in own} == {
        name: usual[name] for name in usual if name not in own
    }
    if method == "average":  # the others may well choose the whole range
        assert found[tensor] != usual[tensor]


def test_where_both_are_named_the_activation_has_its_own() -> None:
    plan = dataclasses.replace(DEFAULT, layer_ranges=(("conv", "mse"), ("relu", "average")))
    prepared = ready(small_cnn(), plan)
    assert prepared.ranges(plan)["relu"] == choose_range("average", prepared.observed["relu"], 255)


def test_a_symmetric_recipe_has_symmetric_ranges() -> None:
    for name in ("s8s8-perchannel-mse-symmetric", "u16s8-pertensor-percentile-symmetric"):
        plan = recipe(name)
        found = ready(small_cnn(), plan).ranges(plan)
        assert all(item.low == -item.high < 0 for item in found.values())
        assert found["relu"].high < 1.01 * ready(small_cnn(), DEFAULT).ranges(DEFAULT)["relu"].high


def test_one_preparation_serves_recipes_that_differ_in_bits() -> None:
    plan = recipe("u8s8-perchannel-mse")
    prepared = ready(small_cnn(), plan)
    eight, sixteen = prepared.ranges(plan), prepared.ranges(recipe("u16s8-perchannel-mse"))
    assert sixteen["relu"].high >= eight["relu"].high
    assert sixteen["x"] == Range(low=0.0, high=1.0)


def test_only_methods_that_need_one_cost_a_histogram() -> None:
    assert not any(item.histogram for item in ready(small_cnn()).observed.values())
    own = dataclasses.replace(DEFAULT, layer_ranges=(("pool", "mse"),))
    assert ready(small_cnn(), own).observed["pool"].histogram


# Which model


@pytest.mark.parametrize("equalized", [False, True])
def test_the_function_stays_the_same_and_the_model_given_too(equalized: bool) -> None:
    model = small_cnn()
    before = copy(model)
    prepared = ready(model, dataclasses.replace(DEFAULT, equalize=equalized))
    assert model == before
    np.testing.assert_allclose(evaluate(prepared.model, {"x": X})[0], evaluate(model, {"x": X})[0], rtol=1e-5)
    changed = not np.array_equal(weights(prepared.model)["conv_w"], weights(model)["conv_w"])
    assert changed == equalized
    assert (prepared.spec.name, prepared.spec.shape) == ("x", ("N", 3, 8, 8))


def test_a_node_without_a_name_is_called_by_what_it_gives() -> None:
    model = small_cnn()
    for item in model.graph.node:
        item.name = ""
    plan = dataclasses.replace(DEFAULT, float_layers=("y",), layer_ranges=(("pool", "average"),))
    prepared = ready(model, plan)
    assert [item.name for item in prepared.model.graph.node] == ["conv", "relu", "pool", "flat", "y"]
    assert prepared.ranges(plan)["pool"] == choose_range("average", prepared.observed["pool"], 255)


def test_every_layer_that_is_not_there_is_listed() -> None:
    plan = dataclasses.replace(DEFAULT, float_layers=("fc9", "fc"), layer_ranges=(("conv9", "mse"),))
    with pytest.raises(UsageError, match=r"ours\.onnx: has no layer conv9, fc9; it has conv, relu, pool, flatten, fc"):
        ready(small_cnn(), plan)


def test_two_inputs_are_refused_by_name() -> None:
    model = small_cnn()
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))
    with pytest.raises(ModelError, match=r"ours\.onnx: expected one input, found 2: x, mask"):
        ready(model)


@pytest.mark.parametrize("needs", [18, 19])
def test_a_model_of_too_old_an_opset_is_refused(needs: int) -> None:
    data = small_cnn().SerializeToString()
    if needs <= 18:
        assert len(read_float_model(data, "ours.onnx", needs_opset=needs).graph.node) == 5
    else:
        with pytest.raises(ModelError, match=r"ours\.onnx: is of opset 18; the recipe needs opset 19 or newer"):
            read_float_model(data, "ours.onnx", needs_opset=needs)
