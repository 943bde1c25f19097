"""Flips and shifts of a whole data set at once, on bytes, before it is turned into floats."""

import torch
from torch import Tensor
from torch.nn import functional


def pad_by_reflection(pixels: Tensor, border: int) -> Tensor:
    """Return uint8 ``[N, H + 2 border, W + 2 border, C]`` from uint8 ``[N, H, W, C]``."""
    if border == 0:
        return pixels
    channels_first = pixels.permute(0, 3, 1, 2)
    padded = [
        # torch pads no bytes by reflection; pieces keep the float copy small
        functional.pad(piece.float(), (border,) * 4, mode="reflect").to(torch.uint8)
        for piece in torch.split(channels_first, 4096)
    ]
    return torch.cat(padded).permute(0, 2, 3, 1).contiguous()


def shift_and_flip(padded: Tensor, border: int, *, flip: bool, generator: torch.Generator) -> Tensor:
    """Cut a random window out of each padded image and mirror half of them.

    Images with the same shift are cut with one slice: a handful of large copies instead of N small ones.

    Args:
        padded: uint8 ``[N, H + 2 border, W + 2 border, C]``.
        border: largest shift either way, in pixels.
        flip: whether to mirror.
        generator: the source of randomness.

    Returns:
        uint8 ``[N, H, W, C]``.
    """
    n, padded_height, padded_width, channels = padded.shape
    height, width = padded_height - 2 * border, padded_width - 2 * border
    shifts = 2 * border + 1
    kinds = shifts * shifts * (2 if flip else 1)
    kind_of_image = torch.randint(kinds, (n,), generator=generator)
    result = torch.empty((n, height, width, channels), dtype=torch.uint8)
    for kind in range(kinds):
        chosen = (kind_of_image == kind).nonzero()[:, 0]
        top, left = kind // shifts % shifts, kind % shifts
        window = padded[chosen, top : top + height, left : left + width]
        result[chosen] = window.flip(2) if kind >= shifts * shifts else window
    return result
