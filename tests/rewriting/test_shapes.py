"""Sizes and types are inferred as onnx infers them, without handing it the weights."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from edgecnn.rewriting.shapes import infer_shapes
from tests.graphs import make_model, node, small_cnn
from tests.qdq_nets import QdqNet
from tests.rewrite_subjects import photos, pixels, quantized


@pytest.mark.parametrize("model", [small_cnn(), photos(), pixels(), quantized(), quantized(batch=3)])
def test_they_are_those_of_onnx(model: onnx.ModelProto) -> None:
    sizes, types = infer_shapes(model)
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    for value in (*inferred.value_info, *inferred.output, *inferred.input):
        tensor = value.type.tensor_type
        assert types[value.name] == tensor.elem_type
        assert sizes[value.name] == tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
    assert {name for one in model.graph.node for name in one.output} <= set(sizes)


def test_large_weights_are_not_handed_over_and_stay_in_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    infer = onnx.shape_inference.infer_shapes

    def spy(model: onnx.ModelProto, **how: bool) -> onnx.ModelProto:
        seen.append(len(model.SerializeToString()))
        return infer(model, **how)

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", spy)
    net = QdqNet((64, 8, 8))
    net.conv(512, (3, 3))
    model = net.model()
    before = model.SerializeToString()
    sizes, _ = infer_shapes(model)
    assert sizes["conv1"] == (None, 512, 6, 6)
    assert seen[0] < 40_000 < 300_000 < len(before)
    assert model.SerializeToString() == before


def test_sizes_that_a_graph_computes_are_known() -> None:
    model = make_model(
        [node("Reshape", ["x", "s"], ["r"]), node("Transpose", ["r"], ["y"], perm=[1, 0])],
        {"s": np.array([-1, 192], np.int64)},
        outputs={"y": (192, "N")},
    )
    sizes, types = infer_shapes(model)
    assert sizes["r"] == (None, 192)
    assert types["r"] == TensorProto.FLOAT
