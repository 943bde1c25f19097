"""ONNX bytes: read with suspicion, written the same every time."""

import re
from typing import TYPE_CHECKING

from edgecnn.errors import ModelError

if TYPE_CHECKING:  # onnx takes 0.1 s to import
    from collections.abc import Iterator

    from google.protobuf.message import Message
    from onnx import ModelProto

MAX_MODEL_BYTES = 2 * 2**30
#: How ONNX and ONNX Runtime name operators on integers: QLinearConv, QGemm, ConvInteger, MatMulNBits...
_QUANTIZED_OP = re.compile(r"^Q[A-Z]|[Qq]uantize|Integer|NBits|Bnb4|FpQ4")


def parse(data: bytes, name: str) -> "ModelProto":
    """Read and check a model that anyone may have written.

    Args:
        data: the file's bytes.
        name: what to call it in a message.

    Raises:
        ModelError: too large, not ONNX, invalid, weights outside the file, or weights that are not finite.
    """
    import onnx

    model = read_self_contained(data, name)
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{name}: not a valid ONNX model ({str(error).splitlines()[0]}).",
            next_step="export it again with a current exporter",
        ) from error
    _require_finite_weights(model, name)
    return model


def read_self_contained(data: bytes, name: str) -> "ModelProto":
    """Read a model that anyone may have written, and that refers to no other file.

    ONNX Runtime would open the files that a model names, wherever the process happens to stand.

    Raises:
        ModelError: too large, not ONNX, or with weights outside the file.
    """
    import onnx
    from google.protobuf.message import DecodeError

    if len(data) > MAX_MODEL_BYTES:
        raise ModelError(f"{name}: larger than {MAX_MODEL_BYTES} bytes.", next_step="give a smaller model")
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise ModelError(
            f"{name}: expected an ONNX model, found a file that is truncated or not one.",
            next_step="export it again, or name another file",
        ) from error
    if not _is_text(model):
        raise ModelError(
            f"{name}: holds names that are not UTF-8 text.", next_step="export it again, or name another file"
        )
    outside = [
        message.name for message in _within(model) if isinstance(message, onnx.TensorProto) and message.external_data
    ]
    if outside:
        raise ModelError(
            f"{name}: keeps weights in other files ({', '.join(outside[:3])}…); only self-contained files are read.",
            next_step="save it with onnx.save(model, path, save_as_external_data=False)",
        )
    return model


def _is_text(model: "ModelProto") -> bool:
    """Tell whether every string is one; protobuf hands out as bytes what is not UTF-8."""
    return not any(
        isinstance(text, bytes)
        for message in _within(model)
        for field, value in message.ListFields()
        if field.type == field.TYPE_STRING
        for text in (value if field.is_repeated else (value,))
    )


def _require_finite_weights(model: "ModelProto", name: str) -> None:
    import numpy as np
    from onnx import numpy_helper

    for tensor in model.graph.initializer:
        try:
            values = numpy_helper.to_array(tensor)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"{name}: the weights {tensor.name} cannot be read ({error}).",
                next_step="export it again, or name another file",
            ) from error
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            raise ModelError(
                f"{name}: the weights {tensor.name} hold NaN or infinite values.",
                next_step="train the model again, or export a sound checkpoint",
            )


def is_quantized(model: "ModelProto") -> bool:
    """Tell whether any node already computes in integers."""
    from onnx import NodeProto

    return any(isinstance(node, NodeProto) and _QUANTIZED_OP.search(node.op_type) for node in _within(model))


def serialize(model: "ModelProto") -> bytes:
    """Clear everything that says where or by what the model was made, and return its bytes."""
    clear_metadata(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def clear_metadata(model: "ModelProto") -> None:
    """Remove what exporters leave: source paths, stack traces, producer versions, doc strings."""
    model.producer_name, model.producer_version, model.doc_string = "edgecnn", "", ""
    model.domain, model.model_version = "", 0
    model.graph.name = "edgecnn"
    for message in _within(model):
        for field in ("doc_string", "metadata_props"):
            if field in message.DESCRIPTOR.fields_by_name:
                message.ClearField(field)


def _within(message: "Message") -> "Iterator[Message]":
    """Yield a message and all that is in it: branches, loop bodies and functions hold nodes and tensors too."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if field.is_repeated else (value,):
                yield from _within(inner)
