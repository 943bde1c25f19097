"""Records of how long a model takes, and of what disturbed the measurement.

Fields with a default were added after the first bundles were written: a record without them is still read.
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from edgecnn.bundle.record import FileName, Fraction, MachineRecord, Record

Through = Literal["run", "iobinding"]

#: More pairs of sessions are never measured.
MAX_PAIRS = 1000
# Bounded, so that no ratio of two figures in a stranger's file overflows.
Positive = Annotated[float, Field(gt=1e-12, lt=1e18)]
NotNegative = Annotated[float, Field(ge=0, lt=1e18)]
Count = Annotated[int, Field(gt=0, lt=2**63)]
Bytes = Annotated[int, Field(ge=0, lt=2**63)]
PairMedians = Annotated[tuple[Positive, ...], Field(max_length=MAX_PAIRS)]


class Latency(Record):
    """Latency of one inference call in microseconds; ``n`` calls were timed.

    ``images_per_second`` counts every timed call, the slowest too: images divided by the time of all calls together.
    """

    p50_us: Positive
    p90_us: Positive
    p99_us: Positive
    n: Count
    max_us: Positive | None = None
    images_per_second: Positive | None = None


class Speedup(Record):
    """Float latency divided by int8 latency, with a 95% interval; above 1 int8 is faster."""

    median: Positive
    low: Positive
    high: Positive

    @property
    def relative_width(self) -> float:
        """Width of the interval as a fraction of the median."""
        return (self.high - self.low) / self.median


class Startup(Record):
    """What a model costs before and beside its running: medians over fresh sessions, and memory of a fresh process.

    ``peak_memory_bytes`` is of a process that imports ONNX Runtime, loads the model and runs it;
    ``runtime_memory_bytes`` of one that only imports ONNX Runtime. Both are null where the system does not tell.
    """

    size_bytes: Bytes
    load_us: Positive
    first_us: Positive
    peak_memory_bytes: Bytes | None
    runtime_memory_bytes: Bytes | None


class Trend(Record):
    """Whether latency rose or fell from the first pair to the last: Kendall's tau against the order.

    ``change`` is the rise over the whole measurement along Theil and Sen's line, as a fraction of the median.
    """

    tau: Annotated[float, Field(ge=-1, le=1)]
    p_value: Fraction
    change: float


class Noise(Record):
    """What the machine did meanwhile; null is what this system does not tell.

    ``spin_us`` is the median time of a fixed piece of arithmetic, run between the pairs of sessions, and
    ``spin_variation`` how far its tenth and ninetieth percentiles are apart, as a fraction of the median.
    ``steal`` and ``other_load`` are the shares of the CPUs used that a hypervisor and other processes took.
    ``unsteady_sessions`` of ``sessions`` had not settled when the limit of their warm-up was reached.
    """

    seconds: Positive
    spin_us: Positive
    spin_variation: NotNegative
    frequency_low_mhz: Positive | None
    frequency_high_mhz: Positive | None
    steal: Fraction | None
    other_load: Fraction | None
    load_average_before: NotNegative | None
    load_average_after: NotNegative | None
    involuntary_switches: Bytes | None
    trend: Trend
    sessions: Count
    unsteady_sessions: Bytes
    warnings: tuple[str, ...] = ()


class Precision(Record):
    """How narrow the interval of the speedup was to become, and whether it did; widths as fractions of the median."""

    asked: Positive
    found: NotNegative
    met: bool
    max_seconds: Positive


class LatencyResult(Record):
    """Float and int8 latency on one target: ``pairs`` fresh pairs of sessions, ``rounds`` turns in each.

    ``float_medians_us`` and ``int8_medians_us`` hold one median for each pair, in order. ``int8_session`` is the row of
    the table of session options that int8 was opened with: what a tuning of it on this target chose. ``int8_model`` is
    the file that ran as int8.
    """

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    target: str
    batch: Count
    threads: Count
    through: Through = "run"
    int8_session: str = "default"
    int8_model: FileName = "int8.onnx"
    clock: Literal["measured", "emulated", "simulated"]
    # "float" is the word users read; Python keeps it for the type.
    float_latency: Annotated[Latency, Field(alias="float")]
    int8_latency: Annotated[Latency, Field(alias="int8")]
    speedup: Speedup
    verdict: Literal["faster", "same", "slower"]
    precision: Precision | None = None
    float_startup: Startup | None = None
    int8_startup: Startup | None = None
    noise: Noise | None = None
    float_medians_us: PairMedians = ()
    int8_medians_us: PairMedians = ()
    pairs: Count
    rounds: Count
    pinned_cpus: tuple[int, ...]
    measured_at: datetime
    machine: MachineRecord

    @property
    def too_noisy(self) -> bool:
        """Whether a precision was asked for and not reached."""
        return self.precision is not None and not self.precision.met
