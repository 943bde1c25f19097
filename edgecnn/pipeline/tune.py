"""Stage 4: which int8 and which float is fastest on the target, found by measuring there; ``int8.onnx`` follows it."""

import contextlib
import dataclasses
import importlib.metadata
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import JsonValue

from edgecnn.bundle import Bundle
from edgecnn.bundle.atomic import sha256_bytes
from edgecnn.bundle.locate import newest_folder
from edgecnn.bundle.manifest import Artifact, MachineRecord
from edgecnn.bundle.tuning import CandidateRecord, RatioRecord, RecommendationRecord, TuningRecord
from edgecnn.data import Dataset
from edgecnn.measure.latency import pinned
from edgecnn.measure.machine import describe_machine
from edgecnn.pipeline.bench import noise
from edgecnn.pipeline.calibration_job import CalibrationJob, calibration_job
from edgecnn.pipeline.context import (
    Options,
    Outcome,
    Work,
    choose_dataset,
    describe_artifact,
    input_size,
    read_model,
    working_on,
)
from edgecnn.pipeline.export import FLOAT_MODEL
from edgecnn.pipeline.quantize import INT8_MODEL, commit_quantized
from edgecnn.pipeline.quantize_settings import recorded
from edgecnn.pipeline.report import report_stage
from edgecnn.pipeline.tune_settings import TuneSettings
from edgecnn.pipeline.tuned import GraphRewriter
from edgecnn.targets import running
from edgecnn.tuning.budget import Budget

if TYPE_CHECKING:
    from edgecnn.quantization.recipes import Recipe
    from edgecnn.quantization.static import Quantized
    from edgecnn.stats import Comparison
    from edgecnn.tuning.choice import Row
    from edgecnn.tuning.meter import Meter
    from edgecnn.tuning.search import Tuned

#: A rewritten float model that is faster than the stock one, which stays the reference.
FLOAT_TUNED_MODEL = "float_tuned.onnx"
