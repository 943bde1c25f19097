"""Which operators CoreML and NNAPI take: onnxruntime's own lists, as they come with its tools."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from onnx import NodeProto

_ROW = re.compile(r"^\|([\w.]+:\w+)\|(.*)\|\s*$")
_MARKUP = re.compile(r"<br/>|\[([^]]*)\]\([^)]*\)")


@dataclass(frozen=True, kw_only=True)
class MobileProvider:
    """One way in which a mobile provider takes a graph.

    Attributes:
        target: row of the target table.
        form: CoreML's model format, or None.
        operators_file: which of onnxruntime's lists says what it takes.
        max_rank: most dimensions that a tensor may have.
        fixed_sizes: whether every size must be known when the model is opened.
        checks_integers: whether it computes in integers, and so cares for their types.
    """

    target: str
    form: Literal["NeuralNetwork", "MLProgram"] | None = None
    operators_file: str
    max_rank: int = 999
    fixed_sizes: bool = False
    checks_integers: bool = False


#: Formats and limits as in onnxruntime.tools.mobile_helpers.usability_checker; that NNAPI takes no size that varies is
#: said there, too.
MOBILE_PROVIDERS: dict[str, MobileProvider] = {
    "coreml, NeuralNetwork": MobileProvider(
        target="coreml",
        form="NeuralNetwork",
        operators_file="coreml_supported_neuralnetwork_ops.md",
        max_rank=5,
    ),
    "coreml, MLProgram": MobileProvider(
        target="coreml", form="MLProgram", operators_file="coreml_supported_mlprogram_ops.md", max_rank=5
    ),
    "nnapi": MobileProvider(
        target="nnapi", operators_file="nnapi_supported_ops.md", fixed_sizes=True, checks_integers=True
    ),
}


def predicted_targets() -> tuple[str, ...]:
    """Return the targets that can be predicted."""
    return tuple(dict.fromkeys(row.target for row in MOBILE_PROVIDERS.values()))


def read_operators(provider: MobileProvider) -> dict[str, str]:
    """Return each operator that a provider takes, as ``domain:type``, with what it requires of it in words."""
    text = resources.files("onnxruntime.tools.mobile_helpers").joinpath(provider.operators_file).read_text("utf-8")
    rows = (match for match in map(_ROW.match, text.splitlines()) if match)
    return {match[1]: " ".join(_MARKUP.sub(r" \1", match[2]).split()) for match in rows}


def operator(node: "NodeProto") -> str:
    """Return a node's operator as ``domain:type``."""
    return f"{node.domain or 'ai.onnx'}:{node.op_type}"


@dataclass
class OperatorCheck:
    """Tells onnxruntime's partitioner which nodes are taken; has the methods that it calls.

    Attributes:
        known: operators that are taken, and what is required of each.
        refused: nodes that are not taken although their operator is, by first output, and why.
        seen: operators of the model that are taken.
    """

    known: Mapping[str, str]
    refused: Mapping[str, str] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)

    def is_op_supported(self, node: "NodeProto") -> bool:
        """Tell whether a node is taken."""
        taken = operator(node) in self.known and node.output[0] not in self.refused
        if taken:
            self.seen.add(operator(node))
        return taken

    def get_caveats(self) -> list[str]:
        """Return what is required of the operators seen, and not checked."""
        return [f"{op.removeprefix('ai.onnx:')}: {self.known[op]}" for op in sorted(self.seen) if self.known[op]]
