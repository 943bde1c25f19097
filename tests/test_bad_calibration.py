"""What quantize, sensitivity and validate may be given that is wrong, as a user sees it: nothing is touched."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto

from edgecnn.cli import _main
from tests.bundles import read_manifest, save_npz
from tests.failure import Fail, failing
from tests.graphs import make_model, node

QUANTIZE = ("quantize", "mine.onnx", "--data", "images.npz", "--bundle", "bundle")


@pytest.fixture
def fail(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fail]:
    save_npz(tmp_path / "images.npz", n_train=40, n_test=12)
    with failing(capfd, tmp_path, monkeypatch) as run:
        yield run


def classifier(*between: tuple[str, str, dict[str, object]], weight: float = 1.0) -> ModelProto:
    """Return Conv, what lies between ``a`` and ``b``, GlobalAveragePool, Gemm; the last weights are ``weight``."""
    random = np.random.default_rng(0)
    names = ["a", *(f"t{index}" for index in range(len(between)))]
    nodes = [
        node(op, [names[index], *str(extra).split()], [names[index + 1]], name=f"layer_{index}", **attributes)
        for index, (op, extra, attributes) in enumerate(between)
    ]
    return make_model(
        [
            node("Conv", ["x", "w"], ["a"], name="conv"),
            *nodes,
            node("GlobalAveragePool", [names[-1]], ["p"], name="pool"),
            node("Flatten", ["p"], ["f"], name="flatten"),
            node("Gemm", ["f", "v"], ["y"], name="fc"),
        ],
        {"w": random.normal(size=(4, 3, 3, 3)), "v": np.full((4, 3), weight), "huge": np.float32(3e38), "zero": 0.0},
        inputs={"x": ("N", 3, 32, 32)},
        outputs={"y": ("N", 3)},
    )


def save(model: ModelProto) -> None:
    Path("mine.onnx").write_bytes(model.SerializeToString())


def images(**splits: np.ndarray) -> None:
    """Save images with labels 0, 1, 2."""
    labels = {name.replace("x_", "y_"): np.arange(len(x)) % 3 for name, x in splits.items()}
    np.savez("images.npz", **splits, **labels)  # type: ignore[arg-type]


def noise(n: int, size: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), np.uint8)


@pytest.mark.parametrize("more", [(), ("--max-drop", "1")], ids=["recipe", "search"])
@pytest.mark.parametrize("count", ["0", "-1"])
def test_no_calibration_images(fail: Fail, count: str, more: tuple[str, ...]) -> None:
    save(classifier())
    found = fail(*QUANTIZE, "--images", count, *more)
    assert found.code == 3
    assert f"expected at least one calibration image, found {count}" in found.message
    assert "--images" in found.next_step


def test_fewer_than_asked(fail: Fail) -> None:
    save(classifier())
    found = fail(*QUANTIZE, "--images", "41")
    assert found.code == 3
    assert "41 calibration images were asked for; images.npz has 40 training images" in found.message
    assert found.next_step == "--images 40"


def test_fewer_than_asked_for_a_search(fail: Fail) -> None:
    save(classifier())
    found = fail(*QUANTIZE, "--images", "30", "--max-drop", "1", "--held-out", "11")
    assert found.code == 3
    assert "30 images that set the ranges and 11 others to judge on were asked for" in found.message
    assert found.next_step == "--images 20 --held-out 20"
    assert _main([*QUANTIZE, *found.next_step.split(), "--max-drop", "100"]) == 0, "what it says helps"


@pytest.mark.parametrize("more", [(), ("--max-drop", "1")], ids=["recipe", "search"])
def test_calibration_images_that_are_test_images(fail: Fail, more: tuple[str, ...]) -> None:
    save(classifier())
    images(x_train=noise(9), x_test=noise(9))
    found = fail(*QUANTIZE, *more)
    assert found.code == 3
    assert "9 training images, of which" in found.message
    assert "test images" in found.message
    assert "training images" in found.next_step


def test_images_of_another_size_are_resized_and_the_manifest_says_so(fail: Fail) -> None:
    save(classifier())
    images(x_train=noise(9, size=28), x_test=noise(9, size=28)[:3] // 2)
    assert _main([*QUANTIZE]) == 0
    data = read_manifest(Path("bundle")).data
    assert data is not None
    assert data.image_shape == (32, 32, 3)
    assert "32x32" in data.resize


def test_a_model_for_images_of_no_fixed_size_is_refused(fail: Fail) -> None:
    model = classifier()
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = "size"
    save(model)
    found = fail(*QUANTIZE)
    assert found.code == 3
    assert "expected [N, 3, H, W] or [N, H, W, 3] with fixed H and W" in found.message


NO_LAYER = make_model(
    [node("GlobalAveragePool", ["x"], ["p"], name="pool"), node("Flatten", ["p"], ["y"], name="flatten")],
    {},
    inputs={"x": ("N", 3, 32, 32)},
    outputs={"y": ("N", 3)},
)


@pytest.mark.parametrize("more", [(), ("--max-drop", "1")], ids=["recipe", "search"])
def test_a_model_without_a_quantizable_layer(fail: Fail, more: tuple[str, ...]) -> None:
    save(NO_LAYER)
    found = fail(*QUANTIZE, *more)
    assert found.code == 3
    assert "mine.onnx: has no convolution or fully connected layer to quantize" in found.message


def test_an_already_quantized_model(fail: Fail, finished_bundle: Path) -> None:
    shutil.copy(finished_bundle / "int8.onnx", "mine.onnx")
    for more in ((), ("--max-drop", "1")):
        found = fail(*QUANTIZE, *more)
        assert found.code == 3
        assert "mine.onnx: is quantized already; expected a float model" in found.message


@pytest.mark.parametrize("more", [(), ("--max-drop", "1")], ids=["recipe", "search"])
def test_a_layer_whose_range_is_infinite_is_named(fail: Fail, more: tuple[str, ...]) -> None:
    save(classifier(("Mul", "huge", {}), ("Mul", "huge", {})))
    found = fail(*QUANTIZE, "--recipe", "u8s8-perchannel-minmax-reduced", *more)
    assert found.code == 4
    assert "the layer layer_" in found.message
    assert "NaN or infinite values" in found.message


@pytest.mark.parametrize("recipe", ["u8s8-perchannel-minmax-reduced", "u8s8-pertensor-minmax", None])
def test_a_layer_whose_range_is_zero_is_fine(fail: Fail, recipe: str | None) -> None:
    save(classifier(("Mul", "zero", {})))
    assert _main([*QUANTIZE, *(("--recipe", recipe) if recipe else ())]) == 0
    assert _main(["validate", "--bundle", "bundle", "--max-drop", "0"]) == 0
    assert _main(["sensitivity", "--bundle", "bundle", "--images", "10", "--held-out", "10"]) == 0


def test_a_network_that_answers_nan_on_the_images_held_apart_is_no_good_one(fail: Fail) -> None:
    save(classifier(("Sqrt", "", {})))
    found = fail(*QUANTIZE, "--recipe", "u8s8-perchannel-minmax-reduced", "--max-drop", "1")
    assert found.code == 4
    assert "NaN or infinite" in found.message


@pytest.mark.parametrize("command", ["quantize", "sensitivity", "validate"])
def test_what_is_no_bundle(fail: Fail, command: str) -> None:
    found = fail(command, "--bundle", "nowhere")
    assert found.code == 3
    assert "nowhere: expected a bundle" in found.message


def test_sensitivity_wants_a_model_that_can_be_quantized(fail: Fail, finished_bundle: Path) -> None:
    shutil.copytree(finished_bundle, "bundle")
    from tests.bundles import plant

    for name, model, words in (
        ("already", (finished_bundle / "int8.onnx").read_bytes(), "is quantized already"),
        ("nothing", NO_LAYER.SerializeToString(), "has no convolution or fully connected layer"),
    ):
        plant(Path("bundle"), "float.onnx", model)
        found = fail("sensitivity", "--bundle", "bundle", "--images", "10", "--held-out", "10")
        assert (found.code, words in found.message) == (3, True), name


def test_sensitivity_of_other_classes(fail: Fail, finished_bundle: Path) -> None:
    shutil.copytree(finished_bundle, "bundle")
    found = fail("sensitivity", "--bundle", "bundle", "--data", "images.npz", "--images", "10", "--held-out", "10")
    assert found.code == 3
    assert "the float model gives [10, 10] for 10 images of 3 classes" in found.message


def test_validate_does_not_trust_what_a_manifest_says_of_a_model(
    finished_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    folder = Path(shutil.copytree(finished_bundle, tmp_path / "bundle"))
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    next(one for one in manifest["artifacts"] if one["path"] == "int8.onnx")["input"] = None
    path.write_text(json.dumps(manifest))
    assert _main(["validate", "--bundle", str(folder), "--max-drop", "100"]) == 0
