"""Records of ``edgecnn bench --profile``: where in a model the time goes, operator by operator."""

from edgecnn.bundle.latency import Count, NotNegative
from edgecnn.bundle.record import Fraction, Record


class OperatorTime(Record):
    """One operator as ONNX Runtime runs it, after its fusions, and the layer of the graph that it belongs to.

    ``us`` is the median over the runs, with what the profiler itself takes: about a microsecond an operator.
    ``layer`` is null for what is no convolution or matrix product; ``overhead`` marks what only converts or
    rearranges numbers.
    """

    name: str
    op: str
    layer: str | None
    overhead: bool
    us: NotNegative
    share: Fraction


class ModelProfile(Record):
    """Every operator of one model, in the order they run, over ``runs`` calls."""

    operators: tuple[OperatorTime, ...]
    total_us: NotNegative
    overhead_us: NotNegative
    runs: Count


class LayerTimes(Record):
    """One layer in both models; null where a model has no operator that could be told to be this layer's."""

    layer: str
    op: str
    float_us: NotNegative | None
    int8_us: NotNegative | None
    slower_in_int8: bool


class OperatorProfile(Record):
    """Both models on one target, and their layers beside each other."""

    target: str
    batch: Count
    threads: Count
    float_model: ModelProfile
    int8_model: ModelProfile
    layers: tuple[LayerTimes, ...]
