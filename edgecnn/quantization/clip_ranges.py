"""What comes in where a network clips: the ranges that let equalization scale through a ReLU6."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgecnn.data.images import Images
from edgecnn.progress import Progress
from edgecnn.quantization.scale_walk import ChannelRange
from edgecnn.quantization.tensor_stream import input_spec, require_training_images, stream

if TYPE_CHECKING:
    from onnx import ModelProto

Float32 = NDArray[np.float32]
_TASK = "watch clips"


def clip_ranges(model: "ModelProto", images: Images, *, threads: int, progress: Progress) -> dict[str, ChannelRange]:
    """Return the smallest and largest value of each channel of every input of a Clip.

    Memory does not grow with the number of images.

    Args:
        model: the float model.
        images: training images.
        threads: for ONNX Runtime.
        progress: told the images done.

    Returns:
        For :func:`edgecnn.quantization.equalization.equalize`, by tensor; channels lie along the second axis.

    Raises:
        DataError: the images are not training images, or there are none.
        StageError: a layer gives NaN or infinite values.
    """
    require_training_images(images, _TASK)
    tensors = list(dict.fromkeys(node.input[0] for node in model.graph.node if node.op_type == "Clip"))
    if not tensors:
        return {}
    low: dict[str, Float32] = {}
    high: dict[str, Float32] = {}
    done = 0
    for values in stream(model, tensors, images, spec=input_spec(model), threads=threads):
        for name, array in values.items():
            channels = array.reshape(*array.shape[:2], -1)
            smallest, largest = channels.min((0, 2)), channels.max((0, 2))
            low[name] = np.minimum(low.get(name, smallest), smallest)
            high[name] = np.maximum(high.get(name, largest), largest)
        done += len(values[tensors[0]])
        progress.update(_TASK, done, len(images))
    return {name: ChannelRange(low=low[name], high=high[name]) for name in tensors}
