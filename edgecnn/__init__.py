"""edgecnn: put convolutional networks on edge devices, and prove what is claimed of them.

The functions here are the stages of the one way through, the same that the command line calls::

    import edgecnn
    edgecnn.train("simplecnn")
    edgecnn.export()
    edgecnn.quantize()
    outcome, verdict = edgecnn.validate()

Importing this package imports neither torch nor onnxruntime; the stages do, where they need them.
"""

import os
from typing import TYPE_CHECKING

from edgecnn.version import __version__

# onnxruntime 1.32 keeps a device id and an event log in the user's cache folder, from a thread of its own that also
# disturbs a benchmark. It asks this variable when it is imported; who wants the telemetry sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from edgecnn.bundle import Bundle, Manifest
    from edgecnn.errors import EdgecnnError
    from edgecnn.graph.onnxsim_process import Limits
    from edgecnn.measure.latency import BenchSettings
    from edgecnn.pipeline.bench import bench
    from edgecnn.pipeline.compare import Compared, compare
    from edgecnn.pipeline.context import Options, Outcome
    from edgecnn.pipeline.demo_page import write_demo_page
    from edgecnn.pipeline.export import export
    from edgecnn.pipeline.export_settings import ExportSettings
    from edgecnn.pipeline.fit import Fitted, fit
    from edgecnn.pipeline.inspect import Inspection, inspect
    from edgecnn.pipeline.measurement import Measured, MeasureSettings, take_measurement
    from edgecnn.pipeline.package import Package, package
    from edgecnn.pipeline.predict import Predicted, predict
    from edgecnn.pipeline.profile import Profile, profile
    from edgecnn.pipeline.quantize import quantize
    from edgecnn.pipeline.quantize_settings import QuantizeSettings
    from edgecnn.pipeline.report import write_report
    from edgecnn.pipeline.run import RunResult, RunSettings, run
    from edgecnn.pipeline.sensitivity import sensitivity
    from edgecnn.pipeline.simplify import simplify
    from edgecnn.pipeline.simplify_file import SimplifiedFile, simplify_file
    from edgecnn.pipeline.train import train
    from edgecnn.pipeline.tune import tune
    from edgecnn.pipeline.tune_settings import TuneSettings
    from edgecnn.pipeline.validate import Validated, validate
    from edgecnn.pipeline.verdict import Gates, Verdict
    from edgecnn.quantization.recipes import RECIPES
    from edgecnn.targets import TARGETS
    from edgecnn.targets.instructions import count_instructions
    from edgecnn.training.settings import TrainingSettings

__all__ = [
    "RECIPES",
    "TARGETS",
    "BenchSettings",
    "Bundle",
    "Compared",
    "EdgecnnError",
    "ExportSettings",
    "Fitted",
    "Gates",
    "Inspection",
    "Limits",
    "Manifest",
    "MeasureSettings",
    "Measured",
    "Options",
    "Outcome",
    "Package",
    "Predicted",
    "Profile",
    "QuantizeSettings",
    "RunResult",
    "RunSettings",
    "SimplifiedFile",
    "TrainingSettings",
    "TuneSettings",
    "Validated",
    "Verdict",
    "__version__",
    "bench",
    "compare",
    "count_instructions",
    "export",
    "fit",
    "inspect",
    "package",
    "predict",
    "profile",
    "quantize",
    "run",
    "sensitivity",
    "simplify",
    "simplify_file",
    "take_measurement",
    "train",
    "tune",
    "validate",
    "write_demo_page",
    "write_report",
]

_HOMES = {
    "RECIPES": "edgecnn.quantization.recipes",
    "TARGETS": "edgecnn.targets",
    "BenchSettings": "edgecnn.measure.latency",
    "Bundle": "edgecnn.bundle",
    "Compared": "edgecnn.pipeline.compare",
    "EdgecnnError": "edgecnn.errors",
    "ExportSettings": "edgecnn.pipeline.export_settings",
    "Fitted": "edgecnn.pipeline.fit",
    "Gates": "edgecnn.pipeline.verdict",
    "Inspection": "edgecnn.pipeline.inspect",
    "Limits": "edgecnn.graph.onnxsim_process",
    "Manifest": "edgecnn.bundle",
    "MeasureSettings": "edgecnn.pipeline.measurement",
    "Measured": "edgecnn.pipeline.measurement",
    "Options": "edgecnn.pipeline.context",
    "Outcome": "edgecnn.pipeline.context",
    "Package": "edgecnn.pipeline.package",
    "Predicted": "edgecnn.pipeline.predict",
    "Profile": "edgecnn.pipeline.profile",
    "QuantizeSettings": "edgecnn.pipeline.quantize_settings",
    "RunResult": "edgecnn.pipeline.run",
    "RunSettings": "edgecnn.pipeline.run",
    "SimplifiedFile": "edgecnn.pipeline.simplify_file",
    "TrainingSettings": "edgecnn.training.settings",
    "TuneSettings": "edgecnn.pipeline.tune_settings",
    "Validated": "edgecnn.pipeline.validate",
    "Verdict": "edgecnn.pipeline.verdict",
    "bench": "edgecnn.pipeline.bench",
    "compare": "edgecnn.pipeline.compare",
    "count_instructions": "edgecnn.targets.instructions",
    "export": "edgecnn.pipeline.export",
    "fit": "edgecnn.pipeline.fit",
    "inspect": "edgecnn.pipeline.inspect",
    "package": "edgecnn.pipeline.package",
    "predict": "edgecnn.pipeline.predict",
    "profile": "edgecnn.pipeline.profile",
    "quantize": "edgecnn.pipeline.quantize",
    "run": "edgecnn.pipeline.run",
    "sensitivity": "edgecnn.pipeline.sensitivity",
    "simplify": "edgecnn.pipeline.simplify",
    "simplify_file": "edgecnn.pipeline.simplify_file",
    "take_measurement": "edgecnn.pipeline.measurement",
    "train": "edgecnn.pipeline.train",
    "tune": "edgecnn.pipeline.tune",
    "validate": "edgecnn.pipeline.validate",
    "write_demo_page": "edgecnn.pipeline.demo_page",
    "write_report": "edgecnn.pipeline.report",
}


def __getattr__(name: str) -> object:
    """Import a public name from its home when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'edgecnn' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
