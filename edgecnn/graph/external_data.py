"""Weights that a model keeps in files beside it, read with suspicion: never from outside its folder."""

from pathlib import Path
from typing import TYPE_CHECKING

from edgecnn.errors import ModelError
from edgecnn.graph import onnx_file

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto


def read_file(path: Path) -> "ModelProto":
    """Read an ONNX file that anyone may have written, its weights in it or beside it, as a model that holds them all.

    Raises:
        ModelError: it or the files that it names cannot be read, lie outside its folder, or are larger than 2 GiB
            together, which is all that one ONNX file can hold.
    """
    import onnx

    try:
        size_bytes = path.stat().st_size
        if size_bytes > onnx_file.MAX_MODEL_BYTES:
            raise _too_large(path, size_bytes)
        model = onnx_file.read(path.read_bytes(), str(path))
    except OSError as error:
        raise ModelError(
            f"{path}: not readable ({error.strerror}).", next_step="change its permissions, or name another file"
        ) from error
    outside = [tensor for tensor in onnx_file.tensors(model) if tensor.external_data]
    for tensor in outside:
        size_bytes += _check(tensor, path)
        if size_bytes > onnx_file.MAX_MODEL_BYTES:
            raise _too_large(path, size_bytes)
    for tensor in outside:
        onnx.external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
    return model


def _check(tensor: "TensorProto", path: Path) -> int:
    """Return how many bytes a tensor takes from its file, which must lie in the model's folder."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    file = path.parent / location
    folder = path.parent.resolve()
    if not location or Path(location).is_absolute() or not file.resolve().is_relative_to(folder) or file.is_symlink():
        raise ModelError(
            f"{path}: the weights {tensor.name} point outside its folder, to {location!r}; nothing was read.",
            next_step="put the weights beside the model, and save it again with relative paths",
        )
    try:
        available = file.stat().st_size if file.is_file() else -1
        offset = int(entries.get("offset", 0))
        length = int(entries.get("length", available - offset))
    except (OSError, ValueError):
        available, offset, length = -1, 0, 0
    if available < 0 or offset < 0 or length < 0 or offset + length > available:
        found = "no such file" if available < 0 else f"{available} bytes"
        raise ModelError(
            f"{path}: the weights {tensor.name} should be bytes {offset} to {offset + length} of {location}; "
            f"found {found}.",
            next_step="copy the model together with the files beside it",
        )
    return length


def _too_large(path: Path, size_bytes: int) -> ModelError:
    return ModelError(
        f"{path}: larger than {onnx_file.MAX_MODEL_BYTES} bytes ({size_bytes} so far).",
        next_step="give a smaller model",
    )
