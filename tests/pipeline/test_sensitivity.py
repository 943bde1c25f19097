"""``edgecnn sensitivity``: what each layer costs, in the manifest, on images that set no range."""

from pathlib import Path
from typing import Any

import pytest
from onnx import ModelProto

from edgecnn.bundle.manifest import SensitivityRecord
from edgecnn.data.images import Images
from edgecnn.errors import BundleError, DataError, UsageError
from edgecnn.pipeline.context import Options
from edgecnn.pipeline.export import export
from edgecnn.pipeline.quantize import quantize
from edgecnn.pipeline.quantize_settings import QuantizeSettings
from edgecnn.pipeline.sensitivity import sensitivity
from edgecnn.quantization.judge import Judge
from tests.bundles import fast_model, read_manifest, save_npz, snapshot
from tests.graphs import make_model, node

FEW = QuantizeSettings(n_images=32, n_held_out=64, recipe="u8s8-perchannel-minmax-reduced")

FEW_ALONE = QuantizeSettings(n_images=32, recipe="u8s8-perchannel-minmax-reduced")


def go(folder: Path, settings: QuantizeSettings = FEW) -> SensitivityRecord:
    return sensitivity(settings=settings, options=Options(bundle=folder))[1]


def test_every_layer_is_ranked_in_the_manifest_and_the_report(bundle_copy: Path) -> None:
    before = snapshot(bundle_copy)
    record = go(bundle_copy)
    manifest, after = read_manifest(bundle_copy), snapshot(bundle_copy)
    assert manifest.sensitivity == record
    assert (record.recipe, record.n, len(record.layers)) == ("u8s8-perchannel-minmax-reduced", 64, 5)
    gains = [layer.all_but.sqnr_db or 1e9 for layer in record.layers]
    assert gains == sorted(gains, reverse=True)
    assert {name for name in after if after[name] != before[name]} == {"manifest.json", "report.md"}
    report = (bundle_copy / "report.md").read_text()
    assert "## Sensitivity (`sensitivity`)" in report
    assert set(manifest.stages) == set(read_manifest(bundle_copy).stages)


def test_the_same_again_gives_the_same_figures(bundle_copy: Path) -> None:
    assert go(bundle_copy) == go(bundle_copy)


def test_the_default_recipe_is_measured_without_what_hides_a_layers_cost(bundle_copy: Path) -> None:
    record = go(bundle_copy, QuantizeSettings(n_images=16, n_held_out=16))
    assert record.recipe == "u8s8-perchannel-minmax-reduced-equalized"


def test_the_images_that_judge_set_no_range(bundle_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Images] = []
    init = Judge.__init__

    def watch(self: Judge, data: bytes, images: Images, **options: Any) -> None:
        seen.append(images)
        init(self, data, images, **options)

    monkeypatch.setattr(Judge, "__init__", watch)
    go(bundle_copy)
    outcome = quantize(settings=FEW_ALONE, options=Options(bundle=bundle_copy, force=True))
    assert outcome.manifest.calibration is not None
    (held_out,) = seen
    assert held_out.split == "train"
    assert len(held_out) == 64
    assert not set(held_out.content_sha256()) & set(outcome.manifest.calibration.image_sha256)


def test_another_float_model_makes_it_untrue_even_before_it_was_quantized(
    finished_bundle: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "bundle"
    export(finished_bundle / "model.pt", options=Options(bundle=folder, data="digits"))
    go(folder)
    assert read_manifest(folder).sensitivity is not None
    export(finished_bundle / "model.pt", options=Options(bundle=folder, data="digits", force=True))
    assert read_manifest(folder).sensitivity is not None, "the same bytes"
    (tmp_path / "other.onnx").write_bytes(fast_model())
    images = save_npz(tmp_path / "images.npz", n_train=40, classes=10)
    quantize(tmp_path / "other.onnx", options=Options(bundle=folder, data=str(images), force=True))
    assert read_manifest(folder).sensitivity is None


def test_another_recipe_for_int8_leaves_it_true(bundle_copy: Path) -> None:
    record = go(bundle_copy)
    quantize(settings=FEW_ALONE, options=Options(bundle=bundle_copy))
    assert read_manifest(bundle_copy).sensitivity == record


def test_layers_without_names_are_told_apart(tmp_path: Path) -> None:
    model = _nameless()
    (tmp_path / "mine.onnx").write_bytes(model.SerializeToString())
    images = save_npz(tmp_path / "images.npz", n_train=60, classes=3)
    options = Options(bundle=tmp_path / "bundle", data=str(images))
    quantize(tmp_path / "mine.onnx", settings=QuantizeSettings(n_images=20), options=options)
    record = go(tmp_path / "bundle", QuantizeSettings(n_images=20, n_held_out=20))
    assert {layer.layer for layer in record.layers} == {"a", "y"}


def _nameless() -> ModelProto:
    model = make_model(
        [
            node("Conv", ["x", "w"], ["a"]),
            node("GlobalAveragePool", ["a"], ["p"]),
            node("Flatten", ["p"], ["f"]),
            node("Gemm", ["f", "v"], ["y"]),
        ],
        {"w": [[[[0.5]], [[0.25]], [[-1.0]]]] * 4, "v": [[1.0, 2.0, -1.0]] * 4},
        inputs={"x": ("N", 3, 32, 32)},
        outputs={"y": ("N", 3)},
    )
    for item in model.graph.node:
        item.name = ""
    return model


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        (QuantizeSettings(n_images=0, n_held_out=8), DataError, "expected at least one calibration image, found 0"),
        (QuantizeSettings(n_images=1400, n_held_out=99), DataError, "1400 images that set the ranges and 99 others"),
        (QuantizeSettings(n_held_out=5000), DataError, "and 5000 others to judge on were asked for; digits has 1437"),
        (QuantizeSettings(recipe="int4"), UsageError, "unknown recipe 'int4'"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_touched(
    bundle_copy: Path, settings: QuantizeSettings, error: type[Exception], words: str
) -> None:
    before = snapshot(bundle_copy)
    with pytest.raises(error, match=words):
        go(bundle_copy, settings)
    assert snapshot(bundle_copy) == before


def test_without_a_float_model_there_is_nothing_to_measure(bundle_copy: Path) -> None:
    (bundle_copy / "float.onnx").unlink()
    with pytest.raises(BundleError, match=r"float\.onnx: named by the manifest but not readable"):
        go(bundle_copy)
