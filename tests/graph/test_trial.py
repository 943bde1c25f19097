"""A network by itself: what is no classifier of single images is refused before anything is exported."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from edgecnn.errors import CheckpointError
from edgecnn.graph.trial import require_classifier
from tests.support import make_images

PIXELS = make_images(12, size=8).pixels
Pixels = NDArray[np.uint8]


def logits(images: Pixels) -> Tensor:
    return torch.from_numpy(images.reshape(len(images), -1)[:, :5].astype(np.float32))


def refusal(run: Any, batch_sizes: tuple[int, ...] = (1, 2, 8)) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        require_classifier(run, PIXELS, batch_sizes)
    assert caught.value.message.startswith("export: the network")
    assert caught.value.next_step
    return caught.value


def test_a_classifier_is_run_at_every_batch_size_and_accepted() -> None:
    seen: list[int] = []

    def run(images: Pixels) -> Tensor:
        seen.append(len(images))
        assert images.shape[1:] == (8, 8, 3)
        return logits(images)

    require_classifier(run, PIXELS, (1, 2, 8))
    assert set(seen) == {1, 2, 8}


def test_fewer_images_than_a_batch_are_enough() -> None:
    require_classifier(logits, PIXELS[:1], (64,))


def test_an_error_at_one_batch_size_is_named_with_that_size() -> None:
    def run(images: Pixels) -> Tensor:
        if len(images) == 2:
            raise KeyError("pairs")
        return logits(images)

    found = refusal(run)
    assert "fails on images of [2, 3, 8, 8] (KeyError: 'pairs')" in found.message
    assert "a network of one channel needs a forward that begins with x.mean(1, keepdim=True)" in found.next_step
    assert isinstance(found.__cause__, KeyError)
    assert "--batch" in found.next_step
    require_classifier(run, PIXELS, (1,))


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda x: (x, x, x), "gives a tuple of 3; expected one tensor of logits"),
        (lambda x: [x], "gives a list of 1;"),
        (lambda x: {"out": x, "aux": x}, "gives a dictionary with out, aux;"),
        (lambda x: {}, "gives a dictionary with nothing in it;"),
        (lambda x: x.numpy(), "gives ndarray;"),
        (lambda x: x[0], "gives [5] for 1 images; expected logits [N, classes]"),
        (lambda x: x[:, :, None], "gives [1, 5, 1] for 1 images"),
        (lambda x: x[:, :0], "gives [1, 0] for 1 images"),
        (lambda x: x[:1], "gives [1, 5] for 2 images"),
        (lambda x: x.double(), "gives torch.float64; expected logits in float32"),
        (lambda x: x.bfloat16(), "gives torch.bfloat16;"),
    ],
)
def test_what_is_no_row_of_logits_for_each_image_is_named(answer: Any, words: str) -> None:
    assert words in refusal(lambda images: answer(logits(images))).message


def test_answers_that_change_from_run_to_run_are_refused() -> None:
    generator = torch.Generator().manual_seed(0)
    found = refusal(lambda images: logits(images) * torch.rand(5, generator=generator), (4,))
    assert "other answers to the same images the second time" in found.message


def test_an_answer_that_depends_on_the_rest_of_the_batch_is_refused() -> None:
    found = refusal(lambda images: logits(images) - logits(images).mean(0))
    assert "depends on the other images of the batch" in found.message
    require_classifier(lambda images: logits(images) - logits(images).mean(0), PIXELS, (8,))  # nothing to compare with


def test_rounding_is_no_difference() -> None:
    random = np.random.default_rng(0)
    require_classifier(
        lambda images: logits(images) * float(1 + 1e-6 * random.uniform()), np.clip(PIXELS, 1, 255), (1, 8)
    )
