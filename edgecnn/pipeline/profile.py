"""Why convolutions: each one timed against a fully connected layer in its place. Writes nothing."""

import importlib.metadata
import importlib.util
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from edgecnn.bundle.manifest import MachineRecord
from edgecnn.bundle.profile import Convolution, LayerTiming
from edgecnn.errors import ModelError, UsageError
from edgecnn.graph.layers import Layer
from edgecnn.measure.dense import compare_dense
from edgecnn.measure.latency import pinned
from edgecnn.measure.machine import describe_machine
from edgecnn.pipeline.context import Options
from edgecnn.pipeline.inspect import inspect
from edgecnn.pipeline.verdict import parse_size

SECONDS = 0.2
#: Fully connected layers with larger weights are not made.
MAX_DENSE_BYTES = 2**30


@dataclass(frozen=True, kw_only=True)
class Profile:
    """Times of a network's convolutions and of what would stand in their place.

    Attributes:
        path: the file the network was read from.
        machine: where it was timed, with torch's version.
        max_dense_bytes: what the weights of a fully connected layer might take.
        timings: in the network's order.
    """

    path: Path
    machine: MachineRecord
    max_dense_bytes: int
    timings: tuple[LayerTiming, ...]


def profile(
    model: Path | str | None = None,
    *,
    seconds: float = SECONDS,
    max_dense_bytes: int = MAX_DENSE_BYTES,
    options: Options | None = None,
) -> Profile:
    """Time each convolution, and a fully connected layer in its place, with PyTorch in float32 on one thread.

    Args:
        model: as for :func:`edgecnn.pipeline.inspect.inspect`; only its shapes matter.
        seconds: about how long each layer is timed.
        max_dense_bytes: a fully connected layer with larger weights is left out, and that is said.
        options: bundle (default: the newest), progress, and so on.

    Raises:
        UsageError: PyTorch is not installed, or the seconds are not above 0.
        ModelError: the network cannot be read, or has no convolution.
    """
    options = options or Options()
    if not (seconds > 0 and isfinite(seconds)):
        raise UsageError(
            f"profile: --seconds must be above 0 and finite, found {seconds}.", next_step=f"--seconds {SECONDS}"
        )
    if importlib.util.find_spec("torch") is None:
        raise UsageError(
            "profile: times layers with PyTorch, which is not installed here.",
            next_step="pip install 'edgecnn[torch]', or edgecnn inspect --dense",
        )
    inspection = inspect(model, options=options)
    layers = [_convolution(layer) for layer in inspection.network.layers if layer.dense is not None]
    if not layers:
        raise ModelError(f"{inspection.path}: has no convolution to time.", next_step="give a convolutional network")
    from edgecnn.measure.torch_stopwatch import TorchStopwatch

    with pinned(1):
        timings = compare_dense(layers, TorchStopwatch(seconds), max_bytes=max_dense_bytes, progress=options.progress)
    machine = describe_machine()
    versions = machine.versions | {"torch": importlib.metadata.version("torch")}
    return Profile(
        path=inspection.path,
        machine=machine.model_copy(update={"versions": versions}),
        max_dense_bytes=max_dense_bytes,
        timings=tuple(timings),
    )


def parse_memory(option: str, text: str) -> int:
    """Return a size such as ``500MB`` or ``1GiB`` in bytes.

    Raises:
        UsageError: it is not a size.
    """
    try:
        return parse_size(text)
    except UsageError as error:
        raise UsageError(
            f"{option}: expected a size such as 500MB or 1GiB, found {text!r}.", next_step=f"{option} 1GiB"
        ) from error


def _convolution(layer: Layer) -> Convolution:
    window, source, output = layer.window, layer.inputs[0], layer.outputs[0]
    assert window is not None
    assert layer.dense is not None
    with_batch = len(source) == len(window.kernel) + 2
    return Convolution(
        name=layer.name,
        batch=source[0] if with_batch else 1,
        source=source[1:] if with_batch else source,
        output=output[1:] if with_batch else output,
        kernel=window.kernel,
        stride=window.stride,
        pads_before=window.pads_before,
        pads_after=window.pads_after,
        dilation=window.dilation,
        groups=window.groups,
        bias=layer.dense.biases > 0,
    )
