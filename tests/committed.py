"""The committed networks, quantized here: their own int8.onnx was rewritten by tuning already."""

from functools import cache
from pathlib import Path

from edgecnn.progress import SILENT
from edgecnn.quantization.recipes import recipe
from edgecnn.quantization.static import quantize_model
from tests.support import make_images

ARTIFACTS = Path(__file__).parent.parent / "artifacts"


@cache
def quantized(name: str) -> bytes:
    """Return a committed network's int8 by the plainest recipe, with nothing rewritten; ranges are of random images."""
    data = (ARTIFACTS / f"{name}-cifar10" / "float.onnx").read_bytes()
    plain = recipe("u8s8-perchannel-minmax-reduced")
    return quantize_model(data, make_images(32), plain, name=name, threads=1, progress=SILENT)
