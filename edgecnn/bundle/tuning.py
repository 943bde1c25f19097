"""What tuning tried, what it measured, and what it recommends."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from edgecnn.bundle.record import MachineRecord, Record, Sha256

Unit = Literal["us", "instructions"]
Objective = Literal["latency", "throughput", "size"]
Form = Literal["float", "int8"]
Positive = Annotated[float, Field(gt=0)]


class RatioRecord(Record):
    """A ratio with its 95% interval; of counted instructions, with the tolerance within which they are equal."""

    median: Positive
    low: Positive
    high: Positive


class ConfigurationRecord(Record):
    """One way to run the network: what the file is, and how it is opened."""

    name: str
    form: Form
    recipe: str | None = None
    float_layers: tuple[str, ...] = ()
    rewrites: tuple[str, ...] = ()
    session: str = "default"
    threads: Annotated[int, Field(gt=0)] = 1


class CandidateRecord(Record):
    """One configuration in one stage of a tuning, with what was measured of it; null is what was not.

    ``cost`` is in the tuning's unit, the median of ``heats``; ``against_float`` is it divided by that of the stock
    float.onnx in the same heats. Drops are in percentage points, on training images held apart. ``dropped`` says when
    and why it went out.
    """

    stage: str
    configuration: ConfigurationRecord
    size_bytes: Annotated[int, Field(gt=0)] | None = None
    drop_pp: float | None = None
    drop_pp_low: float | None = None
    drop_pp_high: float | None = None
    cost: Positive | None = None
    heats: Annotated[int, Field(ge=0)] = 0
    against_float: RatioRecord | None = None
    dropped: str | None = None
    on_front: bool = False


class TuningRecord(Record):
    """The whole log of a tuning of one ``float.onnx``; ``chosen`` is what int8.onnx is made by.

    ``recipe`` is the recipe of ``chosen`` to the last field; ``met`` tells whether it holds ``max_drop_pp``.
    """

    target: str
    unit: Unit
    objective: Objective
    max_drop_pp: float
    seconds: Positive
    seed: int
    batch: Annotated[int, Field(gt=0)]
    threads: Annotated[int, Field(gt=0)]
    pinned_cpus: tuple[int, ...]
    n_images: Annotated[int, Field(gt=0)]
    n_held_out: Annotated[int, Field(gt=0)]
    float_sha256: Sha256
    int8_sha256: Sha256
    chosen: ConfigurationRecord
    recipe: dict[str, JsonValue]
    met: bool
    candidates: tuple[CandidateRecord, ...]
    notes: tuple[str, ...] = ()
    machine: MachineRecord
    measured_at: datetime


class RecommendationRecord(Record):
    """Which file to ship for a target, and why; ``speedup`` is the stock float.onnx's cost divided by its own."""

    model: Literal["float.onnx", "float_tuned.onnx", "int8.onnx"]
    sha256: Sha256
    int8_sha256: Sha256
    configuration: ConfigurationRecord
    why: str
    speedup: RatioRecord
    drop_pp: float
    drop_pp_low: float
    drop_pp_high: float
    target: str
    unit: Unit
    objective: Objective
    machine: MachineRecord
    measured_at: datetime
