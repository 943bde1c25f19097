"""ONNX bytes: read with suspicion, written the same every time."""

from typing import TYPE_CHECKING

from edgecnn.errors import ModelError

if TYPE_CHECKING:  # onnx takes 0.1 s to import
    from onnx import ModelProto

MAX_MODEL_BYTES = 2 * 2**30
_QUANTIZED_OPS = {
    "QuantizeLinear",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "ConvInteger",
    "MatMulInteger",
}


def parse(data: bytes, name: str) -> "ModelProto":
    """Read and check a model that anyone may have written.

    Args:
        data: the file's bytes.
        name: what to call it in a message.

    Raises:
        ModelError: too large, not ONNX, invalid, weights outside the file, or weights that are not finite.
    """
    import onnx
    from google.protobuf.message import DecodeError

    if len(data) > MAX_MODEL_BYTES:
        raise ModelError(f"{name}: larger than {MAX_MODEL_BYTES} bytes.")
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise ModelError(f"{name}: expected an ONNX model, found a file that is truncated or not one.") from error
    outside = [tensor.name for tensor in model.graph.initializer if tensor.external_data]
    if outside:
        raise ModelError(
            f"{name}: keeps weights in other files ({', '.join(outside[:3])}…); only self-contained files are read.",
            next_step="save it with onnx.save(model, path, save_as_external_data=False)",
        )
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ModelError(f"{name}: not a valid ONNX model ({str(error).splitlines()[0]}).") from error
    _require_finite_weights(model, name)
    return model


def _require_finite_weights(model: "ModelProto", name: str) -> None:
    import numpy as np
    from onnx import numpy_helper

    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            raise ModelError(
                f"{name}: the weights {tensor.name} hold NaN or infinite values.",
                next_step="train the model again, or export a sound checkpoint",
            )


def is_quantized(model: "ModelProto") -> bool:
    """Tell whether any node already computes in integers."""
    return any(node.op_type in _QUANTIZED_OPS or node.op_type.startswith("QLinear") for node in model.graph.node)


def serialize(model: "ModelProto") -> bytes:
    """Clear everything that says where or by what the model was made, and return its bytes."""
    clear_metadata(model)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def clear_metadata(model: "ModelProto") -> None:
    """Remove what exporters leave: source paths, stack traces, producer versions, doc strings."""
    model.producer_name, model.producer_version, model.doc_string = "edgecnn", "", ""
    model.domain, model.model_version = "", 0
    del model.metadata_props[:]
    graph = model.graph
    graph.name, graph.doc_string = "edgecnn", ""
    del graph.metadata_props[:]
    for group in (graph.node, graph.input, graph.output, graph.value_info, graph.initializer):
        for item in group:
            item.doc_string = ""
            del item.metadata_props[:]
