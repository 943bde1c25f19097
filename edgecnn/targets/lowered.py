"""A model in the file format of an older ONNX Runtime: the same nodes, an older header."""

from typing import TYPE_CHECKING

from edgecnn.errors import TargetError

if TYPE_CHECKING:
    import onnx

#: What onnxruntime-web 1.16 reads: ONNX 1.14 (https://onnxruntime.ai/docs/reference/compatibility.html).
NEWEST_OPSET, IR_VERSION = 19, 9
_DEFAULT = "ai.onnx"


def lower(model: bytes, *, runtime: str, newest_opset: int = NEWEST_OPSET, ir_version: int = IR_VERSION) -> bytes:
    """Return a model with an older IR version and without the operator sets that no node uses.

    An IR version adds to the file format, not to what a node computes; and an operator set that is named but unused
    is refused by a runtime that is older than it. What a node is, is left alone: nothing is converted.

    Args:
        model: an ONNX file.
        runtime: what to call the reader in a message.
        newest_opset: the newest ``ai.onnx`` operator set that it reads.
        ir_version: the newest IR version that it reads.

    Raises:
        TargetError: a node needs a newer operator set, or a tensor a type that the older format has not.
    """
    import onnx

    proto = onnx.load_model_from_string(model)
    used = _domains(proto.graph) | {domain for function in proto.functions for domain in _domains(function)}
    kept = [entry for entry in proto.opset_import if _name(entry.domain) in used]
    for entry in kept:
        if _name(entry.domain) == _DEFAULT and entry.version > newest_opset:
            raise TargetError(
                f"{runtime} reads operator sets up to {newest_opset}, the model has {entry.version}.",
                next_step="export it again with --opset 18",
            )
    del proto.opset_import[:]
    proto.opset_import.extend(kept)
    proto.ir_version = min(proto.ir_version, ir_version)
    return proto.SerializeToString()


def _name(domain: str) -> str:
    return domain or _DEFAULT


def _domains(part: "onnx.GraphProto | onnx.FunctionProto") -> set[str]:
    """Return the operator sets that nodes use, those of nested graphs included."""
    found: set[str] = set()
    for node in part.node:
        found.add(_name(node.domain))
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                found |= _domains(graph)
    return found
