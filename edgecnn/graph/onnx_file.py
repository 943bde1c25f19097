"""ONNX bytes: read with suspicion, written the same every time."""

import json
import re
from typing import TYPE_CHECKING

from edgecnn.errors import ModelError

if TYPE_CHECKING:  # onnx takes 0.1 s to import
    from collections.abc import Iterator, Sequence

    from google.protobuf.message import Message
    from onnx import ModelProto, TensorProto

MAX_MODEL_BYTES = 2 * 2**30
#: Where a model keeps its class names, a JSON list in the order of the logits. ONNX Runtime hands it out on the device
#: as ``session.get_modelmeta().custom_metadata_map["labels"]``.
LABELS = "labels"
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
    require_finite_weights(model, name)
    return model


def read_self_contained(data: bytes, name: str) -> "ModelProto":
    """Read a model that anyone may have written, and that refers to no other file.

    ONNX Runtime would open the files that a model names, wherever the process happens to stand.

    Raises:
        ModelError: too large, not ONNX, or with weights outside the file.
    """
    model = read(data, name)
    outside = [tensor.name for tensor in tensors(model) if tensor.external_data]
    if outside:
        raise ModelError(
            f"{name}: keeps weights in other files ({', '.join(outside[:3])}…); only self-contained files are read.",
            next_step="save it with onnx.save(model, path, save_as_external_data=False)",
        )
    return model


def tensors(model: "ModelProto") -> "Iterator[TensorProto]":
    """Yield every tensor in a model: weights, constants, and those of branches and functions."""
    from onnx import TensorProto

    yield from (message for message in _within(model) if isinstance(message, TensorProto))


def read(data: bytes, name: str) -> "ModelProto":
    """Read a model that anyone may have written; its weights may be in other files, of which none is opened.

    Raises:
        ModelError: too large, or not ONNX.
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
    return model


def with_metadata_of(given: "ModelProto", data: bytes) -> bytes:
    """Return a model's bytes with what another says of itself: its producer, its documentation, its own metadata."""
    import onnx

    model = onnx.load_model_from_string(data)
    for field in ("producer_name", "producer_version", "domain", "model_version", "doc_string"):
        setattr(model, field, getattr(given, field))
    model.graph.name, model.graph.doc_string = given.graph.name, given.graph.doc_string
    del model.metadata_props[:]
    model.metadata_props.extend(given.metadata_props)
    written: bytes = model.SerializeToString(deterministic=True)
    return written


def _is_text(model: "ModelProto") -> bool:
    """Tell whether every string is one; protobuf hands out as bytes what is not UTF-8."""
    return not any(
        isinstance(text, bytes)
        for message in _within(model)
        for field, value in message.ListFields()
        if field.type == field.TYPE_STRING
        for text in (value if field.is_repeated else (value,))
    )


def require_finite_weights(model: "ModelProto", name: str) -> None:
    """Check every initializer.

    Raises:
        ModelError: one cannot be read, or holds NaN or infinite values.
    """
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


def write_labels(model: "ModelProto", labels: "Sequence[str]") -> None:
    """Put class names into a model, in the order of its logits, in place of those it has; none takes them out."""
    others = [entry for entry in model.metadata_props if entry.key != LABELS]
    del model.metadata_props[:]
    model.metadata_props.extend(others)
    if labels:
        model.metadata_props.add(key=LABELS, value=json.dumps(list(labels), ensure_ascii=False))


def read_labels(model: "ModelProto") -> tuple[str, ...]:
    """Return the class names in a model; none if it has none, or what stands there is no list of names."""
    text = next((entry.value for entry in model.metadata_props if entry.key == LABELS), "[]")
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return ()
    return tuple(names)


def clear_metadata(model: "ModelProto") -> None:
    """Remove what exporters leave: source paths, stack traces, producer versions, doc strings; the labels stay."""
    labels = read_labels(model)
    model.producer_name, model.producer_version, model.doc_string = "edgecnn", "", ""
    model.domain, model.model_version = "", 0
    model.graph.name = "edgecnn"
    for message in _within(model):
        for field in ("doc_string", "metadata_props"):
            if field in message.DESCRIPTOR.fields_by_name:
                message.ClearField(field)
    write_labels(model, labels)


def _within(message: "Message") -> "Iterator[Message]":
    """Yield a message and all that is in it: branches, loop bodies and functions hold nodes and tensors too."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if field.is_repeated else (value,):
                yield from _within(inner)
