"""The saturation audit: its arithmetic against plain loops, and its word against an emulated Haswell."""

from collections.abc import Callable, Iterator
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from edgecnn.bundle.manifest import LayerSaturation, SaturationRecord
from edgecnn.errors import ModelError
from edgecnn.quantization.saturation import audit_saturation
from edgecnn.targets import reference_session
from edgecnn.targets.emulator import HASWELL
from edgecnn.targets.worker_process import WorkerProcess
from edgecnn.targets.worker_session import greet
from tests.integer_layers import EXPECTED, layer_model

Weights = NDArray[np.int8]
#: Pairs at the edge: 2 * 255 * 64 = 32,640 fits into 16 bits, 255 * (64 + 65) = 32,895 does not.
EDGES = ((64, 64), (65, 64), (1, 127), (2, 127), (127, 127), (-64, -64), (-64, -65), (-128, -1), (-127, -127))


def audit(model: bytes) -> SaturationRecord:
    return audit_saturation(model, name="int8.onnx")


def only(model: bytes) -> LayerSaturation:
    record = audit(model)
    (layer,) = record.layers
    assert (record.exempt, record.unknown) == ({}, {})
    return layer


def worst_by_loops(row: list[int], low: int, high: int) -> tuple[int, int]:
    """Return the smallest and largest sum of weights 2j and 2j + 1, with every corner of the activations tried."""
    padded = [*row, 0] if len(row) % 2 else row
    sums = [
        first * a + second * b
        for first, second in zip(padded[0::2], padded[1::2], strict=True)
        for a, b in product((low, high), repeat=2)
    ]
    return min(sums), max(sums)


@given(weights=hnp.arrays(np.int8, st.tuples(st.integers(1, 5), st.integers(1, 9))), signed=st.booleans())
def test_the_worst_pair_sum_is_that_of_plain_loops(weights: Weights, signed: bool) -> None:
    found = only(
        layer_model("Gemm", weights, [0] * len(weights), shape=[weights.shape[1]], signed=signed, trans_b=True)
    )
    ends = [worst_by_loops([int(w) for w in row], 0, 255) for row in weights]
    outside = [low < -32768 or high > 32767 for low, high in ends]
    assert found.outputs == len(weights)
    assert found.outputs_that_can_saturate == sum(outside)
    assert found.worst_pair_sum in {value for end in ends for value in end}
    assert (found.worst_pair_sum > 32767 or found.worst_pair_sum < -32768) == any(outside)
    assert abs(found.worst_pair_sum) >= max(abs(value) for end in ends for value in end) - 1
    every = [
        int(row[i]) * a + int(row[j]) * b
        for row in weights
        for i in range(len(row))
        for j in range(i)
        for a, b in product((0, 255), repeat=2)
    ]
    if every:
        assert abs(found.worst_pair_sum_any_order) >= max(map(abs, every)) - 1
        assert found.worst_pair_sum_any_order in every


@pytest.mark.parametrize(("op", "axes"), [("Conv", (0, 3, 1, 2)), ("QLinearConv", (0, 3, 1, 2))])
def test_a_convolution_sums_its_channels_first(op: str, axes: tuple[int, ...]) -> None:
    kernel = np.zeros((1, 2, 2, 3), np.int8)  # output, row, column, channel
    kernel.reshape(-1)[[2, 3]] = 127  # the last channel of one pixel and the first of the next: 2j and 2j + 1
    model = layer_model(op, np.ascontiguousarray(kernel.transpose(axes)), [0], shape=[3, 4, 4])
    assert only(model).worst_pair_sum == 2 * 255 * 127


def test_neighbours_that_are_not_summed_are_only_a_bound() -> None:
    weights = np.zeros((1, 6), np.int8)
    weights[0, [1, 2]] = 127
    found = only(layer_model("Gemm", weights, [0], shape=[6], trans_b=True))
    assert (found.worst_pair_sum, found.worst_pair_sum_any_order) == (255 * 127, 2 * 255 * 127)
    assert found.outputs_that_can_saturate == 0


