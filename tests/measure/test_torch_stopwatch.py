"""The stopwatch: that it times the layer it was given, and often enough. Not how long that takes."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from edgecnn.bundle.profile import Convolution
from edgecnn.errors import StageError
from edgecnn.measure import torch_stopwatch
from edgecnn.measure.torch_stopwatch import MIN_BLOCKS, TorchStopwatch


def layer(**changes: Any) -> Convolution:
    plain: dict[str, Any] = {
        "name": "conv", "batch": 1, "source": (4, 9, 8), "output": (6, 7, 6), "kernel": (3, 3), "stride": (1, 1),
        "pads_before": (0, 0), "pads_after": (0, 0), "dilation": (1, 1), "groups": 1, "bias": True,
    }  # fmt: skip
    return Convolution(**(plain | changes))


LAYERS = {
    "plain": layer(),
    "padded": layer(pads_before=(1, 2), pads_after=(1, 2), output=(6, 9, 10)),
    "padded on one side": layer(pads_before=(0, 0), pads_after=(1, 1), stride=(2, 2), output=(6, 4, 4)),
    "spread": layer(dilation=(2, 3), output=(6, 5, 2)),
    "depthwise": layer(groups=4, output=(8, 7, 6)),
    "without bias": layer(bias=False),
    "a batch": layer(batch=5),
    "a signal": layer(
        source=(4, 20), kernel=(5,), stride=(1,), pads_before=(0,), pads_after=(0,), dilation=(1,), output=(6, 16)
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_what_is_timed_has_the_layers_input_and_output(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = LAYERS[name]
    shapes: list[tuple[int, ...]] = []

    def watched(function: Any) -> Any:
        def run(*arguments: Any) -> torch.Tensor:
            output: torch.Tensor = function(*arguments)
            shapes.append(tuple(output.shape))
            return output

        return run

    axes = len(given.kernel)
    monkeypatch.setitem(torch_stopwatch._CONVOLVE, axes, watched(torch_stopwatch._CONVOLVE[axes]))
    monkeypatch.setattr(functional, "linear", watched(functional.linear))
    stopwatch = TorchStopwatch(0.001)
    stopwatch.convolution(given)
    assert set(shapes) == {(given.batch, *given.output)}
    shapes.clear()
    stopwatch.dense(given)
    assert set(shapes) == {(given.batch, int(np.prod(given.output)))}


def test_a_time_is_a_median_of_enough_blocks() -> None:
    found = TorchStopwatch(0.001).convolution(layer())
    assert found.median_us > 0
    assert found.iqr_us >= 0
    assert found.blocks >= MIN_BLOCKS
    assert found.calls >= found.blocks


def test_one_thread_works_and_the_number_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before, seen = torch.get_num_threads(), set()

    def linear(*arguments: Any) -> None:
        seen.add(torch.get_num_threads())

    monkeypatch.setattr(functional, "linear", linear)
    TorchStopwatch(0.001).dense(layer())
    assert seen == {1}
    assert torch.get_num_threads() == before


def test_memory_that_is_not_there_is_a_message() -> None:
    huge = layer(source=(3, 2**20, 2**20), output=(64, 2**20, 2**20))
    with pytest.raises(StageError, match="profile: conv as a fully connected layer takes") as caught:
        TorchStopwatch(0.001).dense(huge)
    assert "--max-memory" in caught.value.next_step
