"""One rule that brings any picture to the size a network wants."""

import numpy as np
from PIL import Image

from edgecnn.data.images import Pixels

#: A stranger's picture larger than this is refused before it is decoded (Pillow's own bound is 179 M).
MAX_IMAGE_PIXELS = 50_000_000


def describe(height: int, width: int) -> str:
    """Return the rule in words, as it stands in the manifest."""
    return (
        f"RGB; the largest centred {width}:{height} rectangle, "
        f"resized to {width}x{height} with Pillow's antialiased bilinear filter; unchanged at that size"
    )


def to_rgb(image: Image.Image, height: int, width: int) -> Pixels:
    """Crop centrally to the aspect ratio, resize with antialiasing, and return uint8 ``[H, W, 3]``."""
    if image.mode.startswith("I;16"):  # Pillow would clip at 255; it keeps the high byte of 16-bit RGB, too
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "P":  # straight to RGB, Pillow warns of a palette with transparency
        image = image.convert("RGBA")
    rgb = image.convert("RGB")
    if rgb.size != (width, height):
        scale = min(rgb.width / width, rgb.height / height)
        # width * (rgb.width / width) may round to a hair more than rgb.width
        crop_width, crop_height = min(width * scale, rgb.width), min(height * scale, rgb.height)
        left, top = (rgb.width - crop_width) / 2, (rgb.height - crop_height) / 2
        box = (left, top, min(left + crop_width, rgb.width), min(top + crop_height, rgb.height))
        rgb = rgb.resize((width, height), Image.Resampling.BILINEAR, box=box)
    return np.asarray(rgb, dtype=np.uint8)
