"""Which targets a command means."""

from collections.abc import Sequence

from edgecnn.errors import UsageError
from edgecnn.targets import TARGETS, target

#: Stands for every target that is ready here.
ALL = "all"
#: More nodes than any network has.
ANY_NUMBER_OF_NODES = 1_000_000


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


def cpu_nodes_allowed(targets: Sequence[str], asked: Sequence[str], told: int | None) -> dict[str, int]:
    """Return how many nodes of a model the CPU may run in place of each target's provider.

    Args:
        targets: those that are meant.
        asked: what the user named; may hold :data:`ALL`.
        told: by the user, for every target. None for no node; but of a provider that never takes a whole network, any
            number where nobody named it and :data:`ALL` meant it: how many it is stands beside its figures.

    Raises:
        UsageError: the user told less than none.
    """
    if told is not None and told < 0:
        raise UsageError(f"--allow-cpu-nodes must not be below 0, found {told}.", next_step="--allow-cpu-nodes 0")
    lenient = ANY_NUMBER_OF_NODES if told is None else told
    return {name: lenient if target(name).takes_parts and name not in asked else (told or 0) for name in targets}


def _ready(timed: bool) -> list[str]:
    return [
        name
        for name, row in TARGETS.items()
        if row.in_all and row.why_not() is None and (not timed or row.clock_here == "measured")
    ]
