"""Records of ``edgecnn bench --protocol mlperf-tiny``."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from edgecnn.bundle.latency import Count, Noise, Positive
from edgecnn.bundle.record import Fraction, MachineRecord, Record


class TinyModel(Record):
    """One model by the rules of MLPerf Tiny.

    ``inferences_per_second`` is the median of ``windows``; ``balanced_top1`` is of the small set with as many images
    of each class, ``full_top1`` of all test images.
    """

    inferences_per_second: Positive
    windows: Annotated[tuple[Positive, ...], Field(max_length=100)]
    balanced_top1: Fraction
    full_top1: Fraction


class TinyResult(Record):
    """Float and int8 by the rules of MLPerf Tiny; ``departures`` says where they were not followed."""

    protocol: Literal["mlperf-tiny"] = "mlperf-tiny"
    target: str
    threads: Count
    window_seconds: Positive
    float_model: TinyModel
    int8_model: TinyModel
    n_balanced: Count
    n_full: Count
    departures: tuple[str, ...]
    noise: Noise
    measured_at: datetime
    machine: MachineRecord