@pytest.mark.parametrize(
    ("before", "scale", "high"),
    [("", 1.0, 255), ("Relu", 1.0, 255), ("Sigmoid", 1 / 128, 128), ("Sigmoid", 1 / 1000, 255), ("Tanh", 1 / 100, 100)],
)
def test_a_known_range_of_the_input_is_used(before: str, scale: float, high: int) -> None:
    weights = np.full((1, 4), 127, np.int8)
    found = only(layer_model("Gemm", weights, [0], shape=[4], trans_b=True, before=before, scale=scale))
    assert (found.activation_low, found.activation_high) == (0, high)
    assert found.worst_pair_sum == 2 * 127 * high
    assert (found.outputs_that_can_saturate == 0) == (high <= 129)


def test_a_model_in_float_has_nothing_to_saturate() -> None:
    from tests.graphs import small_cnn

    assert audit(small_cnn().SerializeToString()) == SaturationRecord(layers=())


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_activations_of_16_bits_are_no_product_of_bytes(dtype: type) -> None:
    from tests.graphs import make_model, node

    constants = {"s": np.float32(0.01), "z": dtype(7), "w": np.full((4, 2), 127, np.int8), "ws": np.float32(1)}
    model = make_model(
        [
            node("QuantizeLinear", ["x", "s", "z"], ["q"]),
            node("DequantizeLinear", ["q", "s", "z"], ["d"]),
            node("DequantizeLinear", ["w", "ws"], ["wd"]),
            node("Gemm", ["d", "wd"], ["y"], name="layer"),
        ],
        constants,
        inputs={"x": ("N", 4)},
        opset=21,
    )
    found = audit(model.SerializeToString())
    assert found.layers == ()
    assert found.exempt == {"layer": "activations of 16 bits are computed in float"}


def test_a_broken_model_is_refused() -> None:
    with pytest.raises(ModelError, match=r"int8\.onnx"):
        audit(b"nothing of the sort")


@pytest.mark.parametrize(
    ("weights", "options", "outputs"),
    [
        ([[-128, 0, -128], [-128, 127, 0], [-128, -128, -128]], {}, 2),
        ([[-128, 0, -128], [-128, 127, 0], [-128, -128, -128]], {"signed": True}, 2),
        ([[-127, -127, -128]], {}, 0),
        ([[-128, -128, -128]], {"before": "Relu", "zero": 1}, 0),
    ],
)
def test_two_weights_of_minus_128_are_too_many_for_arm(
    weights: list[list[int]], options: dict[str, Any], outputs: int
) -> None:
    model = layer_model("Gemm", np.array(weights, np.int8), [0] * len(weights), shape=[3], trans_b=True, **options)
    assert audit(model).may_overflow_on_arm == ({"layer": outputs} if outputs else {})


def test_unsigned_weights_and_conv_integer_are_not_too_many_for_arm() -> None:
    unsigned = layer_model("Gemm", np.full((2, 3), 128, np.uint8), [0] * 2, shape=[3], trans_b=True)
    assert audit(unsigned).may_overflow_on_arm == {}
    model = layer_model("ConvInteger", np.full((2, 3, 3, 3), -128, np.int8), [], shape=[3, 4, 4])
    assert audit(model).may_overflow_on_arm == {}


# Against the CPU itself.


def edge_rows(length: int, at: list[int]) -> Weights:
    """Return rows of zeros with one pair of weights each: every edge at every place."""
    rows = np.zeros((len(EDGES) * len(at), length), np.int8)
    for row, (place, pair) in zip(rows, product(at, EDGES), strict=True):
        row[place : place + 2] = pair
    return rows


Both = Callable[[bytes, NDArray[np.float32], int], tuple[NDArray[Any], NDArray[Any]]]


