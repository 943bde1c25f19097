import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from edgecnn.training.augment import pad_by_reflection, shift_and_flip


def pictures(n: int, height: int = 6, width: int = 7, seed: int = 0) -> Tensor:
    return torch.randint(
        0, 256, (n, height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def augmented(images: Tensor, border: int, *, flip: bool, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return shift_and_flip(pad_by_reflection(images, border), border, flip=flip, generator=generator)


def windows(image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], border: int) -> dict[tuple[int, int, bool], bytes]:
    """Every picture that augmentation may make of one: shift down, shift right, mirrored."""
    height, width, _ = image.shape
    padded = np.pad(image, ((border, border), (border, border), (0, 0)), mode="reflect")
    found = {}
    for top in range(2 * border + 1):
        for left in range(2 * border + 1):
            window = padded[top : top + height, left : left + width]
            found[top, left, False] = window.tobytes()
            found[top, left, True] = window[:, ::-1].tobytes()
    return found


def kinds_of(before: Tensor, after: Tensor, border: int) -> list[tuple[int, int, bool]]:
    """Which of the possible pictures each one became; fails where it is none or not exactly one."""
    kinds = []
    for image, result in zip(before.numpy(), after.numpy(), strict=True):
        matching = [kind for kind, window in windows(image, border).items() if window == result.tobytes()]
        assert len(matching) == 1
        kinds.append(matching[0])
    return kinds


@given(
    n=st.integers(1, 5),
    height=st.integers(4, 9),
    width=st.integers(4, 9),
    border=st.integers(0, 3),
    seed=st.integers(0, 9),
)
def test_padding_is_numpys_reflection(n: int, height: int, width: int, border: int, seed: int) -> None:
    images = pictures(n, height, width, seed)
    padded = pad_by_reflection(images, border)
    expected = np.pad(images.numpy(), ((0, 0), (border, border), (border, border), (0, 0)), mode="reflect")
    assert padded.dtype == torch.uint8
    np.testing.assert_array_equal(padded.numpy(), expected)


def test_many_images_are_padded_in_pieces_and_stay_in_order() -> None:
    images = pictures(4096 + 5, 3, 3)
    torch.testing.assert_close(pad_by_reflection(images, 1)[:, 1:-1, 1:-1], images)


@pytest.mark.parametrize(("flip", "number_of_kinds"), [(False, 25), (True, 50)])
def test_every_output_is_exactly_one_window_of_its_own_input_and_all_kinds_occur(
    flip: bool, number_of_kinds: int
) -> None:
    images = pictures(1500)
    kinds = kinds_of(images, augmented(images, 2, flip=flip), 2)
    assert len(set(kinds)) == number_of_kinds
    assert any(mirrored for _, _, mirrored in kinds) == flip


def test_every_kind_is_about_as_likely() -> None:
    images = pictures(1800)
    kinds = kinds_of(images, augmented(images, 1, flip=True), 1)
    counts = np.array([kinds.count(kind) for kind in set(kinds)])
    assert len(counts) == 18
    # chi-square with 17 degrees of freedom: 40.8 is exceeded once in 1000 times
    assert ((counts - 100) ** 2 / 100).sum() < 40.8


def test_without_border_and_flip_nothing_changes() -> None:
    images = pictures(20)
    torch.testing.assert_close(augmented(images, 0, flip=False), images)


def test_without_border_half_of_the_images_are_mirrored() -> None:
    images = pictures(400)
    result = augmented(images, 0, flip=True)
    mirrored = (result == images.flip(2)).flatten(1).all(1)
    unchanged = (result == images).flatten(1).all(1)
    assert (mirrored ^ unchanged).all()
    assert 160 < int(mirrored.sum()) < 240


def test_the_generator_decides_alone() -> None:
    images = pictures(50)
    torch.manual_seed(1)
    first = augmented(images, 2, flip=True, seed=5)
    torch.manual_seed(2)
    assert torch.equal(first, augmented(images, 2, flip=True, seed=5))
    assert not torch.equal(first, augmented(images, 2, flip=True, seed=6))


def test_the_input_is_left_as_it_was() -> None:
    padded = pad_by_reflection(pictures(20), 2)
    before = padded.clone()
    shift_and_flip(padded, 2, flip=True, generator=torch.Generator().manual_seed(0))
    assert torch.equal(padded, before)
