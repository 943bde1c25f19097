"""Bytes that come in become float as each provider can: the same numbers, and no node that it gets wrong."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from edgecnn.targets import TARGETS, reference_session, running
from edgecnn.targets.byte_input import cast_bytes_first, dequantize_bytes
from tests.environments import use_installed
from tests.graphs import evaluate, make_model, node, small_cnn

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)


def operators(model: onnx.ModelProto) -> list[str]:
    return [each.op_type for each in model.graph.node]


def of_bytes(*, moved: bool = True, read_twice: bool = False) -> onnx.ModelProto:
    """Return a model of uint8 [N, 8, 8, 3] that reorders axes and channels, casts, and multiplies."""
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        node("Gather", ["t", "order"], ["g"], axis=1),
        node("Cast", ["g"], ["f"], to=TensorProto.FLOAT),
        node("Conv", ["f", "w"], ["c"]),
    ]
    if not moved:
        nodes = [node("Cast", ["x"], ["f0"], to=TensorProto.FLOAT), node("Transpose", ["f0"], ["f"], perm=[0, 3, 1, 2])]
        nodes.append(node("Conv", ["f", "w"], ["c"]))
    nodes.append(node("ReduceMean", ["c", "axes"], ["y"], keepdims=0))
    if read_twice:
        nodes[-1].output[0] = "m"
        nodes += [
            node("Cast", ["t"], ["t1"], to=TensorProto.FLOAT),
            node("ReduceMax", ["t1", "axes"], ["t2"], keepdims=0),
        ]
        nodes.append(node("Sub", ["m", "t2"], ["y"], name="last"))
    weights = np.random.default_rng(1).normal(size=(3, 3, 3, 3)).astype(np.float32) / 255
    constants = {"order": np.array([2, 1, 0]), "w": weights, "axes": np.array([2, 3])}
    return make_model(nodes, constants, inputs={"x": ("N", 8, 8, 3)}, input_type=TensorProto.UINT8)


@pytest.mark.parametrize("read_twice", [False, True])
def test_dequantizing_leaves_no_cast_and_gives_the_same_numbers(read_twice: bool) -> None:
    before = of_bytes(read_twice=read_twice)
    after = onnx.load_from_string(dequantize_bytes(before.SerializeToString()))
    assert "Cast" not in operators(after)
    assert operators(after).count("DequantizeLinear") == 1 + read_twice
    np.testing.assert_array_equal(evaluate(after, {"x": PIXELS})[0], evaluate(before, {"x": PIXELS})[0])


def test_casting_first_moves_floats_alone_and_gives_the_same_numbers() -> None:
    before = of_bytes()
    after = onnx.load_from_string(cast_bytes_first(before.SerializeToString()))
    assert operators(after)[:3] == ["Cast", "Transpose", "Gather"]
    np.testing.assert_array_equal(evaluate(after, {"x": PIXELS})[0], evaluate(before, {"x": PIXELS})[0])


def test_bytes_that_something_else_reads_are_not_cast_first() -> None:
    before = of_bytes(read_twice=True).SerializeToString()
    assert cast_bytes_first(before) == before


def test_a_model_that_is_as_wanted_stays_byte_for_byte() -> None:
    of_floats = small_cnn().SerializeToString()
    assert dequantize_bytes(of_floats) == of_floats
    assert cast_bytes_first(of_floats) == of_floats
    cast_first = of_bytes(moved=False).SerializeToString()
    assert cast_bytes_first(cast_first) == cast_first


@pytest.mark.parametrize("target", ["qnn@sm8650", "webgpu", "openvino"])
@pytest.mark.parametrize("moved", [True, False])
def test_bytes_give_the_answers_of_the_cpu_on_every_provider(
    target: str, moved: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_installed(target, monkeypatch)
    model = of_bytes(moved=moved).SerializeToString()
    expected = reference_session(model, model_name="bytes").run(PIXELS)
    with running(target, model, model_name="bytes") as session:
        assert set(session.nodes_by_provider) == {TARGETS[target].provider}
        np.testing.assert_allclose(session.run(PIXELS), expected, atol=5e-3 * np.abs(expected).max())