@pytest.fixture(scope="module")
def both() -> Iterator[Both]:
    """Return what answers here and on a Haswell, as [N, outputs, ...]; one emulated process serves all tests."""
    if reason := HASWELL.why_not():
        pytest.skip(f"no emulated Haswell here: {reason}")
    worker = WorkerProcess(HASWELL.command(), environment=HASWELL.environment(), name="Haswell")
    greet(worker, HASWELL, "cpu@haswell")

    def ask(model: bytes, batch: NDArray[np.float32], outputs: int) -> tuple[NDArray[Any], NDArray[Any]]:
        here = reference_session(model, model_name="x").run(batch)
        opened, _ = worker.ask({"do": "open", "threads": 1}, model, limit_s=60)
        assert "nodes" in opened, opened
        header = {"do": "run", "input": "x", "dtype": "<f4", "shape": batch.shape}
        answer, logits = worker.ask(header, batch.tobytes(), limit_s=60)
        assert answer["shape"] == list(here.shape)
        there = np.frombuffer(logits, np.float32)
        return here.reshape(len(batch), outputs, -1), there.reshape(len(batch), outputs, -1)

    yield ask
    worker.close()


def as_kernel(rows: Weights, channels: int, size: int) -> Weights:
    """Turn rows in the order of a dot product into [M, C, kH, kW]."""
    return np.ascontiguousarray(rows.reshape(len(rows), size, size, channels).transpose(0, 3, 1, 2))


LAYERS = [
    ("Conv", 75, [0, 1, 2, 14, 73], {"channels": 3, "size": 5}),  # by way of im2col
    ("Conv", 144, [0, 1, 15, 16, 142], {"channels": 16, "size": 3}),  # the kernel for symmetric weights
    ("Conv", 432, [127, 128, 255, 256, 383, 384], {"channels": 48, "size": 3}),  # more than a block of the product
    ("Conv", 7, [0, 3, 4], {"channels": 7, "size": 1}),
    ("QLinearConv", 75, [0, 1, 2, 73], {"channels": 3, "size": 5}),
    ("Gemm", 401, [0, 1, 2, 255, 256, 399], {}),
    ("MatMul", 70, [0, 1, 2, 67, 68], {}),
    ("QGemm", 70, [0, 1, 2, 68], {}),
    ("MatMulInteger", 70, [0, 1, 68], {}),
]


@pytest.mark.parametrize("signed", [False, True], ids=["u8s8", "s8s8"])
@pytest.mark.parametrize(("op", "length", "at", "conv"), LAYERS, ids=[f"{row[0]}-{row[1]}" for row in LAYERS])
def test_what_is_said_to_saturate_differs_on_a_haswell_and_nothing_else(
    both: Both, op: str, length: int, at: list[int], conv: dict[str, int], signed: bool
) -> None:
    rows = edge_rows(length, at)
    weights = as_kernel(rows, **conv) if conv else rows.T.copy()
    shape = [conv["channels"], conv["size"] + 1, conv["size"] + 1] if conv else [length]
    bias = EXPECTED - 255 * rows.astype(np.int64).sum(1)
    model = layer_model(op, weights, bias, shape=shape, signed=signed)
    here, there = both(model, np.full((2, *shape), 255, np.float32), len(rows))
    differ = (here != there).any(axis=(0, 2))
    record = audit(model)
    if signed and op in ("QLinearConv", "QGemm", "MatMulInteger"):
        assert record.exempt == {"layer": "signed activations of an operator on integers are widened"}
        assert not differ.any()
        return
    (layer,) = record.layers
    assert layer.outputs_that_can_saturate == differ.sum()
    if op in ("Conv", "Gemm", "QLinearConv", "QGemm"):
        assert set(np.unique(here)) == {EXPECTED}
    expected = [worst_by_loops([int(w) for w in row], 255, 255) for row in rows]
    np.testing.assert_array_equal(differ, [low < -32768 or high > 32767 for low, high in expected])
    assert 0 < differ.sum() < len(rows)


