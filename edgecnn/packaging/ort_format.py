"""ONNX to ONNX Runtime's own format, and the operators that a build of ONNX Runtime needs for it."""

import contextlib
import io
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgecnn.errors import StageError
from edgecnn.packaging.ort_bytes import with_sorted_kernel_types
from edgecnn.targets.ort_errors import ort_errors

#: "arm" keeps signed activations as they are; x86 has no kernels for them. Never "amd64": its layout for one width of
#: vector registers would run on CPUs like this one only.
Platform = Literal["arm", "x86"]
_LEVEL_VARIABLE = "ORT_CONVERT_ONNX_MODELS_TO_ORT_OPTIMIZATION_LEVEL"


@dataclass(frozen=True, kw_only=True)
class OrtFiles:
    """Converted models by file name, and what ``--include_ops_by_config`` of a build of ONNX Runtime reads."""

    models: Mapping[str, bytes]
    required_operators: bytes


def convert(models: Mapping[str, bytes], *, platform: Platform) -> OrtFiles:
    """Convert ``NAME.onnx`` to ``NAME.ort``, optimized now and not on the device ("fixed" style).

    Args:
        models: the ONNX files, by name.
        platform: of the device.

    Raises:
        StageError: onnxruntime.tools cannot convert one.
    """
    from onnxruntime.tools.convert_onnx_models_to_ort import OptimizationStyle, convert_onnx_models_to_ort

    with tempfile.TemporaryDirectory(prefix="edgecnn-ort-") as scratch:
        folder = Path(scratch)
        for name, data in models.items():
            (folder / name).write_bytes(data)
        try:
            with _quiet():
                convert_onnx_models_to_ort(
                    folder,
                    optimization_styles=[OptimizationStyle.Fixed],
                    target_platform="arm" if platform == "arm" else None,
                )
        except ort_errors() as error:
            raise StageError(
                f"package: onnxruntime.tools cannot convert {', '.join(models)} to .ort ({error}).",
                next_step="report it with the model",
            ) from error
        converted = {Path(name).with_suffix(".ort").name for name in models}
        return OrtFiles(
            models={name: with_sorted_kernel_types((folder / name).read_bytes()) for name in sorted(converted)},
            required_operators=_without_comments((folder / "required_operators.config").read_text()),
        )


def _without_comments(text: str) -> bytes:
    """Leave out the comments: they name the folder that the conversion happened in."""
    return "".join(f"{line}\n" for line in text.splitlines() if not line.startswith("#")).encode()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the tool's prints and log lines off the terminal, and the user's environment out of its settings."""
    tool = logging.getLogger("ort_format_model.utils")
    level, told = tool.level, os.environ.pop(_LEVEL_VARIABLE, None)
    tool.setLevel(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # it leaves files open
            yield
    finally:
        tool.setLevel(level)
        if told is not None:
            os.environ[_LEVEL_VARIABLE] = told
