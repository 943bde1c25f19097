"""Simplify with onnxsim, in a process of its own: a crash of it is a message, not the end."""

import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgecnn.bundle.manifest import ParityRecord
from edgecnn.errors import StageError
from edgecnn.graph import onnx_file
from edgecnn.graph.parity import BATCH_SIZES, Form, check_parity, with_extremes
from edgecnn.targets import reference_session
from edgecnn.targets.session import feed

TIME_LIMIT_S = 300
WORKER = Path(__file__).with_name("onnxsim_worker.py")


@dataclass(frozen=True, kw_only=True)
class Simplified:
    """A simplified model and how it compares with what went in.

    Attributes:
        data: the ONNX file.
        parity: logits against those of the model before.
        nodes_before: node counts by operator.
        nodes_after: node counts by operator.
    """

    data: bytes
    parity: ParityRecord
    nodes_before: dict[str, int]
    nodes_after: dict[str, int]


def simplify_model(data: bytes, pixels: NDArray[np.uint8], *, name: str) -> Simplified:
    """Simplify a float model and compare its logits with those before, on real images.

    Args:
        data: the ONNX file.
        pixels: real images for the comparison, uint8 ``[N, H, W, 3]``.
        name: what to call the model in a message.

    Raises:
        ModelError: the model cannot be read.
        StageError: onnxsim failed, crashed or took too long.
        ParityError: the simplified graph gives other answers.
    """
    before = onnx_file.parse(data, name)
    after = onnx_file.parse(_run_onnxsim(data), "the simplified model")
    after.ir_version = before.ir_version
    simplified = onnx_file.serialize(after)
    old, new = (
        reference_session(data, model_name=name),
        reference_session(simplified, model_name="the simplified model"),
    )
    fixed = old.input.shape[0]
    parity = check_parity(
        "simplify",
        Form(name="the exported model", run=lambda images: old.run(feed(images, old.input))),
        Form(name="the simplified model", run=lambda images: new.run(feed(images, new.input))),
        with_extremes(pixels),
        batch_sizes=(fixed,) if isinstance(fixed, int) else BATCH_SIZES,
    )
    return Simplified(
        data=simplified,
        parity=parity,
        nodes_before=dict(Counter(node.op_type for node in before.graph.node)),
        nodes_after=dict(Counter(node.op_type for node in after.graph.node)),
    )


def _run_onnxsim(data: bytes) -> bytes:
    command = [sys.executable, "-P", str(WORKER)]  # -P: no onnx.py that lies beside it is imported
    try:
        finished = subprocess.run(command, input=data, capture_output=True, timeout=TIME_LIMIT_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise StageError(
            f"simplify: onnxsim did not finish within {TIME_LIMIT_S} s.",
            next_step="quantize the exported model as it is: edgecnn quantize",
        ) from error
    if finished.returncode != 0 or not finished.stdout:
        lines = finished.stderr.decode(errors="replace").strip().splitlines()
        how = f"signal {-finished.returncode}" if finished.returncode < 0 else f"code {finished.returncode}"
        raise StageError(
            f"simplify: onnxsim ended with {how} ({lines[-1] if lines else 'it said nothing'}).",
            next_step="quantize the exported model as it is: edgecnn quantize",
        )
    return finished.stdout
