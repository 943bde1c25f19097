"""Attributes come as Python values; an operator of another domain is not ONNX's own."""

import pytest
from onnx import helper

from edgecnn.rewriting.attributes import attribute, attributes, operator

NODE = helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 1], auto_pad="VALID", group=3)


def test_an_attribute_is_read_or_has_its_default() -> None:
    assert list(attribute(NODE, "strides", (1, 1))) == [2, 1]
    assert attribute(NODE, "auto_pad", b"NOTSET") == b"VALID"
    assert attribute(NODE, "pads", "none") == "none"


def test_all_attributes_are_those_that_a_node_can_be_made_of_again() -> None:
    twin = helper.make_node("Conv", ["x", "w"], ["y"], **attributes(NODE))
    assert twin == NODE


@pytest.mark.parametrize(("domain", "op"), [("", "Conv"), ("ai.onnx", "Conv"), ("com.microsoft", "")])
def test_an_operator_is_onnxs_own_by_its_domain(domain: str, op: str) -> None:
    assert operator(helper.make_node("Conv", ["x", "w"], ["y"], domain=domain)) == op
