"""An exported classifier against its simplified form, on images."""

import numpy as np
from numpy.typing import NDArray

from edgecnn.bundle.manifest import ParityRecord
from edgecnn.errors import ParityError
from edgecnn.graph.activations import onnx_activations
from edgecnn.graph.bisection import LayerLedger, compare_layers
from edgecnn.graph.parity import BATCH_SIZES, TOLERANCE, Form, check_parity, telling_images, with_extremes
from edgecnn.graph.simplify import NAME, Comparison
from edgecnn.targets import reference_session
from edgecnn.targets.session import feed


def compare_on_images(data: bytes, pixels: NDArray[np.uint8], name: str) -> Comparison[ParityRecord]:
    """Return a comparison with a classifier on real images and extreme ones, at every batch size.

    Args:
        data: the ONNX file before it is simplified.
        pixels: real images, uint8 ``[N, H, W, 3]``.
        name: what to call the model in a message.

    Raises:
        ModelError: ONNX Runtime cannot load it, or it is no classifier.
    """
    old = reference_session(data, model_name=name)
    compared = with_extremes(pixels)
    fixed = old.input.shape[0] if isinstance(old.input.shape[0], int) else None

    def verify(simplified: bytes) -> ParityRecord:
        new = reference_session(simplified, model_name=NAME)
        return check_parity(
            "simplify",
            Form(name="the exported model", run=lambda images: old.run(feed(images, old.input))),
            Form(name=NAME, run=lambda images: new.run(feed(images, new.input))),
            compared,
            batch_sizes=BATCH_SIZES if fixed is None else (fixed,),
        )

    def explain(simplified: bytes, error: ParityError | None) -> LayerLedger:
        images = error.images if error is not None else ()
        batch = compared[list(images or telling_images(len(compared), fixed))]
        feeds = {old.input.name: feed(batch, old.input)}
        return compare_layers(onnx_activations(data, feeds, name), onnx_activations(simplified, feeds, NAME), TOLERANCE)

    return Comparison(verify=verify, explain=explain)
