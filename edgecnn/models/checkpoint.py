"""``model.pt``: weights and everything needed to use them, loaded without unpickling code."""

import io
import pickle
import struct
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgecnn.bundle.manifest import DataRecord, EpochRecord, Setting
from edgecnn.errors import CheckpointError
from edgecnn.models import MODELS, model_spec
from edgecnn.models.pt2 import is_pt2
from edgecnn.models.state_dict import mismatches

if TYPE_CHECKING:
    from torch import nn

FORMAT: Literal["edgecnn-checkpoint"] = "edgecnn-checkpoint"
MAX_CHECKPOINT_BYTES = 2 * 2**30
#: What zipfile and torch raise on damaged files; a test flips and cuts bytes to find them.
_UNREADABLE = (
    RuntimeError,
    EOFError,
    OSError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    struct.error,
    zlib.error,
    zipfile.BadZipFile,
)
_REMEDY = "train one with edgecnn train, or name another file"


class CheckpointInfo(BaseModel):
    """What a checkpoint says of itself, beside the weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    format: Literal["edgecnn-checkpoint"] = FORMAT
    version: Literal[1] = 1
    model: str
    input_shape: tuple[int, int, int]
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    mean: tuple[float, float, float]
    std: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]
    config: dict[str, Setting]
    data: DataRecord
    curve: tuple[EpochRecord, ...] = ()


def pack(info: CheckpointInfo, module: "nn.Module") -> bytes:
    """Return the checkpoint file's bytes; the same network gives the same bytes."""
    import torch

    state = {  # a clone, since contiguous() keeps the strides of a 1x1 kernel whose channels come last
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in module.state_dict().items()
    }
    buffer = io.BytesIO()  # torch writes the file's name into a file; a buffer has none
    torch.save({"info": info.model_dump(mode="json"), "state_dict": state}, buffer)
    return buffer.getvalue()


def load(path: Path) -> tuple[CheckpointInfo, "nn.Module"]:
    """Load a checkpoint of this project as a module in evaluation mode.

    Raises:
        CheckpointError: the file is missing, empty, truncated, a bare pickle, of another
            architecture, or holds weights that are not finite.
    """
    data = read_archive(path)
    _refuse_other_archives(path, data)
    content = _unpack(path, data)
    try:
        info = CheckpointInfo.model_validate(content.get("info"), strict=False)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "info"
        raise CheckpointError(
            f"{path}: expected a checkpoint of edgecnn, found a problem at {where}: {first['msg']}.",
            next_step=_REMEDY,
        ) from error
    return info, _build(path, info, content.get("state_dict"))


def read_archive(path: Path) -> bytes:
    """Return the bytes of a zip-based torch file after checking that it is whole and not a bomb.

    Raises:
        CheckpointError: missing, empty, too large, truncated, or an old-style bare pickle.
    """
    data = _read(path)
    if not data:
        raise CheckpointError(f"{path}: expected a checkpoint, found an empty file.", next_step=_REMEDY)
    if data[:1] == b"\x80":
        raise CheckpointError(
            f"{path}: a bare pickle, which can run any program when it is read; it was not opened.",
            next_step="save the weights with torch.save(model.state_dict(), ...) of PyTorch 1.6 or newer",
        )
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
            # torch itself reads past a wrong checksum
            damaged = archive.testzip() if unpacked <= MAX_CHECKPOINT_BYTES else None
    except _UNREADABLE as error:
        raise CheckpointError(
            f"{path}: expected a checkpoint, found a file that is truncated or not one ({error}).",
            next_step=_REMEDY,
        ) from error
    if unpacked > MAX_CHECKPOINT_BYTES:
        raise CheckpointError(f"{path}: unpacks to more than {MAX_CHECKPOINT_BYTES} bytes.", next_step=_REMEDY)
    if damaged:
        raise CheckpointError(f"{path}: damaged; the checksum of {damaged} in it is wrong.", next_step=_REMEDY)
    return data


def read_bare_pickle(path: Path) -> bytes | None:
    """Return the bytes of an old-style bare pickle, or None if the file is of another kind.

    Raises:
        CheckpointError: missing, unreadable or too large.
    """
    data = _read(path)
    return data if data[:1] == b"\x80" else None


def _read(path: Path) -> bytes:
    """Read a file of bearable size; how large it is, is asked before it is read."""
    try:
        if not path.is_file():
            what = "a folder" if path.is_dir() else "nothing"
            raise CheckpointError(f"{path}: expected a checkpoint file, found {what}.", next_step=_REMEDY)
        if path.stat().st_size > MAX_CHECKPOINT_BYTES:
            raise CheckpointError(f"{path}: larger than {MAX_CHECKPOINT_BYTES} bytes.", next_step=_REMEDY)
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: not readable ({error.strerror}).", next_step=_REMEDY) from error


def unpickle_plain(path: Path, data: bytes) -> object:
    """Unpickle tensors and plain containers; anything else in the pickle is refused by torch.

    Raises:
        CheckpointError: it holds something else, or torch cannot read it.
    """
    import torch

    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path}: holds pickled code, which can run any program when it is read; it was not opened.",
            next_step="save the weights alone: torch.save(model.state_dict(), ...)",
        ) from error
    except _UNREADABLE as error:
        first_line = (str(error).splitlines() or ["no reason given"])[0]
        raise CheckpointError(
            f"{path}: expected a checkpoint, found a file that torch cannot read ({first_line}).",
            next_step=_REMEDY,
        ) from error


def _refuse_other_archives(path: Path, data: bytes) -> None:
    """Refuse what torch.load would hand to torch.jit.load, and what it cannot read."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
    kind = "torch.export" if is_pt2(names) else "TorchScript" if is_torchscript(names) else None
    if kind is not None:
        raise CheckpointError(
            f"{path}: expected a checkpoint of edgecnn, found a {kind} archive.",
            next_step=f"edgecnn export {path}, which makes a bundle of it",
        )


def is_torchscript(names: list[str]) -> bool:
    """Tell from the names in an archive whether it is one of TorchScript's."""
    return any(name.endswith("/constants.pkl") for name in names)


def _unpack(path: Path, data: bytes) -> dict[str, Any]:
    content = unpickle_plain(path, data)
    if not isinstance(content, dict) or "info" not in content:
        keys = ", ".join(map(str, list(content)[:5])) if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(
            f"{path}: expected a checkpoint of edgecnn, found {keys or 'an empty dictionary'}.",
            next_step="name the architecture of a state_dict with --arch, or train a checkpoint with edgecnn train",
        )
    return content


def _build(path: Path, info: CheckpointInfo, state: object) -> "nn.Module":
    """Build the named model and put the weights in; everything that does not fit is listed."""
    if info.model not in MODELS:
        raise CheckpointError(
            f"{path}: is of the architecture {info.model!r}; known here: {', '.join(MODELS)}.",
            next_step=_REMEDY,
        )
    spec = model_spec(info.model)
    if info.input_shape != spec.input_shape:
        raise CheckpointError(
            f"{path}: {info.model} takes {list(spec.input_shape)}, found the input shape {list(info.input_shape)}.",
            next_step=_REMEDY,
        )
    module = spec.build(len(info.classes))
    tensors = state if isinstance(state, dict) else {}
    problems = mismatches(module.state_dict(), tensors)
    if problems:
        raise CheckpointError(
            f"{path}: the weights are not those of {info.model}: {'; '.join(problems[:8])}"
            f"{f'; and {len(problems) - 8} more' if len(problems) > 8 else ''}.",
            next_step=_REMEDY,
        )
    module.load_state_dict(tensors)
    return module.eval()
