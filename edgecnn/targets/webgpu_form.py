"""A model as WebGPU takes it, natively and on a page."""

from edgecnn.targets.byte_input import cast_bytes_first
from edgecnn.targets.float_rounding import round_in_float


def for_webgpu(model: bytes) -> bytes:
    """Return a model whose bytes become float before they are moved, and whose roundings are written in float.

    Args:
        model: an ONNX file.
    """
    return round_in_float(cast_bytes_first(model))
