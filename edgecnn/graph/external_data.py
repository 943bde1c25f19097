"""Weights that a model keeps in files beside it: read with suspicion, and written where one file cannot hold them."""

from pathlib import Path
from typing import TYPE_CHECKING

from edgecnn.errors import ModelError
from edgecnn.graph import onnx_file

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

#: What protobuf can write as one file, with room for the graph itself.
MAX_SINGLE_FILE_BYTES = 2**31 - 2**24
#: Smaller tensors stay in the model: they are shapes and the like, which tools want to read there.
LEAST_EXTERNAL_BYTES = 1024
#: So that a runtime can map the file into memory.
ALIGNMENT_BYTES = 4096


def read_file(path: Path) -> "ModelProto":
    """Read an ONNX file that anyone may have written, its weights in it or beside it, as a model that holds them all.

    Raises:
        ModelError: it or the files that it names cannot be read, lie outside its folder, or are larger than 2 GiB
            together, which is all that one ONNX file can hold.
    """
    import onnx

    data = _read_bounded(path)
    size_bytes = len(data)
    model = onnx_file.read(data, str(path))
    outside = [tensor for tensor in onnx_file.tensors(model) if tensor.external_data]
    for tensor in outside:
        size_bytes += _check(tensor, path)
        if size_bytes > onnx_file.MAX_MODEL_BYTES:
            raise _too_large(path)
    for tensor in outside:
        onnx.external_data_helper.load_external_data_for_tensor(tensor, str(path.parent))
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
    return model


def read_whole(path: Path) -> bytes:
    """Return an ONNX file's bytes, with the weights that it keeps beside it moved into it.

    Raises:
        ModelError: see :func:`read_file`.
    """
    data = _read_bounded(path)
    if any(tensor.external_data for tensor in onnx_file.tensors(onnx_file.read(data, str(path)))):
        data = read_file(path).SerializeToString(deterministic=True)
    return data


def _read_bounded(path: Path) -> bytes:
    try:
        size_bytes = path.stat().st_size
        if size_bytes > onnx_file.MAX_MODEL_BYTES:
            raise _too_large(path)
        return path.read_bytes()
    except OSError as error:
        raise ModelError(
            f"{path}: not readable ({error.strerror}).", next_step="change its permissions, or name another file"
        ) from error


def split_weights(model: "ModelProto", file_name: str) -> bytes | None:
    """Move the weights of a model that is too large for one file out of it, in place.

    Args:
        model: with all its weights in it.
        file_name: that they will have, beside the model.

    Returns:
        The content of that file, or None for a model that one file can hold.
    """
    from onnx import TensorProto, numpy_helper

    if sum(_size_bytes(tensor) for tensor in model.graph.initializer) <= MAX_SINGLE_FILE_BYTES:
        return None
    content = bytearray()
    for tensor in model.graph.initializer:
        raw = tensor.raw_data or numpy_helper.to_array(tensor).tobytes()
        if len(raw) < LEAST_EXTERNAL_BYTES:
            continue
        content.extend(b"\0" * (-len(content) % ALIGNMENT_BYTES))
        name, dims, data_type = tensor.name, list(tensor.dims), tensor.data_type
        tensor.Clear()
        tensor.name, tensor.data_type, tensor.data_location = name, data_type, TensorProto.EXTERNAL
        tensor.dims.extend(dims)
        for key, value in (("location", file_name), ("offset", len(content)), ("length", len(raw))):
            tensor.external_data.add(key=key, value=str(value))
        content.extend(raw)
    return bytes(content)


def without_large_weights(model: "ModelProto") -> "ModelProto":
    """Return a copy for shape inference: large initializers have a type and a shape, and no values.

    Whatever takes a model as one message cannot take one of more than 2 GiB.
    """
    import onnx

    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions)
    graph, given = light.graph, model.graph
    graph.name = given.name
    graph.node.extend(given.node)
    graph.input.extend(given.input)
    graph.output.extend(given.output)
    graph.value_info.extend(given.value_info)
    for tensor in given.initializer:
        if _size_bytes(tensor) < LEAST_EXTERNAL_BYTES:
            graph.initializer.add().CopyFrom(tensor)
        else:
            graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    return light


def _size_bytes(tensor: "TensorProto") -> int:
    return len(tensor.raw_data) or tensor.ByteSize()


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


def _too_large(path: Path) -> ModelError:
    return ModelError(
        f"{path}: larger than {onnx_file.MAX_MODEL_BYTES} bytes.",
        next_step="give a smaller model",
    )
