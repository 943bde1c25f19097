"""PyTorch's two ONNX exporters, each as a function from a module to a graph."""

import io
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from edgecnn.errors import StageError
from edgecnn.graph.deployed import Deployed
from edgecnn.models.quiet import first_line, quiet

if TYPE_CHECKING:
    from onnx import ModelProto

INPUT, OUTPUT, BATCH = "input", "logits", "batch"
_REMEDY = "take out what cannot be traced, such as control flow that depends on the data"

#: What a forward of someone's own may raise while it is recorded, and TorchScript itself.
_RAISED_BY_NETWORKS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    SystemError,
    TypeError,
    ValueError,
)

#: Module, example input, whether its batch is fixed, and opset, to a graph.
Exporter = Callable[[Deployed, Tensor, bool, int], "ModelProto"]


def with_torch_export(module: Deployed, example: Tensor, fixed: bool, opset: int) -> "ModelProto":
    """Export through ``torch.export``, which follows the Python code and refuses what it cannot prove.

    Raises:
        StageError: it refused.
    """
    shapes = None if fixed else ({0: torch.export.Dim(BATCH, min=1)},)
    try:
        with quiet():
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                opset_version=opset,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=shapes,
                external_data=False,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        cause = error.__cause__ or error  # the exporter's own words are advice to its developers
        raise StageError(
            f"export: PyTorch could not export the network ({first_line(cause)}).", next_step=_REMEDY
        ) from error
    assert program is not None
    return program.model_proto


def with_torchscript(module: Deployed, example: Tensor, fixed: bool, opset: int) -> "ModelProto":
    """Export through TorchScript, which records one run; a warning that a branch was frozen is an error here.

    Raises:
        StageError: the network cannot be traced, or its path depends on the data.
    """
    import onnx

    axes = None if fixed else {INPUT: {0: BATCH}, OUTPUT: {0: BATCH}}
    buffer = io.BytesIO()
    try:
        with quiet():
            warnings.simplefilter("error", torch.jit.TracerWarning)  # type: ignore[attr-defined]
            # A scripted network inside a traced module is refused; scripted together they are one.
            is_script = isinstance(module.network, torch.jit.ScriptModule)
            whole = torch.jit.script(module) if is_script else module
            torch.onnx.export(
                whole,
                (example,),
                buffer,  # type: ignore[arg-type]
                dynamo=False,
                opset_version=opset,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes=axes,
            )
    except (torch.jit.TracerWarning, *_RAISED_BY_NETWORKS) as error:  # type: ignore[attr-defined]
        # Raised inside a method of C, the warning comes as the cause of a SystemError.
        cause = error.__cause__ if isinstance(error, SystemError) and error.__cause__ else error
        if isinstance(cause, torch.jit.TracerWarning):  # type: ignore[attr-defined]
            raise StageError(
                f"export: the network's path depends on the data ({first_line(cause)}).", next_step=_REMEDY
            ) from error
        raise StageError(
            f"export: TorchScript could not export the network ({first_line(cause)}).", next_step=_REMEDY
        ) from error
    return onnx.load_model_from_string(buffer.getvalue())


EXPORTERS: dict[str, Exporter] = {"torch.export": with_torch_export, "TorchScript": with_torchscript}
