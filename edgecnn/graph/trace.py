"""A network as ONNX in memory, to be read and not to be shipped.

By PyTorch's older exporter, which traces a small network in 10 ms where the one of ``export`` takes seconds. Nothing
is folded: batch norm is a layer of its own, as it is in the checkpoint.
"""

import io
import warnings
from typing import TYPE_CHECKING

from edgecnn.errors import StageError

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import nn

_OPSET = 18


def to_onnx(network: "nn.Module", shape: tuple[int, ...], name: str) -> "ModelProto":
    """Trace a network on one image of zeros.

    Args:
        network: in evaluation mode.
        shape: of its input, without the batch.
        name: what to call it in a message.

    Raises:
        StageError: PyTorch cannot trace it.
    """
    import onnx
    import torch

    buffer = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is the older exporter, and that only one path is traced
            torch.onnx.export(
                network,
                (torch.zeros(1, *shape),),
                buffer,  # type: ignore[arg-type]  # the older exporter takes one
                dynamo=False,
                opset_version=_OPSET,
                training=torch.onnx.TrainingMode.PRESERVE,
                input_names=["input"],
                output_names=["logits"],
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, TypeError, ValueError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise StageError(
            f"{name}: PyTorch cannot trace the network ({first_line}).",
            next_step="edgecnn export, then inspect float.onnx",
        ) from error
    model = onnx.load_model_from_string(buffer.getvalue())
    _unshare(model)
    return model


def _unshare(model: "ModelProto") -> None:
    """Give every weight a tensor of its own again: the exporter keeps equal ones once, behind an Identity."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in [node for node in model.graph.node if node.op_type == "Identity" and node.input[0] in weights]:
        copy = model.graph.initializer.add()
        copy.CopyFrom(weights[node.input[0]])
        copy.name = node.output[0]
        model.graph.node.remove(node)
