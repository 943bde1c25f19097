"""All that one ``edgecnn bench`` measures, and the file it is written to."""

from pathlib import Path

import pytest

from edgecnn.bundle.measurement import read_measurement
from edgecnn.errors import BundleError, UsageError
from edgecnn.measure import operators
from edgecnn.measure.bench_settings import BenchSettings, combinations
from edgecnn.pipeline.context import Options
from edgecnn.pipeline.measurement import MeasureSettings, take_measurement
from edgecnn.pipeline.verdict import Gates
from edgecnn.targets import Session, open_session
from tests.bundles import plant, read_manifest, slow_model, snapshot

QUICK = BenchSettings(pairs=6, rounds=1, seconds=0.1)


@pytest.fixture(autouse=True)
def short_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operators, "PROFILE_S", 0.01)


def test_everything_asked_for_is_in_the_file(bundle_copy: Path, tmp_path: Path) -> None:
    file = tmp_path / "m.json"
    settings = MeasureSettings(bench=(QUICK,), profile=True, save=file)
    found = take_measurement(settings=settings, options=Options(bundle=bundle_copy))
    assert read_measurement(file) == found.measurement
    manifest = read_manifest(bundle_copy)
    assert found.results == manifest.latency
    assert found.measurement.network == "simplecnn"
    for name, model in found.measurement.models.items():
        artifact = manifest.artifact(name)
        assert artifact is not None
        assert (model.sha256, model.size_bytes) == (artifact.sha256, artifact.size_bytes)
    (profile,) = found.measurement.profiles
    assert [layer.op for layer in profile.layers] == ["Conv", "Conv", "Gemm", "Gemm", "Gemm"]
    assert all(layer.float_us and layer.int8_us for layer in profile.layers)
    assert any(operator.op == "QuantizeLinear" and operator.overhead for operator in profile.int8_model.operators)


def test_one_profile_for_each_batch_whatever_it_is_called_through(bundle_copy: Path) -> None:
    base = BenchSettings(pairs=6, rounds=1, seconds=0.05)
    settings = combinations(base, batches=[1, 2], threads=[1], through=["run", "iobinding"])
    found = take_measurement(
        settings=MeasureSettings(bench=settings, profile=True), options=Options(bundle=bundle_copy)
    )
    assert len(found.results) == 4
    assert [profile.batch for profile in found.measurement.profiles] == [1, 2]


def test_a_session_of_another_kind_has_no_profile_and_no_memory(
    bundle_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Elsewhere:
        def __init__(self, session: Session) -> None:
            self.input, self.run = session.input, session.run

    monkeypatch.setattr(
        "edgecnn.pipeline.bench_models.open_session", lambda *given, **more: Elsewhere(open_session(*given, **more))
    )
    options = Options(bundle=bundle_copy)
    (found,) = take_measurement(settings=MeasureSettings(bench=(QUICK,)), options=options).results
    assert found.int8_startup is not None
    assert (found.int8_startup.peak_memory_bytes, found.int8_startup.runtime_memory_bytes) == (None, None)
    with pytest.raises(UsageError, match="--profile reads the profiler of the onnxruntime installed here"):
        take_measurement(settings=MeasureSettings(bench=(QUICK,), profile=True), options=options)


def test_a_layer_that_is_slower_in_int8_is_named(bundle_copy: Path) -> None:
    plant(bundle_copy, "int8.onnx", slow_model())
    found = take_measurement(
        settings=MeasureSettings(bench=(QUICK,), profile=True), options=Options(bundle=bundle_copy)
    )
    (profile,) = found.measurement.profiles
    assert profile.int8_model.total_us > profile.float_model.total_us
    assert all(layer.int8_us is None for layer in profile.layers), "none of its layers is one of float's"


def test_without_a_file_none_is_written(bundle_copy: Path, tmp_path: Path) -> None:
    take_measurement(settings=MeasureSettings(bench=(QUICK,)), options=Options(bundle=bundle_copy))
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_file_that_cannot_be_written_is_found_out_before_the_work(bundle_copy: Path, tmp_path: Path) -> None:
    before = snapshot(tmp_path)
    for place, words in ((tmp_path / "none" / "m.json", "--save "), (bundle_copy / "manifest.json", "replaces only")):
        with pytest.raises(BundleError, match=words):
            take_measurement(settings=MeasureSettings(bench=(QUICK,), save=place), options=Options(bundle=bundle_copy))
    assert snapshot(tmp_path) == before


def test_a_failed_gate_is_saved_like_a_passed_one(bundle_copy: Path, tmp_path: Path) -> None:
    plant(bundle_copy, "int8.onnx", slow_model())
    found = take_measurement(
        settings=MeasureSettings(bench=(QUICK,), save=tmp_path / "m.json"),
        gates=Gates(require_speedup=True),
        options=Options(bundle=bundle_copy),
    )
    assert found.verdict.exit_code == 1
    assert read_measurement(tmp_path / "m.json").results[0].verdict == "slower"


# The protocol


def test_an_unknown_protocol_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="unknown protocol 'mlperf'; known: mlperf-tiny") as caught:
        MeasureSettings(protocol="mlperf")
    assert caught.value.next_step == "--protocol mlperf-tiny"


@pytest.mark.parametrize(
    "settings",
    [
        {"bench": (QUICK, BenchSettings())},
        {"targets": ("cpu", "xnnpack")},
        {"bench": (BenchSettings(until=0.02),)},
    ],
)
def test_a_protocol_is_one_measurement(settings: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="--protocol mlperf-tiny is one measurement"):
        MeasureSettings(protocol="mlperf-tiny", **settings)  # type: ignore[arg-type]


def test_a_protocol_decides_no_gate(bundle_copy: Path) -> None:
    with pytest.raises(UsageError, match="too few windows for an interval"):
        take_measurement(
            settings=MeasureSettings(protocol="mlperf-tiny"),
            gates=Gates(require_speedup=True),
            options=Options(bundle=bundle_copy),
        )


@pytest.mark.parametrize("target", ["cpu@haswell", "tpu"])
def test_a_protocol_needs_a_clock_too(bundle_copy: Path, target: str) -> None:
    before = snapshot(bundle_copy)
    with pytest.raises(UsageError, match=f"no latency is measured|unknown provider '{target}'"):
        take_measurement(
            settings=MeasureSettings(protocol="mlperf-tiny", targets=(target,), bench=(QUICK,)),
            options=Options(bundle=bundle_copy),
        )
    assert snapshot(bundle_copy) == before
