"""Where a provider that cannot run here would cut a model: predicted from the file, never measured."""

from typing import Annotated, Literal

from pydantic import Field

from edgecnn.bundle.record import Record, Sha256

Count = Annotated[int, Field(ge=0)]


class BreakerRecord(Record):
    """Nodes of one operator that a provider does not take, so that the graph is cut there, and what to change."""

    op: str
    nodes: Annotated[int, Field(gt=0)]
    reason: str
    change: str


class PredictionRecord(Record):
    """How a provider would partition a model, told from its list of operators (onnxruntime.tools, ``onnxruntime``).

    ``form`` is CoreML's model format. Counts are with the batch fixed at 1; where ``dynamic_batch``, the file itself
    lets it vary. ``suitability`` is onnxruntime.tools' word for whether the provider is worth trying. ``unchecked`` are
    conditions on operators of the model that a list of operators cannot settle, ``cautions`` what speaks against nodes
    that are counted as taken.
    """

    target: str
    form: Literal["NeuralNetwork", "MLProgram"] | None = None
    model: str
    model_sha256: Sha256
    nodes: Annotated[int, Field(gt=0)]
    supported_nodes: Count
    partitions: Count
    breakers: tuple[BreakerRecord, ...]
    dynamic_batch: bool
    suitability: Literal["yes", "maybe", "no"]
    unchecked: tuple[str, ...]
    cautions: tuple[str, ...] = ()
    onnxruntime: str
