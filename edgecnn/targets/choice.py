"""Which targets a command means."""

from collections.abc import Sequence

from edgecnn.errors import UsageError
from edgecnn.targets import TARGETS, target

#: Stands for every target that is ready here.
ALL = "all"


def choose_targets(names: Sequence[str], *, timed: bool = False) -> tuple[str, ...]:
    """Return the targets that are meant, each once; :data:`ALL` stands for those that are ready here.

    Args:
        names: rows of the target table, or :data:`ALL`.
        timed: whether :data:`ALL` means only those whose wall time means something.

    Raises:
        UsageError: there is no such target, or less than none is asked for.
    """
    chosen: dict[str, None] = {}
    for name in names:
        if name == ALL:
            chosen |= dict.fromkeys(_ready(timed))
        else:
            target(name)
            chosen[name] = None
    if not chosen:
        raise UsageError("no target was named.", next_step="--provider cpu")
    return tuple(chosen)


def _ready(timed: bool) -> list[str]:
    return [
        name
        for name, row in TARGETS.items()
        if row.in_all and row.why_not() is None and (not timed or row.clock_here == "measured")
    ]