@pytest.mark.parametrize(
    ("op", "weights", "options", "reason"),
    [
        ("Conv", np.full((16, 1, 3, 3), 127, np.int8), {"shape": [16, 4, 4], "group": 16}, "depthwise"),
        ("Conv", np.full((5, 1, 5, 5), 127, np.int8), {"shape": [5, 6, 6], "group": 5}, "depthwise"),
        ("Conv", np.full((16, 4, 3, 3), 255, np.uint8), {"shape": [4, 4, 4]}, "unsigned weights"),
        ("Gemm", np.full((9, 70), 255, np.uint8), {"shape": [70], "trans_b": True}, "unsigned weights"),
        ("ConvInteger", np.full((8, 4, 3, 3), 127, np.int8), {"shape": [4, 4, 4]}, "ConvInteger"),
    ],
)
def test_what_is_said_to_be_widened_never_differs(
    both: Both, op: str, weights: NDArray[Any], options: dict[str, Any], reason: str
) -> None:
    bias = EXPECTED - 255 * weights.reshape(len(weights), -1).astype(np.int64).sum(1)
    model = layer_model(op, weights, bias, **options)
    record = audit(model)
    assert (record.layers, record.unknown) == ((), {})
    assert reason in record.exempt["layer"]
    here, there = both(model, np.full((2, *options["shape"]), 255, np.float32), len(weights))
    np.testing.assert_array_equal(here, there)


def test_a_product_that_is_quantized_again_is_no_different(both: Both) -> None:
    rows = np.zeros((6, 10), np.int8)
    for row, place in zip(rows, (0, 1, 2, 3, 7, 8), strict=True):
        row[place : place + 2] = 127
    model = layer_model("QLinearMatMul", rows.T.copy(), [], shape=[10], output_scale=300)
    here, there = both(model, np.full((1, 10), 255, np.float32), 6)
    assert (here != there).ravel().tolist() == [True, False, True, False, False, True]
    assert only(model).outputs_that_can_saturate == 3


def test_groups_are_audited_within_themselves(both: Both) -> None:
    rows = edge_rows(18, [0, 1, 16])  # 2 channels a group, 3x3
    weights = as_kernel(np.concatenate([rows, rows[::-1]]), 2, 3)
    every = np.concatenate([rows, rows[::-1]]).astype(np.int64)
    model = layer_model("Conv", weights, EXPECTED - 255 * every.sum(1), shape=[4, 4, 4], group=2)
    here, there = both(model, np.full((1, 4, 4, 4), 255, np.float32), len(every))
    assert only(model).outputs_that_can_saturate == (here != there).any(axis=(0, 2)).sum() > 0


def test_a_range_that_keeps_a_layer_safe_does_so_there(both: Both) -> None:
    weights = np.full((16, 64), 127, np.int8)
    safe, unsafe = (
        layer_model("MatMul", weights.T.copy(), [], shape=[64], before="Sigmoid", scale=scale)
        for scale in (1 / 129, 1 / 131)
    )
    batch = np.full((3, 64), 50, np.float32)
    assert only(safe).outputs_that_can_saturate == 0
    np.testing.assert_array_equal(*both(safe, batch, 16))
    assert only(unsafe).outputs_that_can_saturate == 16
    here, there = both(unsafe, batch, 16)
    assert (here != there).all()


@pytest.mark.parametrize("seed", range(2))
def test_random_layers_that_are_safe_never_differ(both: Both, seed: int) -> None:
    random = np.random.default_rng(seed)
    weights = random.integers(-64, 65, (32, 7, 3, 3)).astype(np.int8)
    model = layer_model("Conv", weights, random.integers(-3000, 3000, 32), shape=[7, 9, 9])
    assert only(model).outputs_that_can_saturate == 0
    batch = np.where(random.random((8, 7, 9, 9)) < 0.5, 255, random.integers(0, 256, (8, 7, 9, 9))).astype(np.float32)
    here, there = both(model, batch, 32)
    np.testing.assert_array_equal(here, there)
    assert len(np.unique(here)) > 2


def test_the_edges_are_on_both_sides() -> None:
    sums = [255 * (a + b) for a, b in EDGES]
    assert {-32768 <= value <= 32767 for value in sums} == {True, False}
    assert not any(first == second for first, second in pairwise(sorted(EDGES)))
