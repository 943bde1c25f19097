"""The comparable figures of two measurements."""

import numpy as np
import pytest

from edgecnn.bundle.comparison import Figure
from edgecnn.measure.figures import latency_figures, protocol_figures
from edgecnn.stats import unpaired_ratio
from tests.bundles import full_latency_result, latency_result, tiny_result

SIZES = {"float.onnx": 250_000, "int8.onnx": 70_000}
A = full_latency_result()
B = full_latency_result(
    float_latency=A.float_latency.model_copy(update={"p50_us": 45.14, "images_per_second": 20617.25}),
    float_medians_us=tuple(2 * us for us in A.float_medians_us),
)


def by_name(figures: tuple[Figure, ...]) -> dict[tuple[str, str], Figure]:
    found = {(figure.model, figure.name): figure for figure in figures}
    assert len(found) == len(figures)
    return found


def test_every_figure_that_both_hold_is_compared() -> None:
    found = by_name(latency_figures(A, B, SIZES, {"float.onnx": 500_000, "int8.onnx": 7000}))
    each = ["p50", "p90", "p99", "throughput", "load", "first call", "peak memory", "size"]
    assert list(found) == [("float", name) for name in each] + [("int8", name) for name in each] + [("both", "speedup")]
    assert found["float", "size"].ratio.median == 2
    assert found["int8", "size"].ratio.median == pytest.approx(0.1)
    throughput = found["float", "throughput"]
    assert (throughput.a, throughput.b, throughput.ratio.median) == (41234.5, 20617.25, 0.5)
    assert throughput.ratio.low is None


def test_the_ratio_of_medians_has_an_interval_from_the_sessions() -> None:
    found = by_name(latency_figures(A, B, SIZES, SIZES))
    slow, same = found["float", "p50"], found["int8", "p50"]
    assert slow.ratio.median == pytest.approx(2)
    assert slow.ratio.low is not None
    assert slow.ratio.high is not None
    assert 1.8 < slow.ratio.low < 2 < slow.ratio.high < 2.2
    assert same.ratio.median == pytest.approx(1)
    assert (slow.a, slow.b) == (22.57, 45.14)


def test_the_speedup_is_compared_by_the_ratio_of_each_pair() -> None:
    speedup = by_name(latency_figures(A, B, SIZES, SIZES))["both", "speedup"]
    ratios = np.array(A.float_medians_us) / np.array(A.int8_medians_us)
    expected = unpaired_ratio(2 * ratios, ratios)
    assert expected is not None
    found = (speedup.ratio.median, speedup.ratio.low, speedup.ratio.high)
    assert found == pytest.approx((expected.delta, expected.low, expected.high))


def test_an_older_record_is_compared_by_what_it_has() -> None:
    found = by_name(latency_figures(latency_result(), B, {"int8.onnx": 1}, SIZES))
    assert set(found) == {
        ("float", "p50"), ("float", "p90"), ("float", "p99"), ("int8", "p50"), ("int8", "p90"), ("int8", "p99"),
        ("int8", "size"), ("both", "speedup"),
    }  # fmt: skip
    assert found["float", "p50"].ratio.low is None
    assert found["float", "p50"].ratio.median == pytest.approx(45.14 / 23.51)


def test_memory_that_one_system_does_not_tell_is_left_out() -> None:
    assert A.int8_startup is not None
    blind = A.model_copy(update={"int8_startup": A.int8_startup.model_copy(update={"peak_memory_bytes": None})})
    found = by_name(latency_figures(A, blind, SIZES, SIZES))
    assert ("int8", "peak memory") not in found
    assert ("float", "peak memory") in found


def test_a_protocols_figures_are_speed_and_accuracy() -> None:
    found = by_name(protocol_figures(tiny_result(), tiny_result()))
    assert found["float", "inferences"].ratio.low is not None
    assert (found["int8", "top-1, full"].a, found["int8", "top-1, balanced"].a) == (0.7237, 0.7)
    wrong = tiny_result(int8_model=tiny_result().int8_model.model_copy(update={"balanced_top1": 0.0}))
    assert ("int8", "top-1, balanced") not in by_name(protocol_figures(wrong, tiny_result()))
