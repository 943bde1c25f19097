"""Whether a runtime that is older than the one here reads a model's file."""

from edgecnn.errors import TargetError


def require_readable(model: bytes, *, runtime: str, newest_opset: int, newest_ir: int) -> bytes:
    """Return a model as it is if a runtime reads its format.

    Args:
        model: an ONNX file.
        runtime: what to call the reader in a message.
        newest_opset: the newest ``ai.onnx`` operator set that it reads.
        newest_ir: the newest IR version that it reads.

    Raises:
        TargetError: the model is newer.
    """
    import onnx

    proto = onnx.load_model_from_string(model)
    opset = next((each.version for each in proto.opset_import if each.domain in ("", "ai.onnx")), 0)
    if opset > newest_opset or proto.ir_version > newest_ir:
        raise TargetError(
            f"{runtime} reads operator sets up to {newest_opset} and IR versions up to {newest_ir}; the model has "
            f"operator set {opset} and IR version {proto.ir_version}.",
            next_step=f"export it again with --opset {newest_opset} or older",
        )
    return model
