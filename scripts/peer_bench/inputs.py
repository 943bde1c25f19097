"""What every peer is given: the same weights, the same calibration images, the same test images."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecnn.bundle import Bundle
from edgecnn.data import Images


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """A folder with ``float.onnx`` (one image a call), ``calibration.npy`` and, where asked for, ``float.pt2``.

    Attributes:
        folder: where they are.
        pixels: ``.npy`` of the test images, uint8 ``[N, H, W, 3]``.
        labels: int64 ``[N]``.
    """

    folder: Path
    pixels: Path
    labels: NDArray[np.int64]


def write_inputs(bundle: Bundle, calibration: Images, test: Images, folder: Path, forms: Collection[str]) -> Inputs:
    """Write the inputs of all peers.

    Args:
        bundle: holds ``float.onnx`` and ``model.pt``.
        calibration: training images.
        test: images of the accuracy.
        folder: a new one.
        forms: ``onnx`` and ``pt2``, as the peers read.

    Raises:
        BundleError: the bundle lacks a file.
        ParityError: the checkpoint is not the function of ``float.onnx``.
    """
    folder.mkdir()
    model = bundle.read("float.onnx", next_step="edgecnn export model.pt")
    (folder / "float.onnx").write_bytes(one_image_a_call(model))
    np.save(folder / "calibration.npy", calibration.pixels)
    np.save(folder / "test.npy", test.pixels)
    if "pt2" in forms:
        from scripts.peer_bench.program import export_program  # torch takes a second to import

        export_program(bundle.path("model.pt"), folder / "float.pt2", model, calibration.pixels[:32])
    return Inputs(folder=folder, pixels=folder / "test.npy", labels=test.labels)


def one_image_a_call(model: bytes) -> bytes:
    """Return a model with its batch fixed at one: most converters want shapes that are known."""
    import onnx

    graph = onnx.load_model_from_string(model)
    for value in (*graph.graph.input, *graph.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    del graph.graph.value_info[:]
    data: bytes = onnx.shape_inference.infer_shapes(graph).SerializeToString()
    return data
