"""What every kind of session can do; also the seam where tests put a session of their own."""

from collections.abc import Callable
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from edgecnn.bundle.manifest import TensorSpec
from edgecnn.errors import ModelError

Clock = Literal["measured", "emulated", "simulated"]
Feed = NDArray[np.float32] | NDArray[np.uint8]


class Session(Protocol):
    """A model opened on a target."""

    @property
    def input(self) -> TensorSpec:
        """The graph's input."""

    @property
    def output(self) -> TensorSpec:
        """The graph's output."""

    @property
    def clock(self) -> Clock:
        """Whether this session's wall time means anything."""

    @property
    def nodes_by_provider(self) -> dict[str, int]:
        """How many nodes each provider really runs."""

    def run(self, batch: Feed) -> NDArray[np.float32]:
        """Map a batch, laid out as :attr:`input` says, to logits float32 ``[N, classes]``."""


@runtime_checkable
class BindableSession(Protocol):
    """A session that can also run on buffers bound beforehand."""

    def bind(self, batch: Feed) -> Callable[[], None]:
        """Return a call that runs the model on ``batch``; input and output stay where they are."""


def feed(pixels: NDArray[np.uint8], spec: TensorSpec) -> Feed:
    """Lay uint8 ``[N, H, W, 3]`` pixels out as a graph's input wants them.

    float32 inputs are fed [0, 1]; uint8 inputs are fed the bytes; channels first or last as in the shape.

    Raises:
        ModelError: the input is of another type, size or layout.
    """
    _, height, width, channels = pixels.shape
    shape = spec.shape[1:]
    if shape == (channels, height, width):
        laid_out = pixels.transpose(0, 3, 1, 2)
    elif shape == (height, width, channels):
        laid_out = pixels
    else:
        raise ModelError(
            f"input {spec.name!r} is {list(spec.shape)}; the images are {height}x{width} with {channels} channels.",
            next_step="give images of the model's size with --data",
        )
    if spec.dtype == "uint8":
        return np.ascontiguousarray(laid_out)
    if spec.dtype == "float32":
        scaled: NDArray[np.float32] = laid_out.astype(np.float32) / np.float32(255)
        return np.ascontiguousarray(scaled)
    raise ModelError(
        f"input {spec.name!r} is {spec.dtype}; expected float32 or uint8.",
        next_step="export it with --input-type float32 or uint8",
    )
