"""CoreML and NNAPI, where they cannot run: into how many pieces they would cut a model, and why.

Each piece is copied to the accelerator and back, so more than one or two are usually slower than the CPU alone. The
prediction is onnxruntime's own (``onnxruntime.tools``, which follows ``partitioning_utils.cc``): from types of
operators and, for NNAPI, of integers. It says nothing of accuracy or latency.
"""

import importlib.metadata
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from edgecnn.bundle.atomic import sha256_bytes
from edgecnn.bundle.prediction import BreakerRecord, PredictionRecord
from edgecnn.errors import ModelError, UsageError
from edgecnn.targets.mobile_changes import propose
from edgecnn.targets.mobile_integers import open_groups, refused_integers
from edgecnn.targets.mobile_operators import (
    MOBILE_PROVIDERS,
    MobileProvider,
    OperatorCheck,
    operator,
    predicted_targets,
    read_operators,
)

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

_DIMENSIONS = "dimensions"


def predict(model: bytes, *, name: str, target: str | None = None) -> tuple[PredictionRecord, ...]:
    """Predict the partitions of a model on mobile providers; the same file gives the same answer.

    Args:
        model: an ONNX file, float or quantized.
        name: what to call it.
        target: ``coreml`` or ``nnapi``; None for both.

    Returns:
        One prediction for each provider, and for each format of CoreML's.

    Raises:
        UsageError: no prediction is known for the target.
        ModelError: the file is no ONNX model, has no node, or its sizes cannot be inferred.
    """
    if target is not None and target not in predicted_targets():
        raise UsageError(
            f"{target}: is not predicted; known: {', '.join(predicted_targets())}.",
            next_step=f"edgecnn validate --provider {target}, where it can run",
        )
    graph, dynamic_batch = _with_sizes(model, name)
    return tuple(
        _predict(graph, row, name=name, sha256=sha256_bytes(model), dynamic_batch=dynamic_batch)
        for row in MOBILE_PROVIDERS.values()
        if target in (None, row.target)
    )


def _with_sizes(data: bytes, name: str) -> "tuple[GraphProto, bool]":
    """Return the graph for a batch of one with its sizes inferred, and whether the file lets the batch vary."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise ModelError(
            f"{name}: expected an ONNX model, found something else ({error}).", next_step="name an .onnx file"
        ) from error
    if not model.graph.node:
        raise ModelError(f"{name}: has no node to predict.", next_step="name an .onnx file of a network")
    dynamic = _fix_batch(model)
    try:
        sized = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise ModelError(
            f"{name}: its sizes cannot be inferred ({str(error).splitlines()[0]}).", next_step="edgecnn simplify"
        ) from error
    return sized.graph, dynamic


def _fix_batch(model: "ModelProto") -> bool:
    """Set a first dimension that may vary to 1 in every input, in place; return whether one was."""
    constants = {tensor.name for tensor in model.graph.initializer}
    dynamic = False
    for value in model.graph.input:
        sizes = value.type.tensor_type.shape.dim
        if value.name not in constants and sizes and not sizes[0].HasField("dim_value"):
            sizes[0].dim_value, dynamic = 1, True
    if dynamic:  # sizes that were inferred for a batch that varies
        del model.graph.value_info[:]
        for value in model.graph.output:
            value.type.tensor_type.ClearField("shape")
    return dynamic


def _predict(
    graph: "GraphProto", row: MobileProvider, *, name: str, sha256: str, dynamic_batch: bool
) -> PredictionRecord:
    from onnxruntime.tools.mobile_helpers.usability_checker import check_partitioning

    refused = refused_integers(graph) if row.checks_integers else {}
    check = OperatorCheck(known=read_operators(row), refused={**_too_deep(graph, row.max_rank), **refused})
    sized = row.fixed_sizes and bool(graph.value_info)
    info = check_partitioning(graph, check, sized)
    return PredictionRecord(
        target=row.target,
        form=row.form,
        model=name,
        model_sha256=sha256,
        nodes=info.num_nodes,
        supported_nodes=info.num_supported_nodes,
        partitions=info.num_partitions,
        breakers=(*_left(graph, row, check), *_of_unknown_size(info)),
        dynamic_batch=dynamic_batch,
        suitability=info.suitability().name.lower(),
        unchecked=tuple(check.get_caveats()),
        cautions=tuple(map(_caution, open_groups(graph))) if row.checks_integers else (),
        onnxruntime=importlib.metadata.version("onnxruntime"),
    )


def _too_deep(graph: "GraphProto", max_rank: int) -> dict[str, str]:
    """Return the nodes that read a tensor of too many dimensions, by first output, each with the reason.

    onnxruntime's partitioner looks at dimensions only where it also wants all sizes fixed, which CoreML does not need.
    """
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }
    reason = f"a tensor has more than {max_rank} {_DIMENSIONS}"
    return {node.output[0]: reason for node in graph.node if any(ranks.get(name, 0) > max_rank for name in node.input)}


def _left(graph: "GraphProto", row: MobileProvider, check: OperatorCheck) -> list[BreakerRecord]:
    """Return the operators that are not taken, and nodes that are left although their operator is taken."""
    counts: Counter[tuple[str, str]] = Counter()
    for node in _nodes(graph):
        if operator(node) not in check.known:
            counts[operator(node), "is not among the operators it takes"] += 1
        elif node.output[0] in check.refused:
            counts[operator(node), check.refused[node.output[0]]] += 1
    return [
        BreakerRecord(op=_short(op), nodes=n, reason=reason, change=_change(op, reason, row, check.known))
        for (op, reason), n in sorted(counts.items())
    ]


def _change(op: str, reason: str, row: MobileProvider, known: Mapping[str, str]) -> str:
    if reason.endswith(_DIMENSIONS):
        return "reshape to fewer dimensions before it"
    if op in known:
        return f"quantize for it: edgecnn quantize --for {row.target}"
    others = (other for other in MOBILE_PROVIDERS.values() if other.target == row.target and other != row)
    elsewhere = next((other.form for other in others if op in read_operators(other)), None)
    # Weights of an older form lose nothing by moving to the newer; the other way round nobody should go.
    return propose(op, known, elsewhere=elsewhere if elsewhere == "MLProgram" else None)


def _caution(layer: str) -> str:
    return (
        f"{layer}: no quantize follows it, and onnxruntime's NNAPI provider takes s8 weights only between dequantize "
        "and quantize: it may stay on the CPU (a recipe that ends in -qoutput has the quantize)"
    )


def _of_unknown_size(info: Any) -> list[BreakerRecord]:
    """Return that nodes are left for sizes that vary, where their operator is taken."""
    if not (n := info.nodes_unsupported_due_to_dynamic_input):
        return []
    change = "export with fixed sizes: edgecnn export --batch 1 --input-size HEIGHTxWIDTH"
    return [BreakerRecord(op="any", nodes=n, reason="the size of an input varies or is unknown", change=change)]


def _short(op: str) -> str:
    return op.removeprefix("ai.onnx:")


def _nodes(graph: "GraphProto") -> "Iterator[NodeProto]":
    """Yield every node, those of branches included."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _nodes(attribute.g)
