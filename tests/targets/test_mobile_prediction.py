"""Partitions of CoreML and NNAPI, predicted: on graphs small enough to cut by hand."""

import subprocess
import sys

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto

from edgecnn.bundle.atomic import sha256_bytes
from edgecnn.bundle.prediction import PredictionRecord
from edgecnn.errors import ModelError, UsageError
from edgecnn.progress import SILENT
from edgecnn.quantization.recipes import recipe
from edgecnn.quantization.static import quantize_model
from edgecnn.targets.mobile_operators import MOBILE_PROVIDERS
from edgecnn.targets.mobile_prediction import predict
from tests.graphs import constant, make_model, node, small_cnn
from tests.support import make_images


def cnn(batch: int | str = "N") -> ModelProto:
    """Return small_cnn as torch's exporter writes it: with Reshape, for CoreML's MLProgram has no Flatten."""
    model = small_cnn(batch=batch)
    (flatten,) = (one for one in model.graph.node if one.op_type == "Flatten")
    flatten.CopyFrom(node("Reshape", ["pool", "rows"], ["flat"], name="rows"))
    model.graph.initializer.append(constant("rows", np.array([-1, 36], np.int64)))
    return model


FORMS = [(row.target, row.form) for row in MOBILE_PROVIDERS.values()]


def predictions(model: ModelProto) -> dict[str | None, PredictionRecord]:
    """Return the predictions by CoreML's format; NNAPI's is None."""
    return {one.form: one for one in predict(model.SerializeToString(), name="net.onnx")}


def chain(operators: list[str]) -> ModelProto:
    """Return operators of one input, one after the other."""
    names = ["x", *(f"t{index}" for index in range(len(operators)))]
    nodes = [node(op, [before], [after]) for op, before, after in zip(operators, names, names[1:], strict=False)]
    return make_model(nodes, {}, outputs={names[-1]: ("N", 3, 8, 8)})


def quantized(name: str) -> bytes:
    data = cnn().SerializeToString()
    return quantize_model(data, make_images(size=8), recipe(name), name="net", threads=1, progress=SILENT)


def test_a_plain_float_cnn_is_one_partition_everywhere() -> None:
    data = cnn().SerializeToString()
    found = predict(data, name="float.onnx")
    assert [(one.target, one.form) for one in found] == FORMS
    for one in found:
        assert (one.partitions, one.supported_nodes, one.nodes) == (1, 5, 5)
        assert (one.suitability, one.breakers, one.cautions) == ("yes", (), ())
        assert (one.model, one.model_sha256) == ("float.onnx", sha256_bytes(data))
    assert predict(data, name="float.onnx") == found, "the same file, the same answer"


def test_int8_is_cut_at_every_quantize_on_coreml_and_whole_on_nnapi() -> None:
    neural, program, nnapi = predict(quantized("u8s8-perchannel-minmax"), name="int8.onnx")
    for coreml in (neural, program):
        assert coreml.partitions > 2
        assert coreml.suitability == "no"
        assert [one.op for one in coreml.breakers] == ["DequantizeLinear", "QuantizeLinear"]
        assert all(one.change.startswith("ship the float model") for one in coreml.breakers)
        assert coreml.nodes - coreml.supported_nodes == sum(one.nodes for one in coreml.breakers)
    assert (nnapi.partitions, nnapi.supported_nodes, nnapi.suitability) == (1, nnapi.nodes, "yes")


def test_nnapi_takes_nothing_of_s8_activations_and_the_reason_says_what_to_do() -> None:
    *_, nnapi = predict(quantized("s8s8-perchannel-minmax"), name="int8.onnx")
    assert (nnapi.partitions, nnapi.supported_nodes, nnapi.suitability) == (0, 0, "no")
    assert sum(one.nodes for one in nnapi.breakers) == nnapi.nodes
    assert {one.reason for one in nnapi.breakers} == {
        "activations are int8; NNAPI takes u8 activations with u8 or s8 weights"
    }
    assert {one.change for one in nnapi.breakers} == {"quantize for it: edgecnn quantize --for nnapi"}


def test_a_last_layer_whose_answer_stays_float_is_a_caution_for_nnapi_alone() -> None:
    plain = predict(quantized("u8s8-perchannel-minmax"), name="int8.onnx")
    assert [len(one.cautions) for one in plain] == [0, 0, 1]
    assert plain[2].cautions[0].startswith("fc: no quantize follows it")
    whole = predict(quantized("u8s8-perchannel-minmax-qoutput"), name="int8.onnx")
    assert [one.cautions for one in whole] == [(), (), ()]


def test_an_operator_in_the_middle_cuts_in_two() -> None:
    found = predictions(chain(["Relu", "HardSwish", "Relu"]))
    for one in found.values():
        assert (one.partitions, one.supported_nodes, one.nodes) == (2, 2, 3)
        assert [(breaker.op, breaker.nodes) for breaker in one.breakers] == [("HardSwish", 1)]
        assert "HardSigmoid" in one.breakers[0].change or "Clip" in one.breakers[0].change


