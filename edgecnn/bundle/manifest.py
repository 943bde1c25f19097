"""What a bundle claims, and where every figure of it came from.

These models are read from disk, so they are strict: an unknown key is an error, not a shrug.
The JSON schema in ``docs/manifest.schema.json`` is generated from them; a test holds the two together.
"""

import json
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, JsonValue

from edgecnn.bundle.latency import Bytes
from edgecnn.bundle.latency import Latency as Latency
from edgecnn.bundle.latency import LatencyResult as LatencyResult
from edgecnn.bundle.latency import Speedup as Speedup
from edgecnn.bundle.prediction import PredictionRecord
from edgecnn.bundle.record import MANIFEST as MANIFEST
from edgecnn.bundle.record import FileName as FileName
from edgecnn.bundle.record import Fraction as Fraction
from edgecnn.bundle.record import MachineRecord as MachineRecord
from edgecnn.bundle.record import Record as Record
from edgecnn.bundle.record import Sha256 as Sha256
from edgecnn.bundle.tuning import RecommendationRecord, TuningRecord

SCHEMA_VERSION: Literal[1] = 1

StageName = Literal["train", "export", "simplify", "tune", "quantize", "fit", "validate", "bench", "report"]

#: The stages whose results stop being true when a stage gives another output.
DOWNSTREAM: dict[StageName, tuple[StageName, ...]] = {
    "train": ("export", "simplify", "tune", "quantize", "fit", "validate", "bench", "report"),
    "export": ("simplify", "tune", "quantize", "fit", "validate", "bench", "report"),
    "simplify": ("tune", "quantize", "fit", "validate", "bench", "report"),
    "tune": ("report",),  # what it chose is written by quantize, in the same command
    "quantize": ("validate", "bench", "report"),
    "fit": ("report",),  # its models hold what was measured of them themselves
    "validate": ("report",),
    "bench": ("report",),
    "report": (),
}


def _refuse_nan(value: JsonValue) -> JsonValue:
    json.dumps(value, allow_nan=False)  # allow_inf_nan below does not reach inside a JsonValue
    return value


Setting = Annotated[JsonValue, AfterValidator(_refuse_nan)]


class TensorSpec(Record):
    """An input or output of a graph; a string in ``shape`` is a dimension that may vary."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Artifact(Record):
    """One file of the bundle, and the file it was made from."""

    stage: StageName
    path: FileName
    sha256: Sha256
    size_bytes: Bytes
    parent_sha256: Sha256 | None = None
    input: TensorSpec | None = None
    output: TensorSpec | None = None
    tools: dict[str, str] = Field(default={})


class StageRecord(Record):
    """What a finished stage was given and gave; enough to know whether it must be done again."""

    inputs: dict[str, Sha256]
    settings: dict[str, Setting]
    outputs: dict[FileName, Sha256]
    finished_at: datetime
    seconds: Annotated[float, Field(ge=0)]


class DataRecord(Record):
    """The images a stage used. No path: the SHA-256 of the decoded arrays finds them in the cache."""

    source: str
    name: str
    sha256: Sha256
    classes: tuple[str, ...]
    n_train: Annotated[int, Field(ge=0)]
    n_test: Annotated[int, Field(ge=0)]
    image_shape: tuple[int, int, int]
    resize: str


class EpochRecord(Record):
    """One row of the training curve."""

    epoch: int
    loss: float
    train_top1: Fraction
    learning_rate: float


class NetworkRecord(Record):
    """The network: its name in the model table, its size, and the normalization inside the graph."""

    name: str
    parameters: Annotated[int, Field(gt=0)] | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()


class LayersRecord(Record):
    """A stage's output compared with its parent tensor by tensor.

    ``n_equal`` of its ``n`` tensors have a twin of the same values in the parent; the others were fused or rewritten.
    ``worst_layer`` differs most from its twin, by ``worst_relative`` of the twin's largest value.
    """

    n: Annotated[int, Field(ge=0)]
    n_equal: Annotated[int, Field(ge=0)]
    worst_layer: str
    worst_relative: Annotated[float, Field(ge=0)]


class SkippedPassRecord(Record):
    """A pass of the simplifier that changed the answers and was left out."""

    name: str
    reason: str


class SimplificationRecord(Record):
    """What simplifying did: node counts by operator, and what had to be left out."""

    nodes_before: dict[str, Annotated[int, Field(gt=0)]]
    nodes_after: dict[str, Annotated[int, Field(gt=0)]]
    skipped: tuple[SkippedPassRecord, ...] = ()


class ParityRecord(Record):
    """A stage's output compared with its parent on the same images, at each batch size."""

    stage: StageName
    reference: str
    n: Annotated[int, Field(gt=0)]
    batch_sizes: tuple[int, ...]
    max_abs_difference: Annotated[float, Field(ge=0)]
    max_relative_difference: Annotated[float, Field(ge=0)]
    tolerance: Annotated[float, Field(gt=0)]
    argmax_flips: Annotated[int, Field(ge=0)]
    layers: LayersRecord | None = None


