"""Every node gets a name of its own, and nothing else changes."""

from edgecnn.graph.node_names import with_node_names
from tests.graphs import copy, make_model, node


def test_named_nodes_stay_as_they_are() -> None:
    model = make_model([node("Relu", ["x"], ["y"], name="relu")], {})
    assert with_node_names(model) is model


def test_nodes_without_a_name_get_that_of_their_output() -> None:
    nodes = [node("Relu", ["x"], ["a"], name=""), node("Relu", ["a"], ["y"], name="")]
    model = make_model(nodes, {})
    before = copy(model)
    assert [item.name for item in with_node_names(model).graph.node] == ["a", "y"]
    assert model == before, "the model that was given is not changed"


def test_of_two_nodes_of_a_name_the_second_gets_another() -> None:
    nodes = [
        node("Relu", ["x"], ["a"], name="same"),
        node("Relu", ["a"], ["b"], name="same"),
        node("Relu", ["b"], ["y"], name="b"),
    ]
    assert [item.name for item in with_node_names(make_model(nodes, {})).graph.node] == ["same", "b_", "b"]
