"""Second moments of patches: what the weights are multiplied with, against ONNX Runtime's own convolution."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecnn.graph.window import read_window
from edgecnn.quantization.input_moments import PATCHES_PER_IMAGE, InputMoments, cut_patches
from edgecnn.quantization.weighted_layers import layout
from tests.graphs import Array, evaluate, make_model, node


def convolve(x: Array, weight: Array, **attributes: Any) -> tuple[Any, Array]:
    conv = node("Conv", ["x", "w"], ["y"], **attributes)
    model = make_model([conv], {"w": weight}, inputs={"x": x.shape}, outputs={"y": [None] * x.ndim})
    return conv, evaluate(model, {"x": x})[0]


@settings(max_examples=40)
@given(
    seed=st.integers(0, 99),
    groups=st.sampled_from([1, 2, 4]),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    strides=st.tuples(st.integers(1, 2), st.integers(1, 3)),
    dilations=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
)
def test_weights_times_patches_are_what_the_convolution_gives(
    seed: int, groups: int, kernel: tuple[int, int], strides: tuple[int, int], dilations: tuple[int, int],
    pads: tuple[int, ...],
) -> None:  # fmt: skip
    random = np.random.default_rng(seed)
    x = random.normal(size=(3, 4, 7, 8)).astype(np.float32)
    weight = random.normal(size=(8, 4 // groups, *kernel)).astype(np.float32)
    conv, y = convolve(x, weight, group=groups, kernel_shape=kernel, strides=strides, dilations=dilations, pads=pads)
    window = read_window(conv, x.shape, y.shape, weight.shape, "ours")
    positions = np.stack([grid.ravel() for grid in np.indices(y.shape[2:])])
    patches = cut_patches(x, window, positions)
    rows = patches.reshape(3, -1, groups, 4 // groups * np.prod(kernel))
    blocks = layout(conv).to_blocks(weight).reshape(groups, 8 // groups, -1)
    found = np.einsum("npgk,gok->ngop", rows, blocks).reshape(y.shape)
    np.testing.assert_allclose(found, y, atol=1e-4)


def moments_of(conv: Any, weight: Array, batches: list[Array], y: Array, seed: int = 0) -> Array:
    moments = InputMoments(conv, weight.shape, seed)
    for batch in batches:
        moments.add(batch, (len(batch), *y.shape[1:]))
    return moments.value()


@pytest.mark.parametrize("groups", [1, 4])
def test_the_moments_predict_the_mean_square_of_the_outputs(groups: int) -> None:
    random = np.random.default_rng(0)
    x, weight = random.normal(size=(5, 4, 5, 5)).astype(np.float32), random.normal(size=(4, 4 // groups, 2, 2))
    conv, y = convolve(x, weight, group=groups, kernel_shape=[2, 2])
    assert np.prod(y.shape[2:]) <= PATCHES_PER_IMAGE  # every patch is taken
    gram = moments_of(conv, weight, [x[:2], x[2:]], y)
    blocks = layout(conv).to_blocks(weight).reshape(groups, 4 // groups, -1)
    predicted = np.einsum("gon,gnm,gom->go", blocks, gram, blocks).ravel()
    np.testing.assert_allclose(predicted, np.square(y).mean((0, 2, 3)), rtol=1e-4)


def test_a_last_short_batch_counts_by_its_images() -> None:
    fc = node("Gemm", ["x", "w"], ["y"], transB=1)
    x = np.random.default_rng(0).normal(size=(10, 6)).astype(np.float32)
    y = np.zeros((10, 2))
    parts = moments_of(fc, np.zeros((2, 6)), [x[:7], x[7:]], y)
    np.testing.assert_allclose(parts, (x.T @ x)[None] / 10, rtol=1e-5)


def test_a_matrix_product_over_places_takes_every_place() -> None:
    product = node("MatMul", ["x", "w"], ["y"])
    x = np.random.default_rng(0).normal(size=(2, 5, 6)).astype(np.float32)
    rows = x.reshape(10, 6)
    found = moments_of(product, np.zeros((6, 3)), [x], np.zeros((2, 5, 3)))
    np.testing.assert_allclose(found, (rows.T @ rows)[None] / 10, rtol=1e-5)


def test_patches_are_chosen_by_seed_and_are_few() -> None:
    x, weight = np.random.default_rng(0).normal(size=(2, 1, 20, 20)).astype(np.float32), np.ones((1, 1, 3, 3))
    conv, y = convolve(x, weight, kernel_shape=[3, 3])
    first, again, other = (moments_of(conv, weight, [x], y, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert np.linalg.matrix_rank(first[0]) == 9
    few = moments_of(conv, weight, [x[:1]], y)
    rows = InputMoments(conv, weight.shape, 0)._patches(x[:1], y[:1].shape)
    assert rows.shape == (1, PATCHES_PER_IMAGE, 9)
    np.testing.assert_allclose(few[0], rows[0].T.astype(float) @ rows[0] / PATCHES_PER_IMAGE, rtol=1e-5)


@pytest.mark.parametrize("axes", [1, 3])
def test_convolutions_over_one_axis_or_three_are_cut_alike(axes: int) -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(2, 3, *[5] * axes)).astype(np.float32)
    weight = random.normal(size=(4, 3, *[2] * axes)).astype(np.float32)
    conv, y = convolve(x, weight, strides=[2] * axes, pads=[1] * (2 * axes))
    window = read_window(conv, x.shape, y.shape, weight.shape, "ours")
    positions = np.stack([grid.ravel() for grid in np.indices(y.shape[2:])])
    rows = cut_patches(x, window, positions).reshape(2, positions.shape[1], -1)
    found = np.moveaxis(rows @ weight.reshape(4, -1).T, 2, 1).reshape(y.shape)
    np.testing.assert_allclose(found, y, atol=1e-4)


def test_automatic_padding_is_padding() -> None:
    random = np.random.default_rng(0)
    x, weight = random.normal(size=(2, 3, 6, 6)).astype(np.float32), random.normal(size=(4, 3, 3, 3)).astype(np.float32)
    conv, y = convolve(x, weight, auto_pad="SAME_UPPER", strides=[2, 2])
    window = read_window(conv, x.shape, y.shape, weight.shape, "ours")
    positions = np.stack([grid.ravel() for grid in np.indices(y.shape[2:])])
    rows = cut_patches(x, window, positions).reshape(2, positions.shape[1], -1)
    found = np.moveaxis(rows @ weight.reshape(4, -1).T, 2, 1).reshape(y.shape)
    np.testing.assert_allclose(found, y, atol=1e-4)
