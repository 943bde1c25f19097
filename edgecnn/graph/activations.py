"""What a network computes on the way to its logits, tensor by tensor, in the order it does so."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgecnn.graph import onnx_file
from edgecnn.targets.native import run_every_tensor

INPUT = "input"


@dataclass(frozen=True, kw_only=True)
class Activation:
    """One tensor of one form of a network.

    Attributes:
        name: unlike that of any other tensor of the form.
        op: the operator that gave it.
        layer: where the form's own words place it: an ONNX node, or the path of a PyTorch module.
        inputs: names of the activations it was computed from.
        values: float32, as the form gave them, the batch first.
    """

    name: str
    op: str
    layer: str
    inputs: tuple[str, ...]
    values: NDArray[np.float32]


def onnx_activations(data: bytes, feeds: Mapping[str, NDArray[Any]], name: str) -> Sequence[Activation]:
    """Run an ONNX model with nothing fused and return every floating-point tensor that depends on its inputs.

    Args:
        data: the ONNX file.
        feeds: a value for each input.
        name: what to call the model in a message.

    Raises:
        ModelError: ONNX Runtime cannot load it with every tensor as an output.
        StageError: ONNX Runtime failed while running it.
    """
    model = onnx_file.read_self_contained(data, name)
    values = {**feeds, **run_every_tensor(model, feeds, model_name=name)}
    found = [
        Activation(name=fed, op=INPUT, layer=INPUT, inputs=(), values=np.asarray(batch, np.float32))
        for fed, batch in feeds.items()
        if np.issubdtype(batch.dtype, np.number)
    ]
    reached = {one.name for one in found}
    for node in model.graph.node:
        inputs = tuple(name for name in node.input if name in reached)
        outputs = [name for name in node.output if inputs and name and _is_float(values[name])]
        reached.update(outputs)
        found += [
            Activation(
                name=output,
                op=node.op_type,
                layer=node.name or output,
                inputs=inputs,
                values=values[output].astype(np.float32, copy=False),
            )
            for output in outputs
        ]
    return found


def _is_float(values: NDArray[Any]) -> bool:
    return np.issubdtype(values.dtype, np.floating)
