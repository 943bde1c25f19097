"""Stage 4: ``float.onnx`` to ``int8.onnx``, calibrated on training images and on no test image."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto

from edgecnn.cli import _main
from edgecnn.data import Images
from edgecnn.data import load as load_images
from edgecnn.errors import BundleError, DataError, UsageError
from edgecnn.graph import onnx_file
from edgecnn.pipeline.context import Options, Outcome
from edgecnn.pipeline.quantize import quantize
from edgecnn.pipeline.quantize_settings import QuantizeSettings
from edgecnn.quantization.judge import Judge
from tests.bundles import fast_model, read_manifest, save_npz, snapshot, times
from tests.graphs import make_model, node

OTHER_RECIPE = "u8s8-pertensor-minmax"


def go(
    folder: Path | None = None,
    *,
    model: Path | None = None,
    data: Path | None = None,
    n_images: int | None = None,
    seed: int = 0,
    force: bool = False,
) -> Outcome:
    options = Options(bundle=folder, data=str(data) if data else None, force=force)
    return quantize(model, settings=QuantizeSettings(n_images=n_images, seed=seed), options=options)


def test_the_finished_bundle_needs_no_quantizing(bundle_copy: Path) -> None:
    before = snapshot(bundle_copy), times(bundle_copy)
    assert go(bundle_copy).unchanged
    assert (snapshot(bundle_copy), times(bundle_copy)) == before


def test_force_gives_the_same_bytes(bundle_copy: Path) -> None:
    before = snapshot(bundle_copy)
    assert not go(bundle_copy, force=True).unchanged
    assert snapshot(bundle_copy)["int8.onnx"] == before["int8.onnx"]
    assert {"validate", "bench"} <= set(read_manifest(bundle_copy).stages), "the same bytes keep what was measured"


def test_another_recipe_gives_another_file_and_strikes_what_was_measured(bundle_copy: Path) -> None:
    before = snapshot(bundle_copy)
    outcome = quantize(settings=QuantizeSettings(recipe=OTHER_RECIPE), options=Options(bundle=bundle_copy))
    manifest = read_manifest(bundle_copy)
    assert snapshot(bundle_copy)["int8.onnx"] != before["int8.onnx"]
    assert set(manifest.stages) == {"train", "export", "simplify", "quantize"}
    assert (manifest.validation, manifest.latency, manifest.checks) == ((), (), ())
    assert not (bundle_copy / "report.md").exists()
    recipe = manifest.stages["quantize"].settings["recipe"]
    assert isinstance(recipe, dict)
    assert (recipe["name"], recipe["per_channel"], recipe["ranges"]) == (OTHER_RECIPE, False, "minmax")
    artifact, ranges = outcome.artifacts
    assert (artifact.path, ranges.path) == ("int8.onnx", "ranges.json")
    assert artifact.parent_sha256 == before["float.onnx"]


def test_the_result_is_quantized_and_smaller(finished_bundle: Path) -> None:
    data = (finished_bundle / "int8.onnx").read_bytes()
    assert onnx_file.is_quantized(onnx_file.parse(data, "int8.onnx"))
    assert len(data) < 0.4 * (finished_bundle / "float.onnx").stat().st_size


def test_calibration_saw_training_images_and_no_test_image(finished_bundle: Path) -> None:
    calibration = read_manifest(finished_bundle).calibration
    assert calibration is not None
    dataset = load_images("digits", height=32, width=32)
    hashed = {
        split: {hashlib.sha256(image.tobytes()).hexdigest() for image in images.pixels}
        for split, images in (("train", dataset.train), ("test", dataset.test))
    }
    used = set(calibration.image_sha256)
    assert (calibration.split, calibration.n, len(calibration.image_sha256)) == ("train", 512, 512)
    assert used <= hashed["train"]
    assert not used & hashed["test"]
    assert calibration.data_sha256 == dataset.sha256


def test_the_seed_chooses_the_images(bundle_copy: Path) -> None:
    chosen = []
    for seed in (0, 1):
        calibration = go(bundle_copy, n_images=20, seed=seed).manifest.calibration
        assert calibration is not None
        assert (calibration.n, calibration.seed) == (20, seed)
        chosen.append(set(calibration.image_sha256))
    assert chosen[0] != chosen[1]


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.onnx"
    path.write_bytes(fast_model())
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return save_npz(tmp_path / "images.npz", n_train=70, n_test=20, classes=10)


def test_a_small_set_calibrates_on_all_it_has(tmp_path: Path, mine: Path, images: Path) -> None:
    calibration = go(tmp_path / "bundle", model=mine, data=images).manifest.calibration
    assert calibration is not None
    assert calibration.n == 70


def test_images_that_are_also_test_images_are_refused(tmp_path: Path, mine: Path) -> None:
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (30, 32, 32, 3), np.uint8)
    np.savez(tmp_path / "leak.npz", x_train=x, y_train=np.arange(30) % 10, x_test=x, y_test=np.arange(30) % 10)
    with pytest.raises(DataError, match="30 training images, of which 30 are test images as well and were") as caught:
        go(tmp_path / "bundle", model=mine, data=tmp_path / "leak.npz")
    assert caught.value.exit_code == 3
    assert "not test images" in caught.value.next_step
    assert not (tmp_path / "bundle" / "int8.onnx").exists()


def test_shared_images_are_passed_over_and_counted(tmp_path: Path, mine: Path) -> None:
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (30, 32, 32, 3), np.uint8)
    y = np.arange(30) % 10
    np.savez(tmp_path / "some.npz", x_train=x, y_train=y, x_test=x[:12], y_test=y[:12])
    calibration = go(tmp_path / "bundle", model=mine, data=tmp_path / "some.npz").manifest.calibration
    assert calibration is not None
    assert (calibration.n, calibration.excluded_as_test_images) == (18, 12)
    shared = {hashlib.sha256(image.tobytes()).hexdigest() for image in x[:12]}
    assert not shared & set(calibration.image_sha256)


def test_more_images_than_there_are_is_an_error_that_says_how_many(bundle_copy: Path) -> None:
    before = snapshot(bundle_copy)
    with pytest.raises(DataError, match="5000 calibration images were asked for") as caught:
        go(bundle_copy, n_images=5000)
    assert caught.value.next_step.startswith("--images 14")
    assert snapshot(bundle_copy) == before


@pytest.mark.parametrize(("n_images", "seed"), [(0, 0), (-3, 0), (20, -1)])
def test_numbers_below_their_least_are_refused(bundle_copy: Path, n_images: int, seed: int) -> None:
    before = snapshot(bundle_copy)
    wrong = str(min(n_images, seed))
    with pytest.raises((UsageError, DataError), match=f"found {wrong}") as caught:
        go(bundle_copy, n_images=n_images, seed=seed)
    assert caught.value.next_step
    assert snapshot(bundle_copy) == before


def test_an_unknown_recipe_lists_the_known_ones(bundle_copy: Path) -> None:
    with pytest.raises(UsageError, match="unknown recipe 'int4'; known: u8s8-perchannel-minmax-reduced, "):
        quantize(settings=QuantizeSettings(recipe="int4"), options=Options(bundle=bundle_copy))


def test_a_changed_float_model_is_refused(bundle_copy: Path) -> None:
    (bundle_copy / "float.onnx").write_bytes(fast_model())
    with pytest.raises(BundleError, match=r"float\.onnx: expected SHA-256 .* the file was changed") as caught:
        go(bundle_copy)
    assert caught.value.next_step == "edgecnn export model.pt"


# A search.

PLAIN = "u8s8-perchannel-minmax-reduced"


def test_a_search_that_succeeds_is_in_the_manifest(bundle_copy: Path) -> None:
    settings = QuantizeSettings(max_drop_pp=50, n_images=64, n_held_out=128)
    outcome = quantize(settings=settings, options=Options(bundle=bundle_copy))
    manifest = read_manifest(bundle_copy)
    assert manifest.search is not None
    assert (manifest.search.met, manifest.search.n, manifest.search.max_drop_pp) == (True, 128, 50)
    assert [one.recipe for one in manifest.search.tries] == [PLAIN], "the cheapest was enough"
    assert manifest.calibration is not None
    assert (manifest.calibration.n, len(manifest.calibration.image_sha256)) == (64, 64)
    assert [artifact.path for artifact in outcome.artifacts] == ["int8.onnx"]
    assert not (bundle_copy / "ranges.json").exists(), "those of another recipe are not kept"
    assert quantize(settings=settings, options=Options(bundle=bundle_copy)).unchanged


def test_a_recipe_chosen_by_a_search_gives_the_bytes_that_the_recipe_gives(bundle_copy: Path) -> None:
    searched = quantize(
        settings=QuantizeSettings(max_drop_pp=50, n_images=64, n_held_out=128), options=Options(bundle=bundle_copy)
    )
    plain = quantize(settings=QuantizeSettings(recipe=PLAIN, n_images=64), options=Options(bundle=bundle_copy))
    assert searched.artifacts[0].sha256 == plain.artifacts[0].sha256
    assert plain.manifest.search is None, "that search is over"


def test_images_held_apart_are_neither_calibration_nor_test_images(
    tmp_path: Path, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Images] = []
    init = Judge.__init__

    def watch(self: Judge, data: bytes, images: Images, **options: Any) -> None:
        seen.append(images)
        init(self, data, images, **options)

    monkeypatch.setattr(Judge, "__init__", watch)
    random = np.random.default_rng(0)
    x, y = random.integers(0, 256, (40, 32, 32, 3), np.uint8), np.arange(40) % 10
    x[20:30] = x[:10]  # every fourth is there twice
    np.savez(tmp_path / "some.npz", x_train=x, y_train=y, x_test=x[36:], y_test=y[36:])
    settings = QuantizeSettings(max_drop_pp=100, n_images=18, n_held_out=18)
    quantize(mine, settings=settings, options=Options(bundle=tmp_path / "bundle", data=str(tmp_path / "some.npz")))
    manifest = read_manifest(tmp_path / "bundle")
    assert manifest.calibration is not None
    assert manifest.search is not None
    (held_out,) = seen
    hashes = set(held_out.content_sha256())
    assert manifest.search.n == len(held_out) < 18, "a twin of a calibration image does not judge"
    assert not hashes & set(manifest.calibration.image_sha256)
    assert not hashes & {hashlib.sha256(image.tobytes()).hexdigest() for image in x[36:]}


def test_a_budget_that_cannot_be_met_is_exit_code_1_and_the_best_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.onnx").write_bytes(hopeless().SerializeToString())
    data = save_npz(tmp_path / "images.npz", n_train=90, n_test=20, classes=3)
    arguments = ["quantize", str(tmp_path / "mine.onnx"), "--data", str(data), "--bundle", str(tmp_path / "bundle")]
    assert _main([*arguments, "--max-drop", "0", "--images", "30", "--held-out", "60", "--recipe", PLAIN]) == 1
    told = capsys.readouterr()
    manifest = read_manifest(tmp_path / "bundle")
    assert manifest.search is not None
    assert manifest.search.met is False
    best = min(manifest.search.tries, key=lambda one: one.drop_pp)
    assert best.drop_pp > 0
    assert f"nothing that was tried loses at most 0 points; {best.recipe} loses least" in told.err
    assert "The budget of 0 points cannot be met" in " ".join(told.out.split())
    assert onnx_file.is_quantized(onnx_file.parse((tmp_path / "bundle" / "int8.onnx").read_bytes(), "int8"))
    assert _main([*arguments, "--max-drop", "0", "--images", "30", "--held-out", "60", "--recipe", PLAIN]) == 1


def hopeless() -> ModelProto:
    """Return one layer whose classes lie closer together than 8 bits can tell."""
    random = np.random.default_rng(0)
    return make_model(
        [
            node("Flatten", ["x"], ["flat"], name="flatten"),
            node("Gemm", ["flat", "w"], ["y"], name="only"),
        ],
        {"w": 100 + random.normal(size=(3 * 32 * 32, 3))},
        inputs={"x": ("N", 3, 32, 32)},
        outputs={"y": ("N", 3)},
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (QuantizeSettings(max_drop_pp=1, n_images=50, n_held_out=30), "50 images that set the ranges and 30 others"),
        (QuantizeSettings(max_drop_pp=1, n_images=70), "70 images that set the ranges and 1 others"),
        (QuantizeSettings(max_drop_pp=1, n_images=0), "expected at least one calibration image, found 0"),
        (QuantizeSettings(max_drop_pp=1, n_images=-9, n_held_out=20), "expected at least one .* image, found -9"),
    ],
)
def test_too_few_images_for_both_is_said(
    tmp_path: Path, mine: Path, images: Path, settings: QuantizeSettings, words: str
) -> None:
    before = snapshot(tmp_path)
    with pytest.raises(DataError, match=words) as caught:
        quantize(mine, settings=settings, options=Options(bundle=tmp_path / "bundle", data=str(images)))
    assert caught.value.exit_code == 3
    assert caught.value.next_step.startswith("--images")
    assert snapshot(tmp_path) == before


def test_a_set_of_one_image_over_and_over_cannot_judge(tmp_path: Path, mine: Path) -> None:
    x, y = np.zeros((20, 32, 32, 3), np.uint8), np.arange(20) % 10
    np.savez(tmp_path / "same.npz", x_train=x, y_train=y, x_test=x + 1, y_test=y)
    with pytest.raises(DataError, match="repeats its training images: each of the 10 held apart"):
        quantize(
            mine,
            settings=QuantizeSettings(max_drop_pp=1),
            options=Options(bundle=tmp_path / "bundle", data=str(tmp_path / "same.npz")),
        )


def test_held_out_images_without_a_search_are_not_ignored(bundle_copy: Path) -> None:
    with pytest.raises(UsageError, match="--held-out sets images apart for a search"):
        quantize(settings=QuantizeSettings(n_held_out=10), options=Options(bundle=bundle_copy))


# Kept ranges.


def no_calibration(*_: object, **__: object) -> None:
    raise AssertionError("the ranges were looked for again")


def by(folder: Path, recipe: str, *, force: bool = False) -> str:
    """Return the hash of int8.onnx by a recipe on a few images."""
    settings = QuantizeSettings(recipe=recipe, n_images=30)
    return quantize(settings=settings, options=Options(bundle=folder, force=force)).artifacts[0].sha256


@pytest.mark.parametrize("extra", ["", "-equalized"])
def test_ranges_are_found_once_and_give_the_same_bytes(
    bundle_copy: Path, monkeypatch: pytest.MonkeyPatch, extra: str
) -> None:
    by(bundle_copy, f"u8s8-perchannel-minmax{extra}")
    with monkeypatch.context() as patch:
        patch.setattr("edgecnn.quantization.prepare.observe_activations", no_calibration)
        kept = by(bundle_copy, f"u8s8-perchannel-minmax-reduced{extra}")
        with pytest.raises(AssertionError, match="looked for again"):
            by(bundle_copy, f"u8s8-perchannel-mse{extra}")
        with pytest.raises(AssertionError, match="looked for again"):
            by(bundle_copy, f"u8s8-perchannel-minmax-reduced{extra}", force=True)
    assert by(bundle_copy, f"u8s8-perchannel-minmax-reduced{extra}", force=True) == kept


@pytest.mark.parametrize("content", [None, b"", b"{}"], ids=["lost", "empty", "changed"])
def test_ranges_that_are_lost_or_changed_are_found_again(bundle_copy: Path, content: bytes | None) -> None:
    first = by(bundle_copy, PLAIN)
    path = bundle_copy / "ranges.json"
    before = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert by(bundle_copy, PLAIN) == first
    assert path.read_bytes() == before


# A recipe of one's own.


def test_a_recipe_file_is_followed_and_kept_in_the_manifest(bundle_copy: Path, tmp_path: Path) -> None:
    layer = onnx_file.parse((bundle_copy / "float.onnx").read_bytes(), "float").graph.node[-1].name
    path = tmp_path / "mine.toml"
    path.write_text(f'recipe = "{PLAIN}"\nfloat_layers = ["{layer}"]\n[layer_ranges]\n"{layer}" = "mse"\n')
    outcome = quantize(settings=QuantizeSettings(recipe=str(path), n_images=30), options=Options(bundle=bundle_copy))
    assert outcome.manifest.float_layers == (layer,)
    recipe = outcome.manifest.stages["quantize"].settings["recipe"]
    assert isinstance(recipe, dict)
    assert (recipe["name"], recipe["float_layers"]) == (f"{PLAIN}-1float-1ranges", [layer])
    assert str(tmp_path) not in (bundle_copy / "manifest.json").read_text(), "a bundle tells of no machine"
