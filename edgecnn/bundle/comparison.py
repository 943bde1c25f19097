"""Records of ``edgecnn compare``: two measurements side by side, shown and not kept."""

from edgecnn.bundle.record import Record


class Ratio(Record):
    """The second figure divided by the first; the 95% interval is null where too little is known for one."""

    median: float
    low: float | None = None
    high: float | None = None


class Figure(Record):
    """One figure of both measurements, of ``float``, ``int8`` or, as the speedup, of both models together."""

    name: str
    model: str
    unit: str
    a: float
    b: float
    ratio: Ratio


class ComparedPlace(Record):
    """The figures of one target, batch, thread count and way of calling."""

    place: str
    figures: tuple[Figure, ...]


class ComparisonRecord(Record):
    """Two measurements: what both hold, what only one holds, and what to know before reading the ratios."""

    a: str
    b: str
    places: tuple[ComparedPlace, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    notes: tuple[str, ...]