class CalibrationRecord(Record):
    """The training images that set the activation ranges, by content."""

    split: Literal["train"]
    n: Annotated[int, Field(gt=0)]
    seed: int
    data_sha256: Sha256
    excluded_as_test_images: Annotated[int, Field(ge=0)]
    image_sha256: tuple[Sha256, ...]


class JudgementRecord(Record):
    """A quantized model against float, on training images held apart; infinite ratios are null."""

    drop_pp: float
    drop_pp_low: float
    drop_pp_high: float
    sqnr_db: float | None


class TryRecord(JudgementRecord):
    """One recipe that a search tried."""

    recipe: str
    float_layers: tuple[str, ...]
    met: bool


class SearchRecord(Record):
    """A search for the cheapest recipe that loses no more than ``max_drop_pp``: every try, in order."""

    max_drop_pp: float
    met: bool
    n: Annotated[int, Field(gt=0)]
    tries: tuple[TryRecord, ...]


class LayerSensitivityRecord(Record):
    """What quantizing one layer costs: it alone in integers, and all but it."""

    layer: str
    op: str
    weight_sqnr_db: float | None
    activation_sqnr_db: float | None
    alone: JudgementRecord
    all_but: JudgementRecord


class SensitivityRecord(Record):
    """Every layer, the one that costs most first, and the whole network with the same recipe."""

    recipe: str
    n: Annotated[int, Field(gt=0)]
    whole: JudgementRecord
    layers: tuple[LayerSensitivityRecord, ...]


class ClassAccuracy(Record):
    """Accuracy on the test images of one class."""

    name: str
    n: int
    float_top1: Fraction
    int8_top1: Fraction
    drop_pp: float


class Difference(Record):
    """One model's answers on a target, held against this machine's CPU: the same images, the same batches.

    ``top1_change_pp`` is in percentage points, above 0 where the target is more often right; ``low`` and ``high`` are
    its 95% interval.
    """

    argmax_flips: Annotated[int, Field(ge=0)]
    max_abs_logit_difference: Annotated[float, Field(ge=0)]
    top1_change_pp: float | None = None
    top1_change_low_pp: float | None = None
    top1_change_high_pp: float | None = None


class ValidationResult(Record):
    """Float and int8 on the same test images of one target; drops are in percentage points.

    ``n_available`` and ``sample_seed`` are set where only ``n`` of the test images were asked for, and the comparisons
    with this machine's CPU where the target is another. ``how`` tells how far the answer reaches: the target itself,
    its instructions emulated, its arithmetic simulated. ``float_nodes`` and ``int8_nodes`` count the nodes that each
    provider ran, as the session said it. ``int8_model`` is the file that ran as int8. ``float_bits`` are those that the
    target computes float in.
    """

    target: str
    int8_model: FileName = "int8.onnx"
    float_bits: Literal[16, 32] = 32
    float_top1: Fraction
    int8_top1: Fraction
    drop_pp: float
    drop_pp_low: float
    drop_pp_high: float
    agreement: Fraction
    p_value: Fraction
    n: Annotated[int, Field(gt=0)]
    per_class: tuple[ClassAccuracy, ...]
    data_sha256: Sha256
    measured_at: datetime
    machine: MachineRecord
    n_available: Annotated[int, Field(gt=0)] | None = None
    sample_seed: int | None = None
    float_against_cpu: Difference | None = None
    int8_against_cpu: Difference | None = None
    how: Literal["measured", "emulated", "simulated"] | None = None
    provider: str | None = None
    float_nodes: dict[str, int] = Field(default={})
    int8_nodes: dict[str, int] = Field(default={})


class ValidationFailure(Record):
    """A target that gave no figures, beside others that did; ``exit_code`` is that of the error."""

    target: str
    reason: str
    next_step: str
    exit_code: int
    failed_at: datetime


