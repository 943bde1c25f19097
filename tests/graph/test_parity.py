"""Two forms of one network: what counts as the same, and what the error says where they differ."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecnn.errors import ExitCode, ParityError
from edgecnn.graph.parity import BATCH_SIZES, TOLERANCE, Form, Logits, check_parity, with_extremes
from tests.support import make_images

PIXELS = make_images(16, size=4).pixels
Pixels = NDArray[np.uint8]


def network(pixels: Pixels) -> Logits:
    """Map pixels to three logits, the largest of all being exactly 1."""
    flat = pixels.reshape(len(pixels), -1).astype(np.float32)
    logits: Logits = np.stack([flat.mean(1) / 255, flat[:, 0] / 510, np.ones(len(flat), np.float32)], axis=1)
    return logits


def form(name: str = "the copy", *, add: float = 0.0, image: int = 0, logit: int = 0) -> Form:
    """Return the network, wrong by ``add`` in one logit of one image."""

    def run(pixels: Pixels) -> Logits:
        logits = network(pixels)
        for row, picture in enumerate(pixels):
            if np.array_equal(picture, PIXELS[image]):
                logits[row, logit] += np.float32(add)
        return logits

    return Form(name=name, run=run)


def refused(candidate: Form, reference: Form | None = None, pixels: Pixels = PIXELS) -> ParityError:
    with pytest.raises(ParityError) as caught:
        check_parity("simplify", reference or form("the original"), candidate, pixels)
    assert caught.value.exit_code == ExitCode.STAGE_FAILED
    assert caught.value.message.startswith("simplify: ")
    assert caught.value.next_step
    return caught.value


def test_the_same_answers_pass_and_the_record_says_what_was_compared() -> None:
    record = check_parity("export", form("PyTorch"), form(), PIXELS)
    assert (record.stage, record.reference, record.n) == ("export", "PyTorch", 16)
    assert record.batch_sizes == BATCH_SIZES == (1, 2, 8)
    assert (record.max_abs_difference, record.max_relative_difference, record.argmax_flips) == (0, 0, 0)
    assert record.tolerance == TOLERANCE


@given(part=st.floats(0.05, 0.99), image=st.integers(0, 15), logit=st.integers(0, 2), sign=st.sampled_from([-1, 1]))
def test_a_difference_below_the_tolerance_passes_and_is_recorded(
    part: float, image: int, logit: int, sign: int
) -> None:
    record = check_parity("export", form(), form(add=sign * part * TOLERANCE, image=image, logit=logit), PIXELS)
    assert record.max_relative_difference == pytest.approx(part * TOLERANCE, abs=2e-7)
    assert record.max_abs_difference == pytest.approx(part * TOLERANCE, abs=2e-7)


@given(part=st.floats(1.01, 1e6), image=st.integers(0, 15), logit=st.integers(0, 2), sign=st.sampled_from([-1, 1]))
def test_a_difference_above_the_tolerance_is_refused_and_located(
    part: float, image: int, logit: int, sign: int
) -> None:
    error = refused(form(add=sign * part * TOLERANCE, image=image, logit=logit))
    assert f"image {image}, logit {logit} is " in error.message


def test_the_error_names_both_forms_and_both_values() -> None:
    error = refused(form(add=0.5, image=9, logit=2))
    assert "the copy and the original differ at batch 1: image 9, logit 2 is 1.5 instead of 1;" in error.message
    assert "relative to the largest logit 5.0e-01, allowed 1e-04. Nothing was written" in error.message


def test_the_worst_of_several_differences_is_named() -> None:
    def run(pixels: Pixels) -> Logits:
        logits = network(pixels)
        logits[:, 0] += np.float32(0.1)
        if np.array_equal(pixels[-1], PIXELS[5]):
            logits[-1, 1] -= np.float32(0.3)
        return logits

    assert "image 5, logit 1" in refused(Form(name="the copy", run=run)).message


@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e3])
def test_the_tolerance_is_relative_to_the_largest_logit(factor: float) -> None:
    def scaled(add: float) -> Form:
        return Form(name="scaled", run=lambda pixels: np.float32(factor) * form(add=add).run(pixels))

    check_parity("export", scaled(0), scaled(0.9 * TOLERANCE), PIXELS)
    refused(scaled(1.1 * TOLERANCE), scaled(0))


def test_zero_logits_equal_zero_logits_and_nothing_else() -> None:
    zero = Form(name="zero", run=lambda pixels: np.zeros((len(pixels), 3), np.float32))
    tiny = Form(name="tiny", run=lambda pixels: np.full((len(pixels), 3), 1e-30, np.float32))
    assert check_parity("export", zero, zero, PIXELS).max_relative_difference == 0
    refused(tiny, zero)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_refused_and_their_form_is_named(bad: float) -> None:
    assert "the copy gives NaN or infinite logits" in refused(form(add=bad)).message
    assert "PyTorch gives NaN or infinite logits" in refused(form(add=bad), form("PyTorch", add=bad)).message


def test_another_shape_is_refused() -> None:
    wider = Form(name="the wider", run=lambda pixels: np.zeros((len(pixels), 4), np.float32))
    assert "the wider gives [16, 4], the original [16, 3]" in refused(wider).message


def test_a_batch_that_is_lost_is_refused() -> None:
    lost = Form(name="the reshaped", run=lambda pixels: network(pixels)[:1])
    assert "the reshaped gives [8, 3], the original [16, 3]" in refused(lost).message


def test_a_batch_that_is_doubled_is_refused() -> None:
    doubled = Form(name="the doubled", run=lambda pixels: np.repeat(network(pixels), 2, axis=0))
    assert "the doubled gives [32, 3]" in refused(doubled).message


@pytest.mark.parametrize("shape", [(), (3, 1, 1)])
def test_what_is_not_one_row_of_logits_an_image_is_refused(shape: tuple[int, ...]) -> None:
    odd = Form(name="the odd", run=lambda pixels: np.ones((len(pixels), *shape), np.float32))
    assert "expected [N, classes]" in refused(odd, odd).message


def test_a_changed_answer_within_the_tolerance_is_counted_at_each_batch_size() -> None:
    tie = Form(name="a tie", run=lambda pixels: np.ones((len(pixels), 2), np.float32))
    hair = Form(name="a hair", run=lambda pixels: np.tile(np.array([1, 1 + 1e-5], np.float32), (len(pixels), 1)))
    assert check_parity("export", tie, hair, PIXELS).argmax_flips == len(BATCH_SIZES) * 16


@pytest.mark.parametrize("batch", BATCH_SIZES)
def test_a_fault_at_one_batch_size_alone_is_found(batch: int) -> None:
    def run(pixels: Pixels) -> Logits:
        return network(pixels) + np.float32(len(pixels) == batch)

    assert f"differ at batch {batch}:" in refused(Form(name="the copy", run=run)).message


@given(n=st.integers(1, 16), batch=st.integers(1, 20))
def test_every_image_is_compared_in_batches_of_exactly_the_fixed_size(n: int, batch: int) -> None:
    seen: list[int] = []

    def run(pixels: Pixels) -> Logits:
        seen.append(len(pixels))
        return network(pixels)

    record = check_parity("export", form(), Form(name="fixed", run=run), PIXELS[:n], batch_sizes=(batch,))
    assert set(seen) == {batch}
    assert (record.n, record.batch_sizes) == (n, (batch,))
    with pytest.raises(ParityError, match=f"image {n - 1}, logit 1"):
        check_parity("export", form(), form(add=1, image=n - 1, logit=1), PIXELS[:n], batch_sizes=(batch,))


@given(n=st.integers(1, 8), batch=st.integers(1, 12))
def test_an_image_that_fills_up_the_last_batch_is_counted_once(n: int, batch: int) -> None:
    tie = Form(name="a tie", run=lambda pixels: np.ones((len(pixels), 2), np.float32))
    hair = Form(name="a hair", run=lambda pixels: np.tile(np.array([1, 1 + 1e-5], np.float32), (len(pixels), 1)))
    assert check_parity("export", tie, hair, PIXELS[:n], batch_sizes=(batch,)).argmax_flips == n


@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 5), (32, 32)])
def test_the_extreme_images_come_after_the_real_ones(height: int, width: int) -> None:
    real = np.random.default_rng(0).integers(1, 255, (3, height, width, 3), np.uint8)
    pixels = with_extremes(real)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (11, height, width, 3)
    np.testing.assert_array_equal(pixels[:3], real)
    extremes = pixels[3:]
    assert any((picture == 0).all() for picture in extremes)
    assert any((picture == 255).all() for picture in extremes)
    np.testing.assert_array_equal(with_extremes(real), pixels)


def test_among_the_extremes_are_both_checkerboards_and_a_lit_corner() -> None:
    extremes = with_extremes(np.zeros((0, 4, 5, 3), np.uint8))
    rows, columns = np.indices((4, 5))
    for parity in (0, 1):
        board = np.where((rows + columns) % 2 == parity, 255, 0)[..., None].repeat(3, axis=2)
        assert any(np.array_equal(picture, board) for picture in extremes)
    corner = np.zeros((4, 5, 3))
    corner[0, 0] = 255
    assert any(np.array_equal(picture, corner) for picture in extremes)
