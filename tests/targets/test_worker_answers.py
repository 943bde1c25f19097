"""Answers of another form than was asked for are refused, each with what was expected and what was found."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgecnn.bundle.manifest import TensorSpec
from edgecnn.targets.worker import Header
from edgecnn.targets.worker_answers import (
    OddAnswerError,
    logits_bytes,
    read_greeting,
    read_logits,
    read_placement,
    read_times,
)

OUTPUT = TensorSpec(name="y", dtype="float32", shape=("N", 3))
BODY = np.arange(6, dtype=np.float32).tobytes()
GREETING: Header = {
    "system": "Linux 6",
    "machine": "aarch64",
    "cpu": "A53",
    "cores": 4,
    "features": ["ASIMD"],
    "versions": {"onnxruntime": "1.32.0"},
}


@given(arrays(np.float32, st.tuples(st.integers(1, 5), st.just(3))))
def test_logits_come_back_as_they_were_sent(logits: "np.ndarray[tuple[int, int], np.dtype[np.float32]]") -> None:
    body = logits.tobytes()
    assert logits_bytes(len(logits), OUTPUT) == len(body) == math.prod(logits.shape) * 4
    found = read_logits({"shape": list(logits.shape)}, body, len(logits), OUTPUT)
    np.testing.assert_array_equal(found, logits)


@pytest.mark.parametrize(
    "shape", [[3, 2], [6], [1, 6], [2, 3, 1], [-2, -3], [2, -1], [2.0, 3], ["2", 3], None, "23", [True, 6], {}]
)
def test_logits_of_another_shape_are_refused_even_if_their_number_fits(shape: object) -> None:
    with pytest.raises(OddAnswerError, match=r"expected logits \[2, 3\], found"):
        read_logits({"shape": shape}, BODY, 2, OUTPUT)


@pytest.mark.parametrize("body", [b"", BODY[:-1], BODY + b"\0" * 4])
def test_logits_of_another_length_are_refused(body: bytes) -> None:
    with pytest.raises(OddAnswerError, match="expected logits of 24 bytes, found"):
        read_logits({"shape": [2, 3]}, body, 2, OUTPUT)


def test_classes_that_the_graph_does_not_number_may_be_any() -> None:
    free = TensorSpec(name="y", dtype="float32", shape=("N", "classes"))
    assert logits_bytes(2, free) is None
    assert read_logits({"shape": [2, 3]}, BODY, 2, free).shape == (2, 3)


@pytest.mark.parametrize("nodes", [None, [], {"QNN": -1}, {"QNN": "3"}, {"QNN": 1.5}, {"QNN": True}, {"QNN": None}])
def test_a_placement_that_does_not_count_nodes_is_refused(nodes: object) -> None:
    with pytest.raises(OddAnswerError, match="expected how many nodes each provider runs"):
        read_placement({"nodes": nodes})


def test_a_placement_is_what_the_worker_counted() -> None:
    assert read_placement({"nodes": {"QNN": 3, "CPU": 0}}) == {"QNN": 3, "CPU": 0}


@pytest.mark.parametrize("times", [[1.0], [1.0, 2.0, 3.0], [1.0, -1.0], [1.0, math.nan], [math.inf, 1.0]])
def test_times_that_are_none_are_refused(times: list[float]) -> None:
    with pytest.raises(OddAnswerError, match=r"expected (the times of 2 calls|times in microseconds)"):
        read_times(np.array(times).tobytes(), 2)


def test_times_are_read_in_their_order() -> None:
    assert read_times(np.array([3.5, 1.0]).tobytes(), 2).tolist() == [3.5, 1.0]


def test_a_greeting_that_tells_everything_is_taken() -> None:
    assert read_greeting(GREETING) == GREETING


@pytest.mark.parametrize("name", sorted(GREETING))
def test_a_greeting_that_leaves_something_out_is_refused(name: str) -> None:
    with pytest.raises(OddAnswerError, match=f"expected a greeting that tells {name}, found None"):
        read_greeting({key: value for key, value in GREETING.items() if key != name})


@pytest.mark.parametrize(
    "change", [{"cores": 0}, {"load_average": "x"}, {"versions": {"onnxruntime": 1}}, {"features": [1]}]
)
def test_a_greeting_with_other_things_in_it_is_refused(change: Header) -> None:
    with pytest.raises(OddAnswerError, match="expected a greeting"):
        read_greeting(GREETING | change)


def test_what_is_no_greeting_is_refused() -> None:
    with pytest.raises(OddAnswerError, match=r"expected a greeting, found \[\]"):
        read_greeting([])
