"""How each operator passes on what is seen, against changing the image's pixels one by one."""

import numpy as np
import pytest
from onnx import ModelProto, NodeProto

from edgecnn.errors import ModelError
from edgecnn.graph.receptive_field import propagate
from edgecnn.graph.span_rules import RULES
from edgecnn.graph.tensors import read_tensors
from tests.graphs import make_model, node
from tests.nets import Array, seen_by_poking

SHAPE = (3, 9, 8)


def fields(model: ModelProto) -> dict[str, tuple[int, ...] | None]:
    return propagate(model, read_tensors(model, "net.onnx"))


def on_image(nodes: list[NodeProto], constants: dict[str, Array] | None = None) -> ModelProto:
    return make_model(nodes, constants or {}, inputs={"x": ("N", *SHAPE)})


def weights(*shape: int) -> Array:
    return (np.random.default_rng(0).uniform(0.5, 1.5, shape) / np.prod(shape[1:])).astype(np.float32)


SINGLE_OPERATORS: dict[str, tuple[list[NodeProto], dict[str, Array]]] = {
    "same_upper": (
        [node("Conv", ["x", "w"], ["y"], auto_pad="SAME_UPPER", strides=[2, 2])],
        {"w": weights(2, 3, 4, 3)},
    ),
    "same_lower": (
        [node("Conv", ["x", "w"], ["y"], auto_pad="SAME_LOWER", strides=[2, 3])],
        {"w": weights(2, 3, 4, 3)},
    ),
    "all padding": ([node("Conv", ["x", "w"], ["y"], pads=[3, 0, 3, 0])], {"w": weights(2, 3, 2, 2)}),
    "holes": ([node("Conv", ["x", "w"], ["y"], dilations=[3, 2])], {"w": weights(2, 3, 3, 2)}),
    "transposed with gaps": ([node("ConvTranspose", ["x", "w"], ["y"], strides=[3, 2])], {"w": weights(3, 2, 2, 1)}),
    "transposed to a size": (
        [node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2], output_shape=[17, 16])],
        {"w": weights(3, 2, 3, 3)},
    ),
    "kernel from the image": (
        [
            node("GlobalAveragePool", ["x"], ["mean"]),
            node("Expand", ["mean", "shape"], ["big"]),
            node("Slice", ["big", "zero", "one", "zero"], ["kernel"]),
            node("Conv", ["x", "kernel"], ["y"]),
        ],
        {"shape": np.array([1, 3, 1, 1]), "zero": np.array([0]), "one": np.array([1])},
    ),
    "mean of rows": ([node("ReduceMean", ["x", "axes"], ["y"], keepdims=1)], {"axes": np.array([2])}),
    "mean of columns": ([node("ReduceMean", ["x", "axes"], ["y"], keepdims=0)], {"axes": np.array([-1])}),
    "mean of all": ([node("ReduceMean", ["x"], ["y"], keepdims=0)], {}),
    "largest channel": ([node("ReduceMax", ["x", "axes"], ["y"])], {"axes": np.array([1])}),
    "global max": ([node("GlobalMaxPool", ["x"], ["y"])], {}),
    "a row": ([node("Gather", ["x", "i"], ["y"], axis=2)], {"i": np.array(-1)}),
    "some channels": ([node("Gather", ["x", "i"], ["y"], axis=1)], {"i": np.array([2, 0])}),
    "columns times": ([node("MatMul", ["x", "w"], ["y"])], {"w": weights(5, 8).T.copy()}),
    "rows times": ([node("MatMul", ["w", "x"], ["y"])], {"w": weights(4, 9)}),
    "itself turned": (
        [node("Transpose", ["x"], ["t"], perm=[0, 1, 3, 2]), node("MatMul", ["x", "t"], ["y"])],
        {},
    ),
    "gemm turned": (
        [
            node("Flatten", ["x"], ["flat"], axis=1),
            node("Transpose", ["flat"], ["up"]),
            node("Gemm", ["up", "w"], ["y"], transA=1, transB=1),
        ],
        {"w": weights(4, 216)},
    ),
    "resized": ([node("Resize", ["x", "", "", "s"], ["y"], mode="linear")], {"s": np.array([1, 3, 20, 3])}),
    "resized along one axis": ([node("Resize", ["x", "", "s"], ["y"], axes=[-1])], {"s": np.array([0.5])}),
    "neighbouring channels": (
        [
            node("MaxPool", ["x"], ["p"], kernel_shape=[3, 1], pads=[1, 0, 1, 0]),
            node("Concat", ["x", "p"], ["both"], axis=1),
            node("LRN", ["both"], ["y"], size=3, alpha=1e-9),
        ],
        {},
    ),
    "rows joined": ([node("Concat", ["x", "c", "x"], ["y"], axis=2)], {"c": weights(1, 3, 2, 8)}),
    "halves swapped": (
        [
            node("Split", ["x"], ["a", "b"], axis=2, num_outputs=2),
            node("Concat", ["b", "a"], ["c"], axis=2),
            node("Conv", ["c", "w"], ["y"]),
        ],
        {"w": weights(2, 3, 2, 2)},
    ),
    "a constant before": ([node("Expand", ["x", "s"], ["y"])], {"s": np.array([2, 1, 3, 9, 8])}),
}
ONE_AT_A_TIME = (
    "kernel from the image", "a constant before", "itself turned", "mean of all", "rows joined", "gemm turned",
    "resized", "resized along one axis",
)  # fmt: skip


