"""Operators that move values about: the scales go where the channels go."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from onnx import NodeProto, helper

from edgecnn.quantization.equalization import equalize
from tests.graphs import Array, node
from tests.unbalanced import CHANNELS, require_same_function, require_untouched, sandwich

Constants = dict[str, ArrayLike]


def whole(*values: int) -> Array:
    return np.array(values, np.int64)


def one(op: str, *constants: str, **attributes: Any) -> list[NodeProto]:
    return [node(op, ["a", *constants], ["b"], name="middle", **attributes)]


SHUFFLE = [
    node("Reshape", ["a", "apart"], ["s"]),
    node("Transpose", ["s"], ["t"], perm=[0, 2, 1, 3, 4]),
    node("Reshape", ["t", "together"], ["b"]),
]
#: Name, nodes from ``a`` to ``b``, constants, channels or features of ``b``, last layer, channels scaled.
ROWS: list[tuple[str, list[NodeProto], Constants, int, str, int]] = [
    ("Flatten", one("Flatten"), {}, 256, "Gemm", 4),
    ("Reshape", one("Reshape", "to"), {"to": whole(-1, 256)}, 256, "Gemm", 4),
    ("Reshape and keep", [node("Reshape", ["a", "to"], ["r"]), node("Reshape", ["r", "back"], ["b"])],
     {"to": whole(0, 4, 64), "back": whole(0, 0, 8, 8)}, 4, "Conv", 4),
    ("Transpose twice", [node("Transpose", ["a"], ["t"], perm=[0, 2, 3, 1]),
                         node("Transpose", ["t"], ["b"], perm=[0, 3, 1, 2])], {}, 4, "Conv", 4),
    ("Transpose and flatten", [node("Transpose", ["a"], ["t"], perm=[0, 2, 3, 1]), node("Flatten", ["t"], ["b"])],
     {}, 256, "Gemm", 4),
    ("MatMul on the last axis", [node("Transpose", ["a"], ["b"], perm=[0, 2, 3, 1])], {}, 4, "MatMul", 4),
    ("Squeeze", [node("GlobalAveragePool", ["a"], ["g"]), node("Squeeze", ["g", "axes"], ["b"])],
     {"axes": whole(2, 3)}, 4, "Gemm", 4),
    ("Unsqueeze", [node("GlobalAveragePool", ["a"], ["g"]), node("Squeeze", ["g", "axes"], ["s"]),
                   node("Unsqueeze", ["s", "axes"], ["b"])], {"axes": whole(2, 3)}, 4, "Conv", 4),
    ("ReduceMean", one("ReduceMean", "axes", keepdims=0), {"axes": whole(-1, -2)}, 4, "Gemm", 4),
    ("ReduceMean that keeps its axes", one("ReduceMean", "axes"), {"axes": whole(2, 3)}, 4, "Conv", 4),
    ("ReduceL2", one("ReduceL2", "axes"), {"axes": whole(2, 3)}, 4, "Conv", 4),
    ("ReduceMax", one("ReduceMax", "axes"), {"axes": whole(2)}, 4, "Conv", 4),
    ("Pad", one("Pad", "pads"), {"pads": whole(0, 0, 1, 1, 0, 0, 1, 1)}, 4, "Conv", 4),
    ("Pad with zero", one("Pad", "pads", "zero"),
     {"pads": whole(0, 0, 1, 1, 0, 0, 0, 0), "zero": np.array(0.0)}, 4, "Conv", 4),
    ("Pad by the edge", one("Pad", "pads", mode="edge"), {"pads": whole(0, 0, 1, 1, 0, 0, 1, 1)}, 4, "Conv", 4),
    ("Pad of the channels", one("Pad", "pads"), {"pads": whole(0, 2, 0, 0, 0, 1, 0, 0)}, 7, "Conv", 4),
    ("Slice of the image", one("Slice", "start", "end", "axis"),
     {"start": whole(1), "end": whole(-1), "axis": whole(2)}, 4, "Conv", 4),
    ("Slice of the channels", one("Slice", "start", "end", "axis", "step"),
     {"start": whole(0), "end": whole(9), "axis": whole(1), "step": whole(2)}, 2, "Conv", 2),
    ("Split", [node("Split", ["a"], ["rest", "b"], axis=1, num_outputs=2)], {}, 2, "Conv", 2),
    ("Split and put together", [node("Split", ["a"], ["p", "q"], axis=1, num_outputs=2),
                                node("Concat", ["q", "p"], ["b"], axis=1)], {}, 4, "Conv", 4),
    ("Concat with itself", [node("Relu", ["a"], ["r"]), node("Concat", ["a", "r"], ["b"], axis=1)], {}, 8, "Conv", 4),
    ("Concat of the image", [node("Concat", ["a", "a"], ["b"], axis=2)], {}, 4, "Conv", 4),
    ("channel shuffle", SHUFFLE, {"apart": whole(0, 2, 2, 8, 8), "together": whole(0, 4, 8, 8)}, 4, "Conv", 4),
]  # fmt: skip


@pytest.mark.parametrize(
    ("nodes", "constants", "read", "last", "scaled"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_scales_go_where_the_channels_go(
    nodes: list[NodeProto], constants: Constants, read: int, last: str, scaled: int
) -> None:
    model = sandwich(nodes, constants, read=read, last=last)
    result = equalize(model)
    (group,) = result.groups
    assert (group.producers, group.consumers, group.n_channels) == (("first",), ("last",), scaled)
    assert group.scale_high > group.scale_low
    require_same_function(model, result.model)


#: Name, nodes, constants, channels or features of ``b``, last layer, and what the record says.
BARRIERS: list[tuple[str, list[NodeProto], Constants, int, str, str]] = [
    ("Pad with one", one("Pad", "pads", "one"),
     {"pads": whole(0, 0, 1, 1, 0, 0, 1, 1), "one": np.array(1.0)}, 4, "Conv", "pads with a value other than 0"),
    ("Pad along named axes", one("Pad", "pads", "", "axes"), {"pads": whole(1, 1), "axes": whole(2)}, 4, "Conv",
     "Pad middle pads where the graph does not say"),
    ("Pad that cuts channels", one("Pad", "pads"), {"pads": whole(0, -1, 0, 0, 0, 0, 0, 0)}, 3, "Conv",
     "pads over the channels"),
    ("Pad by reflected channels", one("Pad", "pads", mode="reflect"),
     {"pads": whole(0, 1, 0, 0, 0, 0, 0, 0)}, 5, "Conv", "pads over the channels"),
    ("ReduceMean over channels", one("ReduceMean", "axes"), {"axes": whole(1)}, 1, "Conv", "ReduceMean middle mixes"),
    ("ReduceMean over all", [node("ReduceMean", ["a"], ["m"]), node("Add", ["m", "a"], ["b"])],
     {}, 4, "Conv", "does not name"),
    ("Slice backwards", one("Slice", "start", "end", "axis", "step"),
     {"start": whole(3), "end": whole(-9), "axis": whole(1), "step": whole(-1)}, 4, "Conv", "runs backwards"),
    ("MaxPool over channels", [node("Transpose", ["a"], ["t"], perm=[0, 2, 3, 1]),
                               node("MaxPool", ["t"], ["p"], kernel_shape=[1, 2], name="pool"),
                               node("Transpose", ["p"], ["b"], perm=[0, 2, 1, 3])],
     {}, 8, "Conv", "MaxPool pool mixes"),
    ("channels as images", [node("Reshape", ["a", "to"], ["b"])], {"to": whole(-1, 64)}, 64, "Gemm", "images are"),
    ("MatMul across channels", [node("Reshape", ["a", "to"], ["b"])], {"to": whole(0, 4, 64)}, 64, "MatMul",
     "MatMul last mixes"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("nodes", "constants", "read", "last", "words"), [row[1:] for row in BARRIERS], ids=[row[0] for row in BARRIERS]
)
def test_what_mixes_channels_is_a_barrier(
    nodes: list[NodeProto], constants: Constants, read: int, last: str, words: str
) -> None:
    model = sandwich(nodes, constants, read=read, last=last)
    result = equalize(model)
    require_untouched(model, result)
    assert words in result.unscaled[0].reason
    require_same_function(model, result.model)


def test_channels_beside_a_constant_are_scaled_and_the_constant_is_not() -> None:
    constants = {"fixed": np.ones((1, 2, 8, 8))}
    model = sandwich([node("Concat", ["a", "fixed"], ["b"], axis=1)], constants, read=6)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    result = equalize(model)
    assert result.groups[0].n_channels == CHANNELS
    require_same_function(model, result.model, np.ones((1, 3, 8, 8), np.float32))


def test_a_cut_that_depends_on_the_image_is_a_barrier() -> None:
    nodes = [
        node("ReduceMax", ["x"], ["m"], keepdims=0),
        node("Cast", ["m"], ["whole"], to=7),
        node("Reshape", ["whole", "one"], ["start"]),
        node("Slice", ["a", "start", "end", "axis"], ["b"], name="middle"),
    ]
    model = sandwich(nodes, {"one": whole(1), "end": whole(99), "axis": whole(1)})
    model.graph.value_info.append(helper.make_tensor_value_info("b", 1, [1, CHANNELS, 8, 8]))
    result = equalize(model)
    require_untouched(model, result)
    assert result.unscaled[0].reason == "Slice middle cuts where the graph does not say"


def test_a_constant_that_is_cut_where_the_image_says_is_a_barrier() -> None:
    nodes = [
        node("ReduceMax", ["a"], ["m"], keepdims=0),
        node("Cast", ["m"], ["whole"], to=7),
        node("Reshape", ["whole", "one"], ["start"]),
        node("Slice", ["fixed", "start", "end", "axis"], ["b"], name="middle"),
    ]
    model = sandwich(nodes, {"fixed": np.ones((1, 4, 8, 8)), "one": whole(1), "end": whole(99), "axis": whole(1)})
    model.graph.value_info.append(helper.make_tensor_value_info("b", 1, [1, CHANNELS, 8, 8]))
    assert equalize(model).groups == ()


def test_a_split_with_a_part_left_out_is_a_barrier() -> None:
    nodes = [node("Split", ["a"], ["b", ""], name="middle", axis=1, num_outputs=2)]
    result = equalize(sandwich(nodes, read=2))
    assert result.groups == ()
    assert result.unscaled[0].reason == "Split middle has a part that is left out"


@given(order=st.permutations(range(1, 4)), cut=st.integers(1, 3))
def test_any_order_of_axes_and_back_is_the_same_function(order: list[int], cut: int) -> None:
    perm = [0, *order]
    axis = perm.index(1)
    back = [perm.index(place) for place in range(4)]
    nodes = [
        node("Transpose", ["a"], ["t"], perm=perm),
        node("Slice", ["t", "start", "end", "axis"], ["s"]),
        node("Transpose", ["s"], ["b"], perm=back),
    ]
    constants = {"start": whole(cut), "end": whole(99), "axis": whole(axis)}
    model = sandwich(nodes, constants, read=CHANNELS - cut)
    result = equalize(model)
    assert sum(group.n_channels for group in result.groups) == CHANNELS - cut
    require_same_function(model, result.model)
