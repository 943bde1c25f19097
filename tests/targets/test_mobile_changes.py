"""What is proposed instead of an operator is taken by the provider, and computes the same."""

import numpy as np
import pytest
from numpy.typing import ArrayLike

from edgecnn.targets.mobile_changes import CHANGES, propose
from edgecnn.targets.mobile_operators import MOBILE_PROVIDERS, read_operators
from tests.graphs import evaluate, make_model, node

#: What the words of the table say, as graphs: x to y.
AS_GRAPHS = {
    ("HardSwish", ("HardSigmoid", "Mul")): [
        node("HardSigmoid", ["x"], ["gate"], alpha=1 / 6, beta=0.5),
        node("Mul", ["x", "gate"], ["y"]),
    ],
    ("HardSwish", ("Add", "Clip", "Mul")): [
        node("Add", ["x", "three"], ["a"]),
        node("Clip", ["a", "zero", "six"], ["c"]),
        node("Mul", ["c", "sixth"], ["gate"]),
        node("Mul", ["x", "gate"], ["y"]),
    ],
    ("HardSigmoid", ("Add", "Clip", "Mul")): [
        node("Add", ["x", "three"], ["a"]),
        node("Clip", ["a", "zero", "six"], ["c"]),
        node("Mul", ["c", "sixth"], ["y"]),
    ],
    ("ReduceMean", ("GlobalAveragePool", "Reshape")): [
        node("GlobalAveragePool", ["x"], ["p"]),
        node("Reshape", ["p", "rows"], ["y"]),
    ],
    ("ReduceMax", ("GlobalMaxPool", "Reshape")): [
        node("GlobalMaxPool", ["x"], ["p"]),
        node("Reshape", ["p", "rows"], ["y"]),
    ],
    ("Flatten", ("Reshape",)): [node("Reshape", ["x", "rows"], ["y"])],
}
NUMBERS: dict[str, ArrayLike] = {
    "three": np.float32(3),
    "zero": np.float32(0),
    "six": np.float32(6),
    "sixth": np.float32(1 / 6),
    "rows": np.array([2, -1], np.int64),
}
ORIGINALS = {
    "HardSwish": node("HardSwish", ["x"], ["y"]),
    "Flatten": node("Flatten", ["x"], ["y"]),
    "HardSigmoid": node("HardSigmoid", ["x"], ["y"], alpha=1 / 6, beta=0.5),
    "ReduceMean": node("ReduceMean", ["x", "axes"], ["y"], keepdims=0),
    "ReduceMax": node("ReduceMax", ["x", "axes"], ["y"], keepdims=0),
}


@pytest.mark.parametrize(("op", "needs"), AS_GRAPHS)
def test_what_is_proposed_computes_the_same(op: str, needs: tuple[str, ...]) -> None:
    assert needs in [change.needs for change in CHANGES[op]]
    x = {"x": np.random.default_rng(0).normal(scale=4, size=(2, 3, 8, 8)).astype(np.float32)}
    axes = {"axes": np.array([2, 3], np.int64)} if op.startswith("Reduce") else {}
    outputs: dict[str, tuple[str, ...]] = {"y": ("N", "C", "H", "W") if op.startswith("Hard") else ("N", "C")}
    (before,) = evaluate(make_model([ORIGINALS[op]], axes, outputs=outputs), x)
    used = {name for one in AS_GRAPHS[op, needs] for name in one.input}
    constants = {name: value for name, value in NUMBERS.items() if name in used}
    (after,) = evaluate(make_model(AS_GRAPHS[op, needs], constants, outputs=outputs), x)
    np.testing.assert_allclose(after, before, atol=1e-5)


@pytest.mark.parametrize("provider", MOBILE_PROVIDERS)
def test_hard_swish_has_another_form_that_every_provider_takes(provider: str) -> None:
    known = read_operators(MOBILE_PROVIDERS[provider])
    said = propose("ai.onnx:HardSwish", known, elsewhere=None)
    assert said.startswith("write x * ")
    assert ("HardSigmoid" in said) == ("ai.onnx:HardSigmoid" in known)


def test_another_form_of_the_provider_comes_first() -> None:
    said = propose("ai.onnx:ReduceMean", {"ai.onnx:GlobalAveragePool", "ai.onnx:Reshape"}, elsewhere="MLProgram")
    assert said.startswith("choose the model format MLProgram, which takes it; or write GlobalAveragePool")


def test_what_the_provider_does_not_take_either_is_not_proposed() -> None:
    assert "GlobalAveragePool" not in propose("ai.onnx:ReduceMean", {"ai.onnx:Reshape"}, elsewhere=None)


@pytest.mark.parametrize("op", ["ai.onnx:QuantizeLinear", "ai.onnx:DequantizeLinear", "com.microsoft:QGemm"])
def test_for_integers_float_is_proposed(op: str) -> None:
    assert propose(op, set(), elsewhere=None).startswith("ship the float model")


def test_an_operator_without_another_form_says_that_it_stays_on_the_cpu() -> None:
    assert "stays on the CPU" in propose("ai.onnx:NonMaxSuppression", set(), elsewhere=None)
