"""Operators timed by ONNX Runtime's profiler; no figure of this machine is asserted."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.bundle.operators import ModelProfile, OperatorTime
from edgecnn.errors import StageError
from edgecnn.measure import operators
from edgecnn.measure.layer_names import LayerNames
from edgecnn.measure.operators import Profiled, compare_layers, profile_operators, typical_us
from tests.bundles import fast_model, slow_model
from tests.graphs import make_model, node

BATCH = np.zeros((1, 3, 32, 32), np.float32)


def profiled(model: bytes) -> Profiled:
    return Profiled(model=model, name="model.onnx", batch=BATCH)


def test_every_operator_of_both_models_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "PROFILE_S", 0.01)
    of_float, of_int8, layers = profile_operators(
        (profiled(fast_model()), profiled(slow_model())), provider="CPUExecutionProvider", threads=1
    )
    for profile in (of_float, of_int8):
        assert profile.runs >= 30
        assert profile.total_us == pytest.approx(sum(row.us for row in profile.operators))
        assert sum(row.share for row in profile.operators) == pytest.approx(1)
    convolutions = {row.layer for row in of_int8.operators if "Conv" in row.op}
    assert convolutions == {"make_wide", "make_features"}
    assert of_int8.total_us > of_float.total_us  # 48 channels of 3x3 against a Relu
    assert of_int8.overhead_us == sum(row.us for row in of_int8.operators if row.op.startswith("Reorder"))
    (gemm,) = layers
    assert (gemm.op, gemm.layer) in {("Gemm", "make_logits"), ("Gemm", "make_raw")}
    assert gemm.float_us is not None
    assert gemm.int8_us is not None


def test_nothing_of_the_profiler_is_left_in_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(operators, "PROFILE_S", 0.01)
    profile_operators((profiled(fast_model()), profiled(fast_model())), provider="CPUExecutionProvider", threads=1)
    assert list(tmp_path.iterdir()) == []


def test_the_first_runs_are_left_out(tmp_path: Path) -> None:
    trace = tmp_path / "trace.json"
    events: list[dict[str, object]] = [{"cat": "Session", "name": "model_run", "dur": 1}]
    for us in (900, 800, 10, 11, 12):
        events.append({"cat": "Node", "name": "conv_kernel_time", "dur": us, "args": {"op_name": "Conv"}})
        events.append({"cat": "Node", "name": "conv_fence_before", "dur": 5, "args": {"op_name": "Conv"}})
    trace.write_text(json.dumps(events))
    assert operators._read(trace, "m", skip=2) == [("conv", "Conv", [10, 11, 12])]
    with pytest.raises(StageError, match="some without a run after the warm-up"):
        operators._read(trace, "m", skip=5)


def test_a_trace_without_operators_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "trace.json").write_text("[]")
    with pytest.raises(StageError, match="the profile of m holds 0 operators"):
        operators._read(tmp_path / "trace.json", "m", skip=0)


@given(true_us=st.floats(1.5, 20), seed=st.integers(0, 2**16))
def test_the_typical_time_is_finer_than_the_microseconds_it_is_told_in(true_us: float, seed: int) -> None:
    times = np.random.default_rng(seed).normal(true_us, 0.6, 4000).clip(0)
    assert typical_us(np.floor(times).astype(np.int64)) == pytest.approx(true_us, abs=0.12)


@pytest.mark.parametrize(
    ("float_us", "int8_us", "slower"),
    [(10, 12, True), (10, 10.4, False), (10, 8, False), (2, 2.4, False), (2, 2.6, True), (None, 5, False)],
)
def test_a_layer_is_slower_only_by_more_than_the_grain(float_us: float | None, int8_us: float, slower: bool) -> None:
    names = LayerNames(make_model([node("Conv", ["x", "w"], ["y"], name="conv")], {"w": [1.0]}))

    def profile(us: float | None) -> ModelProfile:
        rows = () if us is None else (OperatorTime(name="y", op="Conv", layer="conv", overhead=False, us=us, share=1),)
        return ModelProfile(operators=rows, total_us=us or 0, overhead_us=0, runs=9)

    (found,) = compare_layers(profile(float_us), profile(int8_us), names, names)
    assert (found.float_us, found.int8_us, found.slower_in_int8) == (float_us, int8_us, slower)


def test_a_layer_made_of_two_operators_takes_as_long_as_both() -> None:
    names = LayerNames(make_model([node("MatMul", ["x", "w"], ["y"], name="fc")], {"w": [1.0]}))
    rows = tuple(
        OperatorTime(name=name, op="MatMul", layer="fc", overhead=False, us=us, share=0.5)
        for name, us in (("a", 3.0), ("b", 4.0))
    )
    profile = ModelProfile(operators=rows, total_us=7, overhead_us=0, runs=9)
    assert compare_layers(profile, profile, names, names)[0].int8_us == 7


def test_a_profile_stays_small_enough_to_be_read() -> None:
    assert operators._runs(call_us=10, nodes=10) == 2000
    assert operators._runs(call_us=1000, nodes=10) == 500
    assert operators._runs(call_us=1e6, nodes=10) == 30
    assert operators._runs(call_us=10, nodes=2000) == 100
    assert operators._runs(call_us=10, nodes=10**6) == 30


@pytest.mark.parametrize("name", ["simplecnn", "ds_cnn", "resnet8", "mobilenet_v3"])
def test_every_layer_of_the_committed_bundles_is_found_in_both(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(operators, "PROFILE_S", 1e-3)
    folder = Path(__file__).parents[2] / "artifacts" / f"{name}-cifar10"
    models = [profiled((folder / file).read_bytes()) for file in ("float.onnx", "int8.onnx")]
    of_float, of_int8, layers = profile_operators((models[0], models[1]), provider="CPUExecutionProvider", threads=1)
    assert len(layers) >= 5
    assert [layer.layer for layer in layers if layer.float_us is None or layer.int8_us is None] == []
    for profile in (of_float, of_int8):
        known = [row.layer for row in profile.operators if row.layer is not None]
        assert sorted(known) == sorted({layer.layer for layer in layers} | set(known))
        assert len(known) == len(layers), "one operator a layer"
