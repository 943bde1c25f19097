"""The comparable figures of two measurements, each with its ratio, and an interval where the samples allow one."""

from collections.abc import Mapping, Sequence

import numpy as np

from edgecnn.bundle.comparison import Figure, Ratio
from edgecnn.bundle.latency import Latency, LatencyResult, Startup
from edgecnn.bundle.mlperf_tiny import TinyModel, TinyResult
from edgecnn.stats import unpaired_ratio


def latency_figures(
    a: LatencyResult, b: LatencyResult, sizes_a: Mapping[str, int], sizes_b: Mapping[str, int]
) -> tuple[Figure, ...]:
    """Return every figure that both results hold; ratios are ``b`` divided by ``a``.

    Args:
        a: a result.
        b: another.
        sizes_a: bytes of the files behind ``a``, by name.
        sizes_b: bytes of the files behind ``b``.
    """
    figures = [
        *_model_figures("float", (a.float_latency, b.float_latency), (a.float_medians_us, b.float_medians_us)),
        *_startup_figures("float", a.float_startup, b.float_startup),
        *_size("float", sizes_a.get("float.onnx"), sizes_b.get("float.onnx")),
        *_model_figures("int8", (a.int8_latency, b.int8_latency), (a.int8_medians_us, b.int8_medians_us)),
        *_startup_figures("int8", a.int8_startup, b.int8_startup),
        *_size("int8", sizes_a.get(a.int8_model), sizes_b.get(b.int8_model)),
        _figure("speedup", "both", "times", (a.speedup.median, b.speedup.median), _speedups(a), _speedups(b)),
    ]
    return tuple(figures)


def protocol_figures(a: TinyResult, b: TinyResult) -> tuple[Figure, ...]:
    """Return inferences a second and accuracy of both models by MLPerf Tiny's rules."""
    return (*_tiny("float", a.float_model, b.float_model), *_tiny("int8", a.int8_model, b.int8_model))


def _model_figures(
    model: str, latencies: tuple[Latency, Latency], medians: tuple[Sequence[float], Sequence[float]]
) -> list[Figure]:
    a, b = latencies
    found = [
        _figure("p50", model, "us", (a.p50_us, b.p50_us), *medians),
        _figure("p90", model, "us", (a.p90_us, b.p90_us)),
        _figure("p99", model, "us", (a.p99_us, b.p99_us)),
    ]
    if a.images_per_second is not None and b.images_per_second is not None:
        found.append(_figure("throughput", model, "images/s", (a.images_per_second, b.images_per_second)))
    return found


def _startup_figures(model: str, a: Startup | None, b: Startup | None) -> list[Figure]:
    if a is None or b is None:
        return []
    found = [
        _figure("load", model, "us", (a.load_us, b.load_us)),
        _figure("first call", model, "us", (a.first_us, b.first_us)),
    ]
    if a.peak_memory_bytes and b.peak_memory_bytes:
        found.append(_figure("peak memory", model, "bytes", (a.peak_memory_bytes, b.peak_memory_bytes)))
    return found


def _size(model: str, a: int | None, b: int | None) -> list[Figure]:
    return [_figure("size", model, "bytes", (a, b))] if a and b else []


def _tiny(model: str, a: TinyModel, b: TinyModel) -> list[Figure]:
    speeds = (a.inferences_per_second, b.inferences_per_second)
    found = [_figure("inferences", model, "1/s", speeds, a.windows, b.windows)]
    for name, pair in (
        ("top-1, balanced", (a.balanced_top1, b.balanced_top1)),
        ("top-1, full", (a.full_top1, b.full_top1)),
    ):
        if pair[0] > 1e-6:
            found.append(_figure(name, model, "fraction", pair))
    return found


def _speedups(result: LatencyResult) -> list[float]:
    """Return one ratio a pair of sessions; none of a record that does not hold them."""
    pairs = zip(result.float_medians_us, result.int8_medians_us, strict=False)
    return [float_us / int8_us for float_us, int8_us in pairs]


def _figure(
    name: str,
    model: str,
    unit: str,
    values: tuple[float, float],
    samples_a: Sequence[float] = (),
    samples_b: Sequence[float] = (),
) -> Figure:
    """Return one figure; with samples, the ratio is that of Hodges and Lehmann and has an interval."""
    a, b = values
    found = unpaired_ratio(np.array(samples_b, float), np.array(samples_a, float))
    ratio = Ratio(median=b / a) if found is None else Ratio(median=found.delta, low=found.low, high=found.high)
    return Figure(name=name, model=model, unit=unit, a=a, b=b, ratio=ratio)
