"""What the rewrites are for really happens: what ONNX Runtime makes of a rewritten network has nothing left in between.

On the trained SimpleCNN of this repository, quantized anew. ONNX Runtime cancels the transpositions that the rewrites
write down.
"""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, helper

from edgecnn.rewriting import REWRITES, rewrite
from tests.committed import quantized
from tests.qdq_nets import session

INT8 = quantized("simplecnn")
FORMS = pytest.mark.parametrize("form", ["blocked-conv", "padded-blocked-conv"])


def passes(form: str) -> list[str]:
    """Return all passes on integers, with this way of blocking."""
    rows = {name: row for name, row in REWRITES.items() if "int8" in row.forms}
    return [form if name == "blocked-conv" else name for name, row in rows.items() if not row.instead_of]


def optimized(data: bytes, folder: Path) -> ModelProto:
    path = folder / "optimized.onnx"
    session(data, optimized_to=str(path))
    return onnx.load(path)


@FORMS
def test_nothing_stands_between_the_integer_layers_of_simplecnn(form: str, tmp_path: Path) -> None:
    model = optimized(rewrite(INT8, passes(form), name="int8.onnx").data, tmp_path)
    ops = [node.op_type for node in model.graph.node]
    assert ops[:2] == ["QuantizeLinear", "Transpose"], "of the float image, channels first"
    assert ops.count("Transpose") == 1
    assert ops.count("QuantizeLinear") == 1
    assert ops.count("DequantizeLinear") <= 1, "of the answers, where they are integers"
    assert "DequantizeLinear" not in ops[:-1]
    assert ops.count("QLinearConv") == ops.count("NhwcMaxPool") == 2
    assert "MaxPool" not in ops
    assert "Conv" not in ops
    for node in model.graph.node:
        if node.op_type == "QLinearConv":
            attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
            assert (node.domain, attributes["channels_last"]) == ("com.microsoft", 1)
            weight = next(tensor for tensor in model.graph.initializer if tensor.name == node.input[3])
            assert weight.dims[1] % 4 == 0
            assert weight.dims[0] % 8 == 0


def test_before_there_is_something_between_them(tmp_path: Path) -> None:
    ops = [node.op_type for node in optimized(INT8, tmp_path).graph.node]
    assert ops.count("Transpose") > 1


@FORMS
@pytest.mark.parametrize("count", [1, 3])
def test_the_answers_of_simplecnn_are_the_same_to_the_last_bit(form: str, count: int) -> None:
    data = rewrite(INT8, passes(form), name="int8.onnx").data
    given = onnx.load_model_from_string(INT8).graph.input[0]
    shape = [count, *(size.dim_value for size in given.type.tensor_type.shape.dim[1:])]
    images = np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)
    found = [session(one).run(None, {given.name: images})[0] for one in (data, INT8)]
    np.testing.assert_array_equal(*found)
    assert len(np.unique(np.argmax(found[0], 1))) >= 1


@pytest.mark.parametrize("name", ["resnet8", "ds_cnn", "mobilenet_v3"])
def test_a_rewritten_bundle_is_not_rewritten_again(name: str) -> None:
    data = quantized(name)
    for form in ("blocked-conv", "padded-blocked-conv"):
        once = rewrite(data, passes(form), name=name)
        assert any(site.applied and site.rewrite == form for site in once.sites)
        assert rewrite(once.data, passes(form), name=name).data == once.data
