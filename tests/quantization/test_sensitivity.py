"""Which layer loses what: the ruined one comes first, and each figure is of the graph it says."""

import dataclasses

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecnn.errors import ModelError
from edgecnn.progress import SILENT, Progress
from edgecnn.quantization import sensitivity as room
from edgecnn.quantization.judge import Judge, Judgement
from edgecnn.quantization.prepare import prepare
from edgecnn.quantization.recipes import Recipe, recipe
from edgecnn.quantization.sensitivity import Grid, Sensitivity, layers_with_weights, measure_sensitivity, round_trip
from tests.graphs import Array, make_model, node, weights
from tests.ruined import CALIBRATION, HELD_OUT, LAYERS, MODEL, PLAIN, judge, prepared


def measure(one: Recipe = PLAIN, *, judged_by: Judge | None = None, progress: Progress = SILENT) -> Sensitivity:
    return measure_sensitivity(prepared(one), CALIBRATION, judged_by or judge(), one, threads=1, progress=progress)


@pytest.fixture(scope="module")
def found() -> Sensitivity:
    return measure()


def test_the_ruined_layer_comes_first(found: Sensitivity) -> None:
    assert {layer.layer for layer in found.layers} == set(LAYERS)
    first, *others = found.layers
    assert first.layer == "c2"
    assert first.alone.sqnr_db < min(layer.alone.sqnr_db for layer in others) - 10
    assert first.all_but.sqnr_db > found.whole.sqnr_db + 10
    assert first.all_but.drop_pp.delta < found.whole.drop_pp.delta
    assert [layer.all_but.sqnr_db for layer in found.layers] == sorted(
        (layer.all_but.sqnr_db for layer in found.layers), reverse=True
    )


class Recorder(Judge):
    """Remembers which layers of each model have integer weights, in ONNX Runtime's eyes and in the file's."""

    def __init__(self) -> None:
        super().__init__(MODEL.SerializeToString(), HELD_OUT, threads=1)
        self.seen: list[set[str]] = []

    def __call__(self, data: bytes) -> Judgement:
        model = onnx.load_model_from_string(data)
        made = {output: item.op_type for item in model.graph.node for output in item.output}
        self.seen.append({item.name for item in model.graph.node if item.name in LAYERS and made.get(item.input[1])})
        return super().__call__(data)


def test_alone_and_all_but_quantize_what_they_say() -> None:
    recorder = Recorder()
    measure(judged_by=recorder)
    whole, *pairs = recorder.seen
    assert whole == set(LAYERS)
    assert pairs[::2] == [{name} for name in LAYERS], "alone"
    assert pairs[1::2] == [set(LAYERS) - {name} for name in LAYERS], "all but"


def test_what_refines_a_layer_is_left_out_and_said() -> None:
    refined = recipe("u8s8-perchannel-minmax-reduced-rounded-corrected")
    found = measure(dataclasses.replace(refined, float_layers=("c2",)))
    assert found.recipe.name == PLAIN.name
    assert found.layers[0].layer == "c2", "although the recipe would leave it float"


def test_operators_on_integers_are_measured_as_pairs() -> None:
    found = measure(recipe("u8s8-pertensor-minmax-qoperator"))
    assert found.recipe.name == "u8s8-pertensor-minmax"
    assert all(np.isfinite(layer.weight_sqnr_db) for layer in found.layers), "their weights are not exact"


def ratio_db(signal: Array, rounded: Array) -> float:
    signal = signal.astype(np.float64)
    return float(10 * np.log10((signal**2).sum() / ((rounded - signal) ** 2).sum()))


def test_the_noise_of_weights_is_that_of_a_numpy_reference(found: Sensitivity) -> None:
    by_name = {layer.layer: layer for layer in found.layers}
    for name, weight, axis in (("c1", "w1", 0), ("c2", "w2", 0), ("c3", "w3", 0), ("fc1", "w4", 1), ("fc2", "w5", 1)):
        values = weights(MODEL)[weight].astype(np.float64)
        others = tuple(index for index in range(values.ndim) if index != axis)
        scale = np.abs(values).max(axis=others, keepdims=True) / 64
        scale[scale == 0] = 1
        expected = ratio_db(values, np.clip(np.rint(values / scale), -64, 64) * scale)
        assert by_name[name].weight_sqnr_db == pytest.approx(expected, abs=0.3), name


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_noise_of_the_image_is_that_of_a_numpy_reference(symmetric: bool) -> None:
    found = measure(dataclasses.replace(PLAIN, symmetric=symmetric))
    pixels = CALIBRATION.pixels / 255.0
    top = pixels.max()
    scale = (2 if symmetric else 1) * top / 255
    expected = ratio_db(pixels, np.clip(np.rint(pixels / scale), 0, 127 if symmetric else 255) * scale)
    (first,) = (layer for layer in found.layers if layer.layer == "c1")
    assert first.activation_sqnr_db == pytest.approx(expected, abs=0.5)


GRIDS = st.builds(
    Grid,
    scale=st.floats(1e-3, 10),
    zero_point=st.integers(0, 255),
    lowest=st.just(0),
    highest=st.just(255),
)


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=20), GRIDS)
def test_a_round_trip_gives_the_nearest_of_the_integers(values: list[float], grid: Grid) -> None:
    levels = (np.arange(256) - grid.zero_point) * grid.scale
    found = round_trip(np.array(values), grid)
    nearest = np.abs(np.array(values)[:, None] - levels).min(1)
    np.testing.assert_allclose(np.abs(found - values), nearest, atol=1e-9 * 1e4)
    assert all(np.abs(levels - value).min() < 1e-9 for value in found)


def test_a_model_whose_layers_have_no_constant_weights_is_refused() -> None:
    model = make_model(
        [
            node("Flatten", ["x"], ["flat"], name="flatten"),
            node("Transpose", ["flat"], ["turned"], name="turn", perm=[1, 0]),
            node("MatMul", ["flat", "turned"], ["y"], name="product"),
        ],
        {},
        outputs={"y": ("N", "C")},
    )
    assert layers_with_weights(model) == {}
    one = prepare(model, CALIBRATION, PLAIN, name="ours.onnx", threads=1, progress=SILENT)
    with pytest.raises(ModelError, match="no layer of the model has constant weights") as caught:
        measure_sensitivity(one, CALIBRATION, judge(), PLAIN, threads=1, progress=SILENT)
    assert "edgecnn inspect" in caught.value.next_step


class Listener:
    def __init__(self) -> None:
        self.seen: list[tuple[int, int, str]] = []

    def say(self, text: str) -> None:
        raise AssertionError(text)

    def update(self, task: str, done: int, total: int, detail: str = "") -> None:
        assert task == "sensitivity"
        self.seen.append((done, total, detail))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "N_ACTIVATION_IMAGES", 4)


@pytest.mark.usefixtures("few")
def test_progress_names_each_layer() -> None:
    listener = Listener()
    measure(progress=listener)
    assert listener.seen == [*((index, 5, name) for index, name in enumerate(LAYERS)), (5, 5, "")]
