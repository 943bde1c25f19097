"""``edgecnn simplify FILE.onnx``: any ONNX model to a simpler one with the same answers, beside it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgecnn.bundle import atomic
from edgecnn.errors import ModelError, UsageError
from edgecnn.graph import onnx_file
from edgecnn.graph.external_data import read_file
from edgecnn.graph.onnxsim_process import Limits
from edgecnn.progress import SILENT, Progress

if TYPE_CHECKING:
    from edgecnn.graph.simplify import Simplified
    from edgecnn.graph.tensor_comparison import TensorParity


@dataclass(frozen=True, kw_only=True)
class SimplifiedFile:
    """A file that was simplified.

    Attributes:
        path: what was simplified.
        output: the simpler file.
        size_before_bytes: of the one, weights in other files included.
        size_after_bytes: of the other.
        simplified: node counts, the comparison, and what was left out.
    """

    path: Path
    output: Path
    size_before_bytes: int
    size_after_bytes: int
    simplified: "Simplified[TensorParity]"


def simplify_file(
    path: Path | str,
    *,
    output: Path | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    limits: Limits | None = None,
    bisect: bool = False,
    force: bool = False,
    progress: Progress = SILENT,
) -> SimplifiedFile:
    """Simplify an ONNX file and write the result, after comparing the answers of both on inputs made up to fit.

    Args:
        path: any ONNX file that ONNX Runtime runs on the CPU, its weights in it or in files beside it.
        output: where to write; default ``<name>-simplified.onnx`` beside it.
        shapes: of inputs with a dimension, other than the first, that may vary.
        limits: of the process that simplifies.
        bisect: compare layer by layer even if the answers agree.
        force: replace an output that exists.
        progress: told what is looked for.

    Raises:
        ModelError: the file cannot be read or run.
        UsageError: the output exists, or an input's shape is not known.
        StageError: onnxsim failed.
        ParityError: the simplified model gives other answers, whatever is left out; nothing is written.
    """
    from edgecnn.graph.simplify import simplify_model
    from edgecnn.graph.tensor_comparison import compare_on_tensors

    path = Path(path)
    output = output or path.with_name(f"{path.stem}-simplified.onnx")
    _require_free(output, path, force)
    given = read_file(path)
    data = given.SerializeToString(deterministic=True)
    simplified = simplify_model(
        data,
        compare_on_tensors(data, shapes or {}, str(path)),
        name=str(path),
        limits=limits,
        bisect=bisect,
        progress=progress,
    )
    written = onnx_file.with_metadata_of(given, simplified.data)
    atomic.write_atomically(output, written)
    return SimplifiedFile(
        path=path,
        output=output,
        size_before_bytes=len(data),
        size_after_bytes=len(written),
        simplified=simplified,
    )


def parse_input_shapes(texts: list[str]) -> dict[str, tuple[int, ...]]:
    """Return shapes by input name from ``NAME:1x3x224x224``.

    Raises:
        UsageError: one is not of that form.
    """
    shapes = {}
    for text in texts:
        name, _, sizes = text.rpartition(":")
        parts = sizes.lower().split("x")
        if not name or not all(part.isdecimal() and int(part) > 0 for part in parts):
            raise UsageError(
                f"--input-shape: expected NAME:1x3x224x224, found {text!r}.", next_step="--input-shape NAME:1x3x224x224"
            )
        shapes[name] = tuple(int(part) for part in parts)
    return shapes


def _require_free(output: Path, path: Path, force: bool) -> None:
    """Find out before the work that there is no place for its result."""
    if not path.is_file():
        what = "a folder" if path.is_dir() else "nothing"
        raise ModelError(
            f"{path}: expected an ONNX file, found {what}.", next_step="edgecnn simplify --bundle FOLDER for a bundle"
        )
    if output.is_dir() or not output.parent.is_dir():
        raise UsageError(f"{output}: not a place for a file.", next_step="--output FILE.onnx in a folder that exists")
    if output.exists() and not force:
        raise UsageError(f"{output}: exists already.", next_step="--force replaces it; --output names another")