class LayerSaturation(Record):
    """The worst sum of two products in a layer, for 16 bits to hold; activations are counted as u8."""

    layer: str
    op: str
    activation_low: Annotated[int, Field(ge=0, le=255)]
    activation_high: Annotated[int, Field(ge=0, le=255)]
    worst_pair_sum: int
    worst_pair_sum_any_order: int
    outputs: Annotated[int, Field(gt=0)]
    outputs_that_can_saturate: Annotated[int, Field(ge=0)]


class SaturationRecord(Record):
    """Which layers of int8.onnx can saturate on x86 without VNNI, told from the file.

    ``exempt`` and ``unknown`` name layers and the reason; ``worst_pair_sum`` is of the pairs that ONNX Runtime sums,
    ``worst_pair_sum_any_order`` an upper bound whatever a runtime's order. ``may_overflow_on_arm`` counts, by layer,
    outputs with two weights of -128, the only ones whose products can exceed 16 bits on Arm.
    """

    layers: tuple[LayerSaturation, ...]
    exempt: dict[str, str] = Field(default={})
    unknown: dict[str, str] = Field(default={})
    may_overflow_on_arm: dict[str, int] = Field(default={})

    @property
    def can_saturate(self) -> tuple[LayerSaturation, ...]:
        """The layers that can."""
        return tuple(layer for layer in self.layers if layer.outputs_that_can_saturate)


class UnfusedRecord(Record):
    """A node that ONNX Runtime runs in float although integers lie before or behind it."""

    layer: str
    op: str
    reason: str


class FusionRecord(Record):
    """The int8 model with and without ONNX Runtime's graph optimizations, on ``n`` images."""

    n: Annotated[int, Field(gt=0)]
    argmax_flips: Annotated[int, Field(ge=0)]
    max_abs_logit_difference: Annotated[float, Field(ge=0)]
    unfused: tuple[UnfusedRecord, ...]


class FittedRecord(Record):
    """Which file of the bundle a target is to run, why, and what was measured of it.

    ``model`` is ``float.onnx`` or ``int8.onnx``, whose figures are in ``validation`` and ``latency`` of the manifest,
    or an int8 model of its own, whose figures are here. ``choice`` are the recipes that were judged on training images
    held apart, where there was more than one.
    """

    target: str
    model: FileName
    model_sha256: Sha256
    reason: str
    recipe: str | None = None
    float_layers: tuple[str, ...] = ()
    calibration: CalibrationRecord | None = None
    choice: SearchRecord | None = None
    saturation: SaturationRecord | None = None
    validation: tuple[ValidationResult, ...] = ()
    latency: tuple[LatencyResult, ...] = ()

    @property
    def is_own(self) -> bool:
        """Whether the file was made for this target alone."""
        return self.model == f"int8-{self.target}.onnx"


class Check(Record):
    """One gate: what was measured against what was asked."""

    name: str
    measured: float
    limit: float
    unit: str
    passed: bool


class Manifest(Record):
    """Everything a bundle claims. Written last, atomically."""

    format: Literal["edgecnn-bundle"] = "edgecnn-bundle"
    schema_version: Literal[1] = SCHEMA_VERSION
    edgecnn_version: str
    network: NetworkRecord | None = None
    data: DataRecord | None = None
    training_curve: tuple[EpochRecord, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    stages: dict[StageName, StageRecord] = Field(default={})
    parity: tuple[ParityRecord, ...] = ()
    simplification: SimplificationRecord | None = None
    calibration: CalibrationRecord | None = None
    float_layers: tuple[str, ...] = ()
    search: SearchRecord | None = None
    sensitivity: SensitivityRecord | None = None
    validation: tuple[ValidationResult, ...] = ()
    validation_failures: tuple[ValidationFailure, ...] = ()
    saturation: SaturationRecord | None = None
    fusion: FusionRecord | None = None
    latency: tuple[LatencyResult, ...] = ()
    checks: tuple[Check, ...] = ()
    tuning: TuningRecord | None = None
    recommendation: RecommendationRecord | None = None
    fitted: tuple[FittedRecord, ...] = ()
    predictions: tuple[PredictionRecord, ...] = ()

    def artifact(self, path: str) -> Artifact | None:
        """Return the newest artifact of that file name: the last one made from its parents."""
        return next((a for a in reversed(self.artifacts) if a.path == path), None)
