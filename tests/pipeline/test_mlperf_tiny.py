"""A bundle by the rules of MLPerf Tiny, in windows too short for them."""

from pathlib import Path

import numpy as np
import pytest

from edgecnn.bundle import Bundle
from edgecnn.bundle.measurement import read_measurement
from edgecnn.data import find
from edgecnn.errors import DataError, UsageError
from edgecnn.measure.accuracy import top1
from edgecnn.measure.bench_settings import BenchSettings
from edgecnn.pipeline.context import Options
from edgecnn.pipeline.measurement import MeasureSettings, take_measurement
from edgecnn.progress import SILENT
from edgecnn.targets import open_session
from tests.bundles import plant, read_manifest, save_npz, slow_model, snapshot


def short(**chosen: object) -> MeasureSettings:
    return MeasureSettings(protocol="mlperf-tiny", window_seconds=0.02, **chosen)  # type: ignore[arg-type]


def test_speed_and_accuracy_of_both_models_are_measured(bundle_copy: Path, tmp_path: Path) -> None:
    before = snapshot(bundle_copy)
    file = tmp_path / "m.json"
    found = take_measurement(settings=short(save=file), options=Options(bundle=bundle_copy)).measurement.protocol
    assert found is not None
    assert read_measurement(file).protocol == found
    manifest = read_manifest(bundle_copy)
    assert manifest.data is not None
    images = find(manifest.data).test
    assert (found.n_balanced, found.n_full) == (200, len(images))
    for name, model in (("float.onnx", found.float_model), ("int8.onnx", found.int8_model)):
        assert len(model.windows) == 5
        assert model.inferences_per_second == float(np.median(model.windows))
        session = open_session("cpu", Bundle.open(bundle_copy).read(name, next_step=""), model_name=name)
        correct = top1(session, images, name=name, progress=SILENT).per_image_correct
        assert model.full_top1 == pytest.approx(correct.mean())
        by_class = [np.flatnonzero(images.labels == label)[:20] for label in range(10)]
        assert model.balanced_top1 == pytest.approx(correct[np.concatenate(by_class)].mean())
    assert found.departures == ("windows of 0.02 s; the protocol asks for 10 s",)
    assert snapshot(bundle_copy) == before


def test_a_much_slower_model_makes_fewer_inferences(bundle_copy: Path) -> None:
    plant(bundle_copy, "int8.onnx", slow_model())
    found = take_measurement(settings=short(), options=Options(bundle=bundle_copy)).measurement.protocol
    assert found is not None
    assert found.int8_model.inferences_per_second < found.float_model.inferences_per_second


def test_another_batch_than_one_is_refused(bundle_copy: Path) -> None:
    with pytest.raises(UsageError, match="mlperf-tiny is at batch 1, found --batch 8") as caught:
        take_measurement(settings=short(bench=(BenchSettings(batch=8),)), options=Options(bundle=bundle_copy))
    assert caught.value.next_step == "--protocol mlperf-tiny --batch 1"


def test_images_that_are_not_to_be_had_are_asked_for(bundle_copy: Path, tmp_path: Path) -> None:
    manifest = read_manifest(bundle_copy)
    assert manifest.data is not None
    data = manifest.data.model_copy(update={"sha256": "0" * 64, "source": "folder"})
    (bundle_copy / "manifest.json").write_text(manifest.model_copy(update={"data": data}).model_dump_json())
    with pytest.raises(DataError, match="are not in the cache") as caught:
        take_measurement(settings=short(), options=Options(bundle=bundle_copy, cache=tmp_path / "cache"))
    assert "--data" in caught.value.next_step


def test_images_of_other_classes_are_refused(bundle_copy: Path, tmp_path: Path) -> None:
    images = save_npz(tmp_path / "other.npz", n_train=90, n_test=90, classes=9)
    with pytest.raises(DataError, match="bench: the bundle's classes are"):
        take_measurement(settings=short(), options=Options(bundle=bundle_copy, data=str(images)))
