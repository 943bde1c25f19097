"""A graph that is rewritten knows after each change who makes and reads what, and ends as a valid model."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgecnn.rewriting.editor import Editor
from tests.graphs import evaluate, make_model, node

X = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)


def diamond() -> ModelProto:
    """Return two branches that meet."""
    return make_model(
        [
            node("Relu", ["x"], ["a"]),
            node("Mul", ["a", "two"], ["left"]),
            node("Add", ["a", "two"], ["right"]),
            node("Add", ["left", "right"], ["y"]),
        ],
        {"two": np.float32(2)},
        outputs={"y": ("N", 3, 8, 8)},
    )


def wiring(editor: Editor) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return the name of the node that makes each tensor, and of those that read it, found by looking at all nodes."""
    makers = {name: one.name for one in editor.nodes for name in one.output if name}
    readers: dict[str, list[str]] = {}
    for one in editor.nodes:
        for name in dict.fromkeys(one.input):
            readers.setdefault(name, []).append(one.name)
    return makers, readers


def assert_index_is_right(editor: Editor) -> None:
    makers, readers = wiring(editor)
    tensors = {name for one in editor.nodes for name in (*one.input, *one.output)} | {"a", "left", "right", "gone"}
    for name in tensors:
        maker = editor.maker(name)
        assert (maker.name if maker is not None else None) == makers.get(name), name
        assert sorted(one.name for one in editor.readers(name)) == sorted(readers.get(name, [])), name


def by_name(editor: Editor, name: str) -> NodeProto:
    return next(one for one in editor.nodes if one.name == name)


def test_who_makes_and_reads_what_is_known_after_every_change() -> None:
    editor = Editor(diamond())
    assert_index_is_right(editor)
    made = editor.add("Relu", ["a"], "a")
    assert made == "a_1"
    assert_index_is_right(editor)
    editor.redirect("left", made)
    assert_index_is_right(editor)
    with editor.changing(by_name(editor, "make_y")):
        by_name(editor, "make_y").input[1] = made
    assert_index_is_right(editor)
    editor.remove(by_name(editor, "make_left"), by_name(editor, "make_right"))
    assert_index_is_right(editor)
    assert editor.only_reader("left") is None
    editor.add_as("left", "Neg", [made])
    assert_index_is_right(editor)
    assert editor.maker("left") is not None


def test_an_output_of_the_graph_has_no_only_reader() -> None:
    model = diamond()
    model.graph.output.append(helper.make_tensor_value_info("left", TensorProto.FLOAT, ("N", 3, 8, 8)))
    editor = Editor(model)
    assert editor.only_reader("left") is None
    assert editor.is_output("left")
    assert editor.only_reader("a") is None, "two nodes read it"
    reader = editor.only_reader("right")
    assert reader is not None
    assert reader.name == "make_y"


def test_the_model_given_is_not_changed() -> None:
    model = diamond()
    before = model.SerializeToString(deterministic=True)
    editor = Editor(model)
    editor.redirect("left", "right")
    editor.add_constant("number", np.zeros(3, np.float32))
    editor.finish()
    assert model.SerializeToString(deterministic=True) == before


def test_finishing_drops_what_nothing_needs_and_brings_the_rest_into_order() -> None:
    editor = Editor(diamond())
    editor.add_constant("unused", np.zeros(3, np.float32))
    maker = by_name(editor, "make_left")
    editor.remove(maker)
    editor.add_as("left", "Mul", ["two", editor.add("Relu", ["a"], "again")])
    made = editor.finish()
    assert [one.name for one in made.graph.node] == ["make_a", "make_right", "again.Relu", "left.Mul", "make_y"]
    assert [tensor.name for tensor in made.graph.initializer] == ["two"]
    assert not made.graph.value_info
    np.testing.assert_array_equal(evaluate(made, {"x": X})[0], evaluate(diamond(), {"x": X})[0])


def test_nodes_in_a_circle_are_an_error_that_names_them() -> None:
    editor = Editor(diamond())
    with editor.changing(by_name(editor, "make_left")):
        by_name(editor, "make_left").input[0] = "y"
    with pytest.raises(ValueError, match="nodes in a circle: make_left, make_y"):
        editor.finish()


def test_nodes_without_a_name_are_named_after_what_they_make() -> None:
    model = diamond()
    model.graph.node[1].name = ""
    assert [one.name for one in Editor(model).nodes] == ["make_a", "left", "make_right", "make_y"]


