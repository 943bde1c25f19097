"""What every row of the table keeps: the file's claims, bytes and labels; and what it says where it does nothing."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from edgecnn.errors import ModelError, UsageError
from edgecnn.graph import onnx_file
from edgecnn.rewriting import REWRITES, has_branches, plans, rewrite
from tests import committed
from tests.graphs import copy, evaluate, make_model, node, small_cnn
from tests.qdq_nets import answers
from tests.rewrite_subjects import SUBJECTS, photos, quantized
from tests.rewrites import applied, apply, refusals

EVERY = pytest.mark.parametrize("name", REWRITES)


def test_every_pass_has_a_network_to_show_itself_on() -> None:
    assert list(SUBJECTS) == list(REWRITES)


@EVERY
def test_a_pass_applies_and_says_where(name: str) -> None:
    model = SUBJECTS[name]()
    found = apply(model, name)
    names = {one.name for one in model.graph.node}
    assert {site.rewrite for site in found.sites} == {name}
    assert any(site.applied for site in found.sites)
    assert {site.node for site in found.sites} <= names
    assert all(site.reason for site in found.sites)


@EVERY
def test_what_is_given_is_not_changed_and_what_comes_is_written_the_same_each_time(name: str) -> None:
    data = bytearray(SUBJECTS[name]().SerializeToString())
    before = bytes(data)
    first, second = (rewrite(bytes(data), [name], name="ours") for _ in range(2))
    assert first == second
    assert data == before
    assert onnx_file.serialize(onnx.load_model_from_string(first.data)) == first.data, "as edgecnn writes every file"


@EVERY
def test_a_rewritten_network_is_not_rewritten_again(name: str) -> None:
    once = apply(SUBJECTS[name](), name)
    again = rewrite(once.data, [name], name="ours")
    assert not applied(again)
    assert again.data == once.data


@EVERY
def test_inputs_outputs_labels_and_versions_stay(name: str) -> None:
    model = SUBJECTS[name]()
    onnx_file.write_labels(model, ["ape", "bee"])
    found = onnx.load_model_from_string(apply(model, name).data)
    assert onnx_file.read_labels(found) == ("ape", "bee")
    assert list(found.graph.input) == list(model.graph.input)
    assert list(found.graph.output) == list(model.graph.output)
    assert (list(found.opset_import), found.ir_version) == (list(model.opset_import), model.ir_version)


@EVERY
def test_a_pass_may_be_asked_for_one_node_only(name: str) -> None:
    model = SUBJECTS[name]()
    (site, *_) = (site for site in apply(model, name).sites if site.applied)
    assert applied(apply(model, f"{name}@{site.node}")) == [(name, site.node)]
    other = next(one.name for one in model.graph.node if one.op_type == "Transpose" or one.op_type == "QuantizeLinear")
    assert apply(model, f"{name}@{other}").sites == ()


def test_a_node_without_a_name_is_asked_for_by_what_it_makes() -> None:
    model = quantized()
    for one in model.graph.node:
        one.ClearField("name")
    (site,) = apply(model, "blocked-conv").sites
    assert site.node == "conv1"
    assert applied(apply(model, "blocked-conv@conv1")) == [("blocked-conv", "conv1")]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("blocked", "unknown rewrite 'blocked'; known: one-normalization, mean-pool"),
        ("", "unknown rewrite ''; known"),
        ("layouts", "unknown rewrite 'layouts'"),
        ("blocked-conv@nowhere", "ours.onnx: has no node 'nowhere'"),
        ("blocked-conv@", "expected a node behind the @ of 'blocked-conv@', found none"),
    ],
)
def test_what_is_not_there_cannot_be_asked_for(name: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as error:
        rewrite(quantized().SerializeToString(), ["integer-chain", name], name="ours.onnx")
    assert error.value.exit_code == 2
    assert error.value.next_step


def test_a_node_that_an_earlier_pass_took_away_is_passed_over() -> None:
    first = apply(quantized(), "integer-chain", "blocked-conv@conv1", "padded-blocked-conv@conv1")
    assert applied(first)[-1] == ("blocked-conv", "conv1")


def test_a_node_whose_name_has_the_sign_in_it_can_be_asked_for() -> None:
    model = quantized()
    next(one for one in model.graph.node if one.op_type == "Conv").name = "first@2"
    assert applied(apply(model, "blocked-conv@first@2")) == [("blocked-conv", "first@2")]


def branch() -> ModelProto:
    """Return a network with a branch that reads a tensor of the graph around it."""
    model = photos()
    (inner,) = (
        helper.make_graph(
            [node("Relu", ["m"], ["inner"])],
            "inside",
            [],
            [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
        ),
    )
    inner.output[0].type.tensor_type.shape.dim.add()
    inner.output[0].type.tensor_type.shape.dim.add()
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.insert(7, node("If", ["yes"], ["chosen"], name="choose", then_branch=inner, else_branch=inner))
    model.graph.node[-1].input[1] = "chosen"
    return model


@EVERY
def test_a_graph_with_branches_is_left_alone_and_says_so(name: str) -> None:
    model = branch()
    found = apply(model, name, f"{name}@choose")
    assert found.data == model.SerializeToString()
    assert [(site.rewrite, site.node) for site in found.sites] == [(name, "choose")] * 2
    assert set(refusals(found)) == {"the graph has branches or loops, into which no rewrite looks"}
    with pytest.raises(UsageError, match="has no node 'nowhere'"):
        rewrite(model.SerializeToString(), [f"{name}@nowhere"], name="ours")


def test_branches_are_found_in_any_attribute() -> None:
    assert has_branches(branch().graph.node[7])
    assert not has_branches(branch().graph.node[0])
    many = helper.make_node("Odd", [], ["y"], domain="ours", bodies=[branch().graph])
    assert has_branches(many)


def test_operators_older_than_onnxruntime_promises_are_left_alone() -> None:
    model = make_model([node("Flatten", ["x"], ["y"])], {}, opset=6)
    found = apply(model, "flatten-order")
    assert refusals(found) == ["its operators are of opset 6, older than 7"]


@EVERY
def test_operators_of_another_domain_are_not_onnxs_own(name: str) -> None:
    model = SUBJECTS[name]()
    for one in model.graph.node:
        one.domain = "com.example"
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    data = model.SerializeToString()
    assert rewrite(data, [name], name="ours").data == data


@EVERY
def test_constants_may_be_nodes(name: str) -> None:
    model = SUBJECTS[name]()
    plain = apply(model, name)
    nodes = [node("Constant", [], [tensor.name], value=tensor) for tensor in model.graph.initializer]
    given = list(model.graph.node)
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.node.extend([*nodes, *given])
    assert applied(apply(model, name)) == applied(plain)


def test_weights_in_another_file_are_an_error() -> None:
    model = quantized()
    tensor = next(one for one in model.graph.initializer if one.name == "conv1_w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.data")
    with pytest.raises(ModelError, match="keeps weights in other files") as error:
        rewrite(model.SerializeToString(), ["blocked-conv"], name="ours.onnx")
    assert error.value.exit_code == 3


def test_what_is_no_model_is_an_error() -> None:
    with pytest.raises(ModelError, match=r"ours\.onnx: expected an ONNX model"):
        rewrite(b"\xff\xff", ["blocked-conv"], name="ours.onnx")


def test_nothing_asked_for_gives_the_bytes_back() -> None:
    data = quantized().SerializeToString()
    found = rewrite(data, [], name="ours")
    assert (found.data, found.sites) == (data, ())


@pytest.mark.parametrize("batch", ["N", 1, 3])
@pytest.mark.parametrize("form", ["blocked-conv", "padded-blocked-conv"])
def test_all_passes_together_keep_every_bit_of_a_quantized_network(batch: int | str, form: str) -> None:
    model = quantized(batch=batch)
    images = np.random.default_rng(1).uniform(-2, 2.6, (batch if isinstance(batch, int) else 3, 3, 12, 16))
    found = apply(model, "integer-chain", form, "flatten-order")
    assert {name for name, _ in applied(found)} == {"integer-chain", form, "flatten-order"}
    given = answers(model.SerializeToString(), images.astype(np.float32))
    np.testing.assert_array_equal(answers(found.data, images.astype(np.float32)), given)


def test_all_passes_together_keep_a_float_network_within_rounding() -> None:
    model, images = photos(), np.random.default_rng(1).uniform(0, 1, (3, 8, 8, 3)).astype(np.float32)
    found = apply(model, *(name for name, row in REWRITES.items() if "float" in row.forms))
    assert {name for name, _ in applied(found)} == {"one-normalization", "mean-pool", "pool-phases", "flatten-order"}
    given = answers(model.SerializeToString(), images)
    np.testing.assert_allclose(answers(found.data, images), given, rtol=0, atol=1e-5 * np.abs(given).max())


@pytest.mark.parametrize("name", ["one-normalization", "mean-pool", "pool-phases", "flatten-order"])
def test_a_float_pass_keeps_the_function_without_onnxruntimes_optimizations_too(name: str) -> None:
    model, images = photos(), np.random.default_rng(1).uniform(0, 1, (3, 8, 8, 3)).astype(np.float32)
    given = evaluate(copy(model), {"x": images})[0]
    found = evaluate(onnx.load_model_from_string(apply(model, name).data), {"x": images})[0]
    np.testing.assert_allclose(found, given, rtol=0, atol=1e-5 * np.abs(given).max())


def test_plans_begin_with_nothing_and_all_and_change_one_thing_each() -> None:
    data = quantized().SerializeToString()
    found = plans(data, form="int8")
    usual = ("integer-chain", "blocked-conv", "flatten-order")
    assert found[0] == ()
    assert usual in found[1:3]
    assert set(found) - {usual, (), ("integer-chain", "padded-blocked-conv", "flatten-order")} <= {
        usual[1:],
        (usual[0], usual[2]),
        usual[:2],
    }
    graphs = [rewrite(data, plan, name="int8").data for plan in found]
    assert len(set(graphs)) == len(graphs), "two ways to one graph are one plan"


def test_what_stands_in_for_a_pass_is_planned_first_where_it_gives_another_graph() -> None:
    found = plans(committed.quantized("resnet8"), form="int8")
    assert "padded-blocked-conv" in found[1]
    assert "blocked-conv" in found[2]


def test_plans_name_only_what_applies() -> None:
    assert plans(small_cnn().SerializeToString(), form="float") == ((), ("pool-phases",))
    assert plans(make_model([node("Relu", ["x"], ["y"])], {}).SerializeToString(), form="float") == ((),)


@pytest.mark.parametrize(("form", "other"), [("float", "int8"), ("int8", "float")])
def test_passes_for_the_other_form_are_not_planned(form: Any, other: str) -> None:
    for subject in (quantized, photos):
        planned = {name for plan in plans(subject().SerializeToString(), form=form) for name in plan}
        assert all(form in REWRITES[name].forms for name in planned)


def test_what_stands_in_place_of_another_names_a_pass() -> None:
    assert all(row.instead_of in REWRITES for row in REWRITES.values() if row.instead_of)
    assert all(row.summary and row.forms for row in REWRITES.values())
