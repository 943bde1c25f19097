"""A network laid open: each layer's size and cost. Reads a checkpoint, an ONNX file or a bundle, and writes nothing."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgecnn.bundle import Bundle
from edgecnn.bundle.locate import newest_folder
from edgecnn.errors import BundleError, ModelError, UsageError
from edgecnn.graph import onnx_file
from edgecnn.graph.external_data import read_whole
from edgecnn.graph.layers import Network, read_network
from edgecnn.measure.cpus import no_garbage_collection
from edgecnn.pipeline.context import Options
from edgecnn.pipeline.export import FLOAT_MODEL
from edgecnn.pipeline.quantize import INT8_MODEL

if TYPE_CHECKING:
    from onnx import ModelProto

_MAKERS = {FLOAT_MODEL: "edgecnn export model.pt", INT8_MODEL: "edgecnn quantize"}
_CHECKPOINT_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin")
_ZIP, _PICKLE = b"PK", b"\x80"


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """A network and the file it was read from."""

    path: Path
    network: Network


def inspect(model: Path | str | None = None, *, int8: bool = False, options: Options | None = None) -> Inspection:
    """Read a network's layers, what they cost, and how its sizes follow from each other.

    Args:
        model: a checkpoint, an ONNX file, or a bundle's folder, of which ``float.onnx`` is read; a relative path that
            does not exist here is looked up in the bundle. None for the bundle.
        int8: read a bundle's ``int8.onnx``.
        options: bundle (default: the newest), and so on.

    Raises:
        CheckpointError: not a usable checkpoint.
        ModelError: not a usable ONNX file, or one of whose sizes nothing true can be said.
        BundleError: the bundle lacks the model, or it was changed.
        UsageError: int8 was asked of a single file, or a checkpoint is given where PyTorch is not installed.
    """
    options = options or Options()
    path = options.bundle or newest_folder() if model is None else _find(Path(model), options)
    if path.is_dir():
        name = INT8_MODEL if int8 else FLOAT_MODEL
        data = Bundle.open(path).read(name, next_step=_MAKERS[name])
        path = path / name
        return Inspection(path=path, network=read_network(onnx_file.parse(data, str(path)), str(path)))
    if int8:
        raise UsageError(
            f"inspect: --int8 chooses a file of a bundle; {path} is a file already.",
            next_step=f"edgecnn inspect {path}",
        )
    # There is little of it while torch is imported and a graph is read, and a search takes 0.1 s.
    with no_garbage_collection():
        graph = _trace(path) if _is_checkpoint(path) else onnx_file.parse(_read(path), str(path))
        return Inspection(path=path, network=read_network(graph, str(path)))


def _find(path: Path, options: Options) -> Path:
    """Return the path itself, or the file of that name in the bundle, which is then said."""
    try:
        if path.exists() or path.is_absolute():
            return path
    except OSError as error:  # such as a folder on the way that may not be searched
        raise _unreadable(path, error) from error
    try:
        folder = options.bundle or newest_folder()
    except BundleError:
        return path
    if not (folder / path).exists():
        return path
    options.progress.say(f"{path} is taken from the bundle {folder}")
    return folder / path


def _is_checkpoint(path: Path) -> bool:
    """Tell a checkpoint from an ONNX file by its first bytes; by its name if it has none."""
    if path.suffix == ".onnx":
        return False
    try:
        with path.open("rb") as file:
            start = file.read(2)
    except OSError:
        return path.suffix in _CHECKPOINT_SUFFIXES  # whoever reads it says what is wrong
    return start.startswith((_ZIP, _PICKLE)) or path.suffix in _CHECKPOINT_SUFFIXES


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise ModelError(
            f"{path}: expected a checkpoint, an ONNX file or a bundle, found nothing.",
            next_step="edgecnn inspect FILE, or edgecnn inspect --bundle FOLDER",
        )
    return read_whole(path)


def _unreadable(path: Path, error: OSError) -> ModelError:
    return ModelError(
        f"{path}: not readable ({error.strerror}).", next_step="change its permissions, or name another file"
    )


def _trace(path: Path) -> "ModelProto":
    """Return a checkpoint's network as ONNX."""
    if importlib.util.find_spec("torch") is None:
        raise UsageError(
            f"{path}: reading a checkpoint needs PyTorch, which is not installed here.",
            next_step="pip install 'edgecnn[torch]', or inspect the bundle's float.onnx",
        )
    from edgecnn.graph.trace import to_onnx
    from edgecnn.models.checkpoint import load

    info, module = load(path)
    return to_onnx(module, info.input_shape, str(path))
