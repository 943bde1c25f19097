"""What a constant is made of, and arithmetic on sizes: a small part of it, and nothing else."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecnn.errors import ModelError
from edgecnn.graph.constants import (
    MAX_VALUES,
    Constant,
    compute,
    constant_values,
    item_bits,
    made_of,
    size_bytes,
    small_values,
    stored_constant,
)
from tests.graphs import node

OPSETS = [helper.make_opsetid("", 18)]


@pytest.mark.parametrize(
    ("elem_type", "bits"),
    [
        (TensorProto.FLOAT, 32),
        (TensorProto.FLOAT16, 16),
        (TensorProto.BFLOAT16, 16),
        (TensorProto.INT8, 8),
        (TensorProto.FLOAT8E4M3FN, 8),
        (TensorProto.UINT4, 4),
        (TensorProto.BOOL, 8),
        (TensorProto.INT64, 64),
    ],
)
def test_how_many_bits_a_value_takes(elem_type: int, bits: int) -> None:
    assert item_bits(elem_type) == bits


def test_four_bit_values_lie_two_in_a_byte() -> None:
    assert [size_bytes((n,), 4) for n in (1, 2, 3)] == [1, 1, 2]
    assert size_bytes((), 32) == 4


def test_a_stored_tensor_of_weights_counts_its_values() -> None:
    assert stored_constant("w", TensorProto.FLOAT, (4, 3)) == Constant(
        parameters={"w": 12}, stored={"w": 48}, item_bits=32
    )


@pytest.mark.parametrize(
    ("elem_type", "shape"), [(TensorProto.INT64, (4,)), (TensorProto.BOOL, (4,)), (TensorProto.FLOAT, ())], ids=str
)
def test_sizes_masks_and_single_numbers_are_no_weights(elem_type: int, shape: tuple[int, ...]) -> None:
    assert stored_constant("s", elem_type, shape).parameters == {}


def test_a_dequantized_weight_is_stored_in_integers_with_its_scale() -> None:
    constants = {
        "w": stored_constant("w", TensorProto.INT8, (4, 9)),
        "s": stored_constant("s", TensorProto.FLOAT, (4,)),
        "z": stored_constant("z", TensorProto.INT8, (4,)),
    }
    found = made_of(node("DequantizeLinear", ["w", "s", "z"], ["f"]), constants)
    assert found == Constant(parameters={"w": 36}, stored={"w": 36, "s": 16, "z": 4}, item_bits=8)


def test_an_identity_is_a_weight_of_its_own_that_is_stored_once() -> None:
    constants = {"w": stored_constant("w", TensorProto.FLOAT, (5,))}
    found = made_of(node("Identity", ["w"], ["twin"]), constants)
    assert (found.parameters, found.stored) == ({"twin": 5}, {"w": 20})


def test_a_weight_that_is_cut_up_is_still_counted_where_it_is_stored() -> None:
    constants = {
        "table": stored_constant("table", TensorProto.FLOAT, (7, 2)),
        "i": stored_constant("i", TensorProto.INT64, (100,)),
    }
    found = made_of(node("Gather", ["table", "i"], ["bias"]), constants)
    assert (found.parameters, found.stored) == ({"table": 14}, {"table": 56, "i": 800})


def test_only_small_tensors_are_read() -> None:
    small, large = (numpy_helper.from_array(np.zeros(size, np.int64), "t") for size in (MAX_VALUES, MAX_VALUES + 1))
    assert small_values(small) is not None
    assert small_values(large) is None


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"value_int": 3}, 3),
        ({"value_ints": [3, 4]}, [3, 4]),
        ({"value_float": 0.5}, 0.5),
        ({"value_floats": [0.5]}, [0.5]),
        ({"value": numpy_helper.from_array(np.array([[1, 2]]), "t")}, [[1, 2]]),
        ({"value_string": "text"}, None),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_constant_node_has_its_value_in_one_of_many_places(attributes: dict[str, object], expected: object) -> None:
    found = constant_values(node("Constant", [], ["c"], **attributes))
    assert (None if found is None else found.tolist()) == expected


def test_arithmetic_on_sizes_is_done() -> None:
    types = {name: helper.make_tensor_type_proto(TensorProto.INT64, (2,)) for name in ("a", "b", "c")}
    found = compute(node("Mul", ["a", "b"], ["c"]), {"a": np.array([2, 3]), "b": np.array([5, 7])}, types, OPSETS)
    assert found["c"].tolist() == [10, 21]


def test_nothing_else_is_run() -> None:
    loop = node("Loop", ["a", "a"], ["c"], body=helper.make_graph([], "forever", [], []))
    assert compute(loop, {"a": np.array(1)}, {}, OPSETS) == {}
    theirs = node("Mul", ["a", "a"], ["c"], domain="theirs")
    assert compute(theirs, {"a": np.array(1)}, {}, OPSETS) == {}


def test_arithmetic_that_fails_names_the_node() -> None:
    types = {
        "a": helper.make_tensor_type_proto(TensorProto.INT64, (2,)),
        "i": helper.make_tensor_type_proto(TensorProto.INT64, ()),
        "c": helper.make_tensor_type_proto(TensorProto.INT64, ()),
    }
    with pytest.raises(ModelError, match=r"Gather make_c cannot be computed \(IndexError") as caught:
        compute(node("Gather", ["a", "i"], ["c"]), {"a": np.array([1, 2]), "i": np.array(9)}, types, OPSETS)
    assert caught.value.next_step