@given(operators=st.lists(st.sampled_from(["Relu", "Sigmoid", "HardSwish", "Softsign"]), min_size=1, max_size=9))
def test_a_chain_has_a_partition_for_each_run_of_operators_that_are_taken(operators: list[str]) -> None:
    taken = [op in ("Relu", "Sigmoid") for op in operators]
    runs = sum(now and not before for before, now in zip([False, *taken], taken, strict=False))
    for one in predictions(chain(operators)).values():
        assert (one.partitions, one.supported_nodes, one.nodes) == (runs, sum(taken), len(operators))
        assert sum(breaker.nodes for breaker in one.breakers) == len(operators) - sum(taken)


def test_what_one_format_of_coreml_takes_is_said_for_the_other() -> None:
    mean = node("ReduceMean", ["x", "axes"], ["y"], keepdims=0)
    found = predictions(make_model([mean], {"axes": np.array([2, 3], np.int64)}))
    assert found["MLProgram"].breakers == ()
    assert "choose the model format MLProgram" in found["NeuralNetwork"].breakers[0].change


def test_sizes_are_those_of_a_batch_of_one_and_it_is_said_that_the_file_lets_it_vary() -> None:
    assert all(one.dynamic_batch for one in predictions(cnn()).values())
    fixed = predictions(cnn(batch=2))
    assert not any(one.dynamic_batch for one in fixed.values())
    assert fixed[None].partitions == 1


def test_a_size_that_varies_within_stops_nnapi_and_not_coreml() -> None:
    model = cnn()
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    found = predictions(model)
    assert found["MLProgram"].supported_nodes == 5
    assert found[None].supported_nodes < 5
    assert "varies or is unknown" in found[None].breakers[-1].reason
    assert "--input-size" in found[None].breakers[-1].change


def test_more_dimensions_than_coreml_has_are_named() -> None:
    shape = np.array([1, 3, 2, 4, 2, 4], np.int64)
    nodes = [node("Reshape", ["x", "shape"], ["deep"]), node("Relu", ["deep"], ["y"])]
    found = predictions(make_model(nodes, {"shape": shape}, outputs={"y": (1, 3, 2, 4, 2, 4)}))
    (breaker,) = found["MLProgram"].breakers
    assert (breaker.op, breaker.reason) == ("Relu", "a tensor has more than 5 dimensions")


def test_flatten_is_written_as_reshape_for_the_one_that_lacks_it() -> None:
    found = predictions(small_cnn())
    assert (found["NeuralNetwork"].breakers, found["NeuralNetwork"].partitions) == ((), 1)
    assert (found["MLProgram"].partitions, found["MLProgram"].suitability) == (2, "maybe")
    assert found["MLProgram"].breakers[0].change.startswith("write Reshape to two dimensions")


@pytest.mark.parametrize("name", ["u8s8-pertensor-minmax-qoperator", "u16s8-perchannel-minmax"])
def test_operators_of_onnxruntimes_own_are_predicted_as_not_taken(name: str) -> None:
    for one in predict(quantized(name), name="int8.onnx"):
        assert sum(breaker.nodes for breaker in one.breakers) > 0
        assert one.supported_nodes < one.nodes


def test_conditions_that_a_list_cannot_settle_are_kept() -> None:
    found = predictions(cnn())
    assert "MaxPool: Only 2D Pool is supported." in found[None].unchecked
    assert not any(text.startswith("Resize") for text in found[None].unchecked)


def test_nodes_of_a_branch_are_counted_too() -> None:
    def branch(op: str) -> onnx.GraphProto:
        return make_model([node(op, ["x"], [f"{op}_y"])], {}, inputs={}, outputs={f"{op}_y": ("N", 3, 8, 8)}).graph

    choose: NodeProto = node("If", ["yes"], ["y"], then_branch=branch("HardSwish"), else_branch=branch("Relu"))
    for name in ("then_branch", "else_branch"):
        graph = next(one.g for one in choose.attribute if one.name == name)
        del graph.input[:]
    model = make_model([choose], {"yes": np.array(True)}, outputs={"y": ("N", 3, 8, 8)})
    program = predictions(model)["MLProgram"]
    assert {one.op for one in program.breakers} == {"If", "HardSwish"}


@pytest.mark.parametrize("target", ["coreml", "nnapi"])
def test_one_target_alone_can_be_asked_for(target: str) -> None:
    found = predict(cnn().SerializeToString(), name="net", target=target)
    assert {one.target for one in found} == {target}


def test_a_target_that_can_only_be_measured_is_refused() -> None:
    with pytest.raises(UsageError, match="qnn: is not predicted; known: coreml, nnapi") as caught:
        predict(cnn().SerializeToString(), name="net", target="qnn")
    assert caught.value.next_step == "edgecnn validate --provider qnn, where it can run"


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ModelError, match="junk: expected an ONNX model, found something else"):
        predict(b"\xff" * 50, name="junk")
    with pytest.raises(ModelError, match="empty: has no node to predict"):
        predict(make_model([], {}).SerializeToString(), name="empty")


def test_sizes_that_contradict_each_other_are_refused() -> None:
    model = make_model([node("Add", ["x", "c"], ["y"])], {"c": np.zeros((5, 5))}, outputs={"y": ("N", 3, 8, 8)})
    with pytest.raises(ModelError, match=r"odd: its sizes cannot be inferred"):
        predict(model.SerializeToString(), name="odd")


def test_predicting_needs_neither_torch_nor_a_session() -> None:
    code = "import sys, edgecnn.targets.mobile_prediction; assert not {'torch', 'onnxruntime'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
