"""Which of the measured ones is taken: by the objective, among those within the drop budget; of equals the simpler."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgecnn.bundle.tuning import Objective
from edgecnn.measure.race import Standing
from edgecnn.tuning.candidate import Candidate
from edgecnn.tuning.maker import Made

if TYPE_CHECKING:
    from edgecnn.stats import Comparison

#: Files whose sizes differ by less than this count as equally large: names of tensors are of different lengths.
SAME_SIZE = 1.01


@dataclass(frozen=True, kw_only=True)
class Row:
    """A candidate in one stage of a tuning.

    Attributes:
        stage: of the tuning.
        candidate: what was to be tried.
        made: its file, if there is one.
        standing: how it did, if it was measured.
        dropped: when and why it went out.
        on_front: whether no other is as fast, as accurate and as small, and better in one of these.
    """

    stage: str
    candidate: Candidate
    made: Made | None = None
    standing: Standing | None = None
    dropped: str | None = None
    on_front: bool = False


def holds(drop_pp: "Comparison", budget_pp: float) -> bool:
    """Compare a drop's estimate with a budget, in decimals: 29 of 1,000 are 2.9 points, and not 4e-16 more."""
    return round(drop_pp.delta - budget_pp, 9) <= 0


def best(rows: Sequence[Row], objective: Objective) -> tuple[Row, str | None]:
    """Return the row to take of those that competed in one group, and what has to be said about it.

    Args:
        rows: measured in the same race, all of one group; not empty.
        objective: ``size`` takes the smallest file, and of files as large the fastest; the others the fastest.
    """
    if objective == "size":
        least = min(_size(row) for row in rows)
        rows = [row for row in rows if _size(row) <= least * SAME_SIZE]
    leader = min(rows, key=lambda row: (_dropped(row), _standing(row).cost))
    equals = [row for row in rows if row is leader or _ties(row, leader)]
    chosen = min(equals, key=lambda row: row.candidate.complexity())
    if chosen is leader:
        return chosen, None
    return chosen, (
        f"no difference could be measured between {leader.candidate.name} and {chosen.candidate.name}; "
        "the simpler one was taken"
    )


def _ties(row: Row, leader: Row) -> bool:
    """Tell whether no difference could be measured: an interval over the heats that both ran reaches down to 1."""
    return not _dropped(row) and _standing(row).over(_standing(leader)).low <= 1


def _dropped(row: Row) -> bool:
    return _standing(row).dropped_after is not None


def _standing(row: Row) -> Standing:
    assert row.standing is not None
    return row.standing


def _size(row: Row) -> int:
    assert row.made is not None
    return len(row.made.data)


def mark_front(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Return the rows with the Pareto front of cost, accuracy and size marked.

    The cost is the ratio to the stock float model, which all races have in common. A candidate that was measured and
    judged more than once stands by its last row.
    """
    last = {row.candidate: index for index, row in enumerate(rows) if _point(row) is not None}
    points = {index: point for index in last.values() if (point := _point(rows[index])) is not None}
    front = {
        index
        for index, point in points.items()
        if not any(_dominates(other, point) for other in points.values() if other != point)
    }
    return tuple(replace(row, on_front=index in front) for index, row in enumerate(rows))


def _point(row: Row) -> tuple[float, float, float] | None:
    if row.standing is None or row.made is None or row.made.drop_pp is None:
        return None
    return (row.standing.against_reference.delta, row.made.drop_pp.delta, float(len(row.made.data)))


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(mine <= its for mine, its in zip(one, other, strict=True))
