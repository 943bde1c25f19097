"""Cross-layer equalization on whole networks: the same bits in float, and int8 that keeps its accuracy."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto

from edgecnn.errors import ExitCode, ModelError
from edgecnn.graph.parity import with_extremes
from edgecnn.progress import SILENT
from edgecnn.quantization import RECIPES
from edgecnn.quantization.equalization import equalize
from edgecnn.quantization.static import quantize_model
from edgecnn.targets import reference_session
from edgecnn.targets.session import feed
from tests.graphs import Array, constant, copy, evaluate, make_model, node, small_cnn, weights
from tests.nets import networks
from tests.support import make_images
from tests.unbalanced import X, factors, require_same_function

IMAGES = make_images(64, size=8)


def scaled(model: ModelProto, seed: int, span: float) -> ModelProto:
    """Return the small network with its channels multiplied by random factors, and divided again by the next layer."""
    twin, factor = copy(model), factors(seed, 4, span)
    changed = {
        "conv_w": weights(model)["conv_w"] * factor.reshape(-1, 1, 1, 1),
        "conv_b": weights(model)["conv_b"] * factor,
        "fc_w": (weights(model)["fc_w"].reshape(3, 4, 9) / factor.reshape(-1, 1)).reshape(3, 36),
    }
    for tensor in twin.graph.initializer:
        if tensor.name in changed:
            tensor.CopyFrom(constant(tensor.name, changed[tensor.name].astype(np.float32)))
    return twin


def residual() -> ModelProto:
    """Return a stem, two residual blocks with a depthwise convolution each, pooling, and a fully connected layer."""
    random = np.random.default_rng(0)

    def spread(*shape: int) -> Array:
        return random.normal(size=shape) * factors(int(random.integers(99)), shape[0]).reshape(
            -1, *[1] * (len(shape) - 1)
        )

    nodes = [node("Conv", ["x", "w", "b"], ["stem"], name="stem", pads=[1] * 4)]
    constants: dict[str, Array] = {"w": spread(6, 3, 3, 3), "b": random.normal(size=6)}
    stream = "stem"
    for block in "pq":
        nodes += [
            node("Relu", [stream], [f"{block}_in"]),
            node(
                "Conv", [f"{block}_in", f"{block}_dw"], [f"{block}_d"], name=f"{block}_depthwise", group=6, pads=[1] * 4
            ),
            node("LeakyRelu", [f"{block}_d"], [f"{block}_r"]),
            node("Conv", [f"{block}_r", f"{block}_pw"], [f"{block}_c"], name=f"{block}_pointwise"),
            node("Add", [f"{block}_c", f"{block}_in"], [f"{block}_out"]),
        ]
        constants |= {f"{block}_dw": spread(6, 1, 3, 3), f"{block}_pw": spread(6, 6, 1, 1)}
        stream = f"{block}_out"
    nodes += [
        node("GlobalAveragePool", [stream], ["mean"]),
        node("Flatten", ["mean"], ["flat"]),
        node("Gemm", ["flat", "fc"], ["y"], name="fc"),
    ]
    return make_model(nodes, constants | {"fc": random.normal(size=(6, 3))}, outputs={"y": ("N", 3)})


def test_layers_around_a_residual_addition_share_their_scales() -> None:
    result = equalize(residual())
    sides = [(group.producers, group.consumers, group.n_channels) for group in result.groups]
    assert sides == [
        (("stem", "p_pointwise", "q_pointwise"), ("p_depthwise", "q_depthwise", "fc"), 6),
        (("p_depthwise",), ("p_pointwise",), 6),
        (("q_depthwise",), ("q_pointwise",), 6),
    ]
    assert result.converged
    assert [(record.layer, record.reason) for record in result.unscaled] == [("fc", "is the network's output")]
    require_same_function(residual(), result.model)


def imbalance(model: ModelProto, made: str, read: str) -> float:
    """Return how far apart the ranges of channels are in the layer that makes them and the one that reads them."""
    ratio = np.abs(weights(model)[made]).max((1, 2, 3)) / np.abs(weights(model)[read]).max((0, 2, 3))
    return float(ratio.max() / ratio.min())


@pytest.mark.parametrize("block", "pq")
def test_a_channel_becomes_as_large_where_it_is_made_as_where_it_is_read(block: str) -> None:
    made, read = f"{block}_dw", f"{block}_pw"
    assert imbalance(residual(), made, read) > 100
    assert imbalance(equalize(residual(), power_of_two=False).model, made, read) == pytest.approx(1, abs=0.01)
    assert imbalance(equalize(residual()).model, made, read) <= 8  # each of three scales is off by up to a root of two


def test_the_record_says_how_far_the_scales_go() -> None:
    model = small_cnn()
    result = equalize(model)
    (group,) = result.groups
    scale = weights(result.model)["conv_b"] / weights(model)["conv_b"]
    assert (group.scale_low, group.scale_high) == (scale.min(), scale.max())
    assert (group.producers, group.consumers, group.n_channels) == (("conv",), ("fc",), 4)
    assert 1 <= result.iterations < 20


def test_a_dead_channel_is_left_alone_and_named() -> None:
    model = small_cnn()
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == "conv_w")
    values = weights(model)["conv_w"].copy()
    values[2] = 0
    tensor.CopyFrom(constant("conv_w", values))
    result = equalize(model)
    assert result.groups[0].n_channels == 3
    (record,) = (record for record in result.unscaled if record.layer == "conv")
    assert (record.n_channels, record.reason) == (1, "no weight other than 0 makes it, or none reads it")
    assert weights(result.model)["conv_b"][2] == weights(model)["conv_b"][2]
    require_same_function(model, result.model)


@settings(max_examples=40)
@given(model=networks(), seed=st.integers(0, 99))
def test_any_network_is_the_same_function_bit_for_bit(model: ModelProto, seed: int) -> None:
    random = np.random.default_rng(seed)
    for tensor in model.graph.initializer:
        values = weights(model)[tensor.name]
        if values.dtype == np.float32:
            spread = random.choice([0.01, 1, 100], values.shape[0]).reshape(-1, *[1] * (values.ndim - 1))
            tensor.CopyFrom(constant(tensor.name, (values * spread * random.choice([-1, 1])).astype(np.float32)))
    result = equalize(model)
    x = random.normal(size=(2, 3, 9, 8)).astype(np.float32)
    np.testing.assert_array_equal(
        evaluate(result.model, {"x": x})[0].astype(np.float32), evaluate(model, {"x": x})[0].astype(np.float32)
    )


@given(seed=st.integers(0, 99), span=st.sampled_from([16.0, 64.0]))
@settings(max_examples=10)
def test_factors_between_layers_leave_no_trace_but_rounding_to_powers_of_two(seed: int, span: float) -> None:
    model = small_cnn()
    base, undone = (weights(equalize(one, power_of_two=False).model) for one in (model, scaled(model, seed, span)))
    ratio = undone["conv_w"] / base["conv_w"]
    np.testing.assert_allclose(ratio, ratio.ravel()[0], rtol=5e-3)  # one factor in common does no harm
    rounded = weights(equalize(scaled(model, seed, span)).model)["conv_w"] / base["conv_w"]
    per_channel = rounded[:, 0, 0, 0]
    assert per_channel.max() / per_channel.min() <= 2.01


def noise(model: ModelProto, recipe: str, reference: ModelProto) -> float:
    """Return the squared error of int8's logits as a fraction of float's squares."""
    data = quantize_model(model.SerializeToString(), IMAGES, RECIPES[recipe], name="ours", threads=1, progress=SILENT)
    session = reference_session(data, model_name="int8")
    found = session.run(feed(IMAGES.pixels, session.input))
    expected = evaluate(reference, {"x": feed(IMAGES.pixels, session.input)})[0]
    return float(np.square(found - expected).sum() / np.square(expected).sum())


@pytest.mark.parametrize("recipe", ["u8s8-perchannel-minmax-reduced", "u8s8-pertensor-minmax"])
def test_int8_of_a_scaled_network_is_as_good_as_that_of_the_network_it_was(recipe: str) -> None:
    model = small_cnn()
    worst = scaled(model, 3, 64)
    assert noise(worst, recipe, model) > 30 * noise(model, recipe, model)
    assert noise(equalize(worst).model, recipe, model) < 3 * noise(model, recipe, model)


def test_real_images_and_extremes_give_the_same_bits() -> None:
    x = with_extremes(IMAGES.pixels).transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    for model in (small_cnn(), residual()):
        require_same_function(model, equalize(model).model, x)


def test_the_same_model_gives_the_same_bytes() -> None:
    first, second = (equalize(residual()).model.SerializeToString() for _ in range(2))
    assert first == second


def test_equalizing_again_changes_nothing() -> None:
    once = equalize(residual()).model
    again = equalize(once)
    assert all(0.5 <= group.scale_low <= group.scale_high <= 2 for group in again.groups)


def test_a_quantized_model_is_refused() -> None:
    data = quantize_model(
        small_cnn().SerializeToString(), IMAGES, RECIPES["u8s8-pertensor-minmax"], name="x", threads=1, progress=SILENT
    )
    with pytest.raises(ModelError, match=r"their\.onnx: is quantized already; expected a float model") as caught:
        equalize(ModelProto.FromString(data), name="their.onnx")
    assert caught.value.exit_code == ExitCode.BAD_INPUT
    assert "float.onnx" in caught.value.next_step


def test_a_network_of_one_layer_has_nothing_to_scale() -> None:
    model = make_model([node("Conv", ["x", "w"], ["y"], name="only")], {"w": np.ones((2, 3, 1, 1))},
                       outputs={"y": ("N", 2, 8, 8)})  # fmt: skip
    result = equalize(model)
    assert (result.groups, result.iterations) == ((), 1)
    assert [record.reason for record in result.unscaled] == ["is the network's output"]


def test_tensors_that_have_only_a_fixed_part_in_common_are_balanced_apart() -> None:
    random = np.random.default_rng(0)
    constants: dict[str, Array] = {}
    nodes = []
    for name, factor in (("p", 1e-3), ("q", 1e3)):
        constants |= {
            f"{name}_w": factor * random.normal(size=(4, 3, 1, 1)) * factors(1, 4).reshape(-1, 1, 1, 1),
            f"{name}_b": random.normal(size=4),
            f"{name}_v": random.normal(size=(2, 7, 1, 1)),
        }
        nodes += [
            node("Conv", ["x", f"{name}_w", f"{name}_b"], [f"{name}_a"], name=name),
            node("Concat", [f"{name}_a", "x"], [f"{name}_c"], axis=1),
            node("Conv", [f"{name}_c", f"{name}_v"], [f"{name}_y"], name=f"{name}_reader"),
        ]
    model = make_model([*nodes, node("Add", ["p_y", "q_y"], ["y"])], constants, outputs={"y": ("N", 2, 8, 8)})
    after = weights(equalize(model, power_of_two=False).model)
    for name in "pq":
        scale = after[f"{name}_b"] / constants[f"{name}_b"]
        assert np.exp(np.log(scale).mean()) == pytest.approx(1, rel=1e-3)


def test_every_output_channel_is_accounted_for() -> None:
    for model in (small_cnn(), residual()):
        result = equalize(model)
        made: dict[str, int] = {}
        for names, count in itertools.chain(
            ((group.producers, group.n_channels) for group in result.groups),
            (((record.layer,), record.n_channels) for record in result.unscaled),
        ):
            for name in names:
                made[name] = made.get(name, 0) + count
        shapes = {one.name: weights(model)[one.input[1]].shape for one in model.graph.node if one.op_type == "Conv"}
        assert all(made[name] == shape[0] for name, shape in shapes.items())


def test_grouped_and_transposed_convolutions_take_up_scales() -> None:
    random = np.random.default_rng(0)
    model = make_model(
        [
            node("Conv", ["x", "w1"], ["a"], name="one"),
            node("Relu", ["a"], ["b"]),
            node("Conv", ["b", "w2"], ["c"], name="grouped", group=2),
            node("Relu", ["c"], ["d"]),
            node("ConvTranspose", ["d", "w3"], ["e"], name="transposed", group=2, strides=[2, 2]),
            node("Relu", ["e"], ["f"]),
            node("Conv", ["f", "w4"], ["y"], name="last"),
        ],
        {
            "w1": random.normal(size=(4, 3, 1, 1)) * factors(0, 4).reshape(-1, 1, 1, 1),
            "w2": random.normal(size=(6, 2, 3, 3)) * factors(1, 6).reshape(-1, 1, 1, 1),
            "w3": random.normal(size=(6, 2, 2, 2)) * factors(2, 2).reshape(1, -1, 1, 1),
            "w4": random.normal(size=(2, 4, 1, 1)),
        },
        outputs={"y": ("N", 2, "H", "W")},
    )
    result = equalize(model)
    assert [group.n_channels for group in result.groups] == [4, 6, 4]
    assert all(group.scale_high > group.scale_low for group in result.groups)
    require_same_function(model, result.model, X)


@pytest.mark.parametrize("size", [1e-4, 1e-9, 1e-12])
def test_a_channel_that_is_all_bias_is_not_scaled_up_over_the_others(size: float) -> None:
    random = np.random.default_rng(0)
    small = random.normal(size=(2, 3, 3, 3)) * size
    model = make_model(
        [
            node("Conv", ["x", "w", "b"], ["conv"], name="conv"),
            node("Relu", ["conv"], ["relu"]),
            node("GlobalAveragePool", ["relu"], ["pool"]),
            node("Flatten", ["pool"], ["flat"]),
            node("Gemm", ["flat", "fc", "fc_b"], ["y"], name="fc", transB=1),
        ],
        {
            "w": np.concatenate([small, random.normal(size=(2, 3, 3, 3))]),
            "b": np.array([1.0, 0.5, 0.1, 0.2]),
            "fc": random.normal(size=(3, 4)),
            "fc_b": random.normal(size=3),
        },
        outputs={"y": ("N", 3)},
    )
    data = model.SerializeToString()
    spec = reference_session(data, model_name="float").input
    recipe = RECIPES["u8s8-perchannel-minmax-reduced-equalized-rounded-corrected"]
    int8 = quantize_model(data, IMAGES, recipe, name="ours", threads=1, progress=SILENT)
    expected, found = (reference_session(each, model_name="m").run(feed(IMAGES.pixels, spec)) for each in (data, int8))
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()
