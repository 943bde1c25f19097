"""The values of some tensors of a graph on images, one batch at a time, computed as the graph is written.

Nothing is fused: integer kernels saturate on some CPUs, and what is learned from a graph must not depend on where it
was learned. What no watched tensor needs is not computed.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.data.images import Images
from edgecnn.errors import DataError, ModelError, StageError
from edgecnn.graph.remove_unused import remove_unused
from edgecnn.targets import reference_session
from edgecnn.targets.ort_errors import ort_errors
from edgecnn.targets.session import feed

if TYPE_CHECKING:
    from onnx import ModelProto

    from edgecnn.bundle.manifest import TensorSpec

BATCH_SIZE = 32


def require_training_images(images: Images, task: str) -> None:
    """Refuse test images, and none at all.

    Raises:
        DataError: they are test images, or there are none.
    """
    if images.split != "train":
        raise DataError(
            f"{task}: takes training images only, and was given test images.",
            next_step="calibrate on the training split",
        )
    if not len(images):
        raise DataError(f"{task}: there are no images to calibrate on.", next_step="--images 512")


def input_spec(model: "ModelProto", name: str = "the model") -> "TensorSpec":
    """Return the input of a model with one input; it may have several outputs.

    Raises:
        ModelError: it has several inputs, or ONNX Runtime cannot load it.
    """
    import onnx

    first = onnx.ModelProto()
    first.CopyFrom(model)
    del first.graph.output[1:]
    return reference_session(first.SerializeToString(), model_name=name).input


def stream(
    model: "ModelProto", tensors: Sequence[str], images: Images, *, spec: "TensorSpec", threads: int
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Yield the values of each tensor on each batch of images, each image once.

    Args:
        model: float or QDQ.
        tensors: names of tensors that nodes of the graph make, or of its input.
        images: uint8, of the model's size.
        spec: the model's input.
        threads: for ONNX Runtime.

    Raises:
        StageError: ONNX Runtime failed while running, or a tensor holds NaN or infinite values.
    """
    made = [name for name in dict.fromkeys(tensors) if name != spec.name]
    session = _open(model, made, threads) if made else None
    fixed = spec.shape[0] if isinstance(spec.shape[0], int) else None
    for start in range(0, len(images), fixed or BATCH_SIZE):
        chosen = np.arange(start, start + (fixed or BATCH_SIZE))
        new = int((chosen < len(images)).sum())
        chosen = chosen % len(images) if fixed else chosen[:new]  # a fixed batch is filled up from the start
        batch = feed(images.pixels[chosen], spec)
        values: dict[str, Any] = {spec.name: batch}
        values |= zip(made, _run(session, made, {spec.name: batch}), strict=True)
        for name in tensors:
            if not np.isfinite(values[name]).all():
                raise StageError(
                    f"quantize: the layer {_producer(model, name)} gives NaN or infinite values (tensor {name}) on "
                    "calibration images.",
                    next_step="look at the weights of that layer and before it; train the model again",
                )
        yield {name: values[name][:new] for name in tensors}


def _producer(model: "ModelProto", name: str) -> str:
    return next((node.name or node.op_type for node in model.graph.node if name in node.output), "input")


def _open(model: "ModelProto", tensors: list[str], threads: int) -> Any:
    import onnx
    import onnxruntime

    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors)
    remove_unused(watched)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4  # fatal only: what goes wrong is raised
    try:
        return onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except ort_errors() as error:
        raise ModelError(
            f"quantize: ONNX Runtime cannot load the model ({str(error).splitlines()[0]}).",
            next_step="export it again with a current exporter",
        ) from error


def _run(session: Any, tensors: list[str], feeds: dict[str, Any]) -> list[NDArray[np.float32]]:
    if session is None:
        return []
    try:
        values: list[NDArray[np.float32]] = session.run(tensors, feeds)
    except ort_errors() as error:
        raise StageError(
            f"quantize: ONNX Runtime failed while running the model ({error}).",
            next_step="export the model again, with a batch that may vary or is fixed throughout",
        ) from error
    return values