@pytest.mark.parametrize("taken", ["x", "a", "two", "make_left"])
def test_no_name_is_given_twice(taken: str) -> None:
    editor = Editor(diamond())
    assert editor.name(taken) == f"{taken}_1"
    assert editor.name(taken) == f"{taken}_2"
    assert editor.name("free") == "free"


@pytest.mark.parametrize(
    ("attributes", "values"),
    [
        ({"value": numpy_helper.from_array(np.array([[1, 2]], np.int8))}, np.array([[1, 2]], np.int8)),
        ({"value_float": 1.5}, np.array(1.5, np.float32)),
        ({"value_floats": [1.5, 2.0]}, np.array([1.5, 2], np.float32)),
        ({"value_int": 3}, np.array(3, np.int64)),
        ({"value_ints": [3, 4]}, np.array([3, 4], np.int64)),
        ({"value_string": "text"}, None),
    ],
)
def test_constants_of_nodes_are_seen(attributes: dict[str, Any], values: Any) -> None:
    model = diamond()
    model.graph.node.insert(0, node("Constant", [], ["number"], **attributes))
    found = Editor(model).constant("number")
    if values is None:
        assert found is None
    else:
        np.testing.assert_array_equal(found, values, strict=True)


def test_what_depends_on_the_image_or_lies_elsewhere_is_no_constant() -> None:
    model = diamond()
    tensor = model.graph.initializer.add()
    tensor.CopyFrom(numpy_helper.from_array(np.zeros(3, np.float32), "outside"))
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.data")
    editor = Editor(model)
    assert [editor.constant(name) for name in ("x", "a", "y", "outside", "nowhere", "")] == [None] * 6


@pytest.mark.parametrize(("ir_version", "seen"), [(3, True), (4, False), (8, False)])
def test_a_default_that_whoever_runs_the_model_may_replace_is_no_constant(ir_version: int, seen: bool) -> None:
    model = diamond()
    model.ir_version = ir_version
    model.graph.input.append(helper.make_tensor_value_info("two", TensorProto.FLOAT, ()))
    assert (Editor(model).constant("two") is not None) is seen


def test_constants_added_to_a_file_of_the_oldest_format_are_inputs_too_as_it_asks() -> None:
    model = diamond()
    model.ir_version = 3
    model.opset_import[0].version = 8
    model.graph.input.append(helper.make_tensor_value_info("two", TensorProto.FLOAT, ()))
    editor = Editor(model)
    editor.redirect("two", editor.add_constant("three", np.array(3, np.float32)))
    made = editor.finish()
    onnx.checker.check_model(made)
    assert [value.name for value in made.graph.input] == ["x", "three"]


def test_sizes_and_types_are_inferred_and_what_varies_is_none() -> None:
    editor = Editor(diamond())
    assert editor.sizes("left") == (None, 3, 8, 8)
    assert editor.image_sizes("left") == (3, 8, 8)
    assert editor.type("left") == "float32"
    assert (editor.sizes("nowhere"), editor.image_sizes("nowhere"), editor.type("nowhere")) == (None, None, "")
    flat = make_model([node("Flatten", ["x"], ["y"])], {}, inputs={"x": ("N", 3, "H", 8)})
    editor = Editor(flat)
    assert (editor.sizes("x"), editor.image_sizes("x"), editor.image_sizes("y")) == ((None, 3, None, 8), None, None)


@pytest.mark.parametrize("domain", ["", "ai.onnx"])
def test_the_opset_is_that_of_onnxs_own_operators(domain: str) -> None:
    model = diamond()
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("com.microsoft", 99))
    model.opset_import.append(helper.make_opsetid(domain, 17))
    assert Editor(model).opset == 17


@pytest.mark.parametrize("ir_version", [3, 8])
def test_a_default_that_nothing_reads_any_more_is_not_asked_for(ir_version: int) -> None:
    model = diamond()
    model.ir_version = ir_version
    model.opset_import[0].version = 8
    model.graph.input.append(helper.make_tensor_value_info("two", TensorProto.FLOAT, ()))
    model.graph.input.append(helper.make_tensor_value_info("unread", TensorProto.FLOAT, ()))
    editor = Editor(model)
    editor.redirect("two", "a")
    made = editor.finish()
    assert [value.name for value in made.graph.input] == ["x", "unread"], "what was asked for before still is"