@pytest.mark.parametrize("name", SINGLE_OPERATORS)
def test_each_kind_of_operator_against_poking(name: str) -> None:
    nodes, constants = SINGLE_OPERATORS[name]
    model = on_image(nodes, constants)
    if name in ONE_AT_A_TIME:
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    found, truth = fields(model), seen_by_poking(model, SHAPE)
    assert {tensor: found[tensor] for tensor in truth} == truth


NORMALIZED = {
    "softmax": node("Softmax", ["x"], ["y"], axis=3),
    "instance": node("InstanceNormalization", ["x", "three", "three"], ["y"]),
    "layer": node("LayerNormalization", ["x", "eight"], ["y"], axis=-1),
}


@pytest.mark.parametrize(
    ("name", "field"), [("softmax", (1, 8)), ("instance", (9, 8)), ("layer", (1, 8))], ids=list(NORMALIZED)
)
def test_a_normalization_sees_all_that_it_normalizes_over(name: str, field: tuple[int, int]) -> None:
    ones = {"three": np.ones(3, np.float32), "eight": np.ones(8, np.float32)}
    used = {key: value for key, value in ones.items() if key in NORMALIZED[name].input}
    assert fields(on_image([NORMALIZED[name]], used))["y"] == field


def test_an_operator_without_a_row_ends_what_is_known() -> None:
    assert "CumSum" not in RULES
    assert fields(on_image([node("CumSum", ["x", "axis"], ["y"])], {"axis": np.array(1)}))["y"] is None


def test_a_strangers_operator_of_a_known_name_is_not_ours() -> None:
    model = on_image(
        [node("Relu", ["x"], ["mid"]), node("Conv", ["mid", "w"], ["y"], domain="theirs")], {"w": weights(2, 3, 3, 3)}
    )
    claimed = model.graph.value_info.add()
    claimed.CopyFrom(model.graph.input[0])
    claimed.name = "y"
    assert fields(model) == {"x": (1, 1), "mid": (1, 1), "y": None}


@pytest.mark.parametrize(
    "senseless", [node("Transpose", ["x"], ["y"], perm=[0, 1]), node("LRN", ["x"], ["y"], size=-3)], ids=["perm", "lrn"]
)
def test_a_node_that_no_runtime_takes_is_refused(senseless: NodeProto) -> None:
    with pytest.raises(ModelError, match=f"net.onnx: {senseless.op_type} make_y makes no sense"):
        fields(on_image([senseless]))
