"""Records of ``edgecnn profile``: like the manifest's, but shown and not kept."""

from math import prod

from edgecnn.bundle.manifest import Record

Shape = tuple[int, ...]
FLOAT_BYTES = 4


class Convolution(Record):
    """A convolution to time, and what its dense twin would take.

    Shapes are without the batch, channels first; each other tuple has one entry an axis, height first.
    """

    name: str
    batch: int
    source: Shape
    output: Shape
    kernel: Shape
    stride: Shape
    pads_before: Shape
    pads_after: Shape
    dilation: Shape
    groups: int
    bias: bool

    @property
    def dense_bytes(self) -> int:
        """Bytes of the float32 weights of a fully connected layer in its place."""
        outputs = prod(self.output)
        return FLOAT_BYTES * (prod(self.source) * outputs + (outputs if self.bias else 0))


class Timing(Record):
    """Time of one call: the median over blocks of calls, and how far the blocks' quartiles are apart."""

    median_us: float
    iqr_us: float
    blocks: int
    calls: int


class LayerTiming(Record):
    """One convolution and its dense twin, or the reason why there is none."""

    layer: Convolution
    convolution: Timing
    dense: Timing | None
    skipped: str | None

    @property
    def ratio(self) -> float | None:
        """How many times as long the fully connected layer takes."""
        return self.dense.median_us / self.convolution.median_us if self.dense else None
