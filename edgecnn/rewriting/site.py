"""What a rewrite says of each place it looked at."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Site:
    """A place in a graph where a rewrite could apply.

    Attributes:
        rewrite: its name in the table.
        node: the name of the node it is about.
        applied: whether the graph was changed there.
        reason: what was done, or why nothing was.
    """

    rewrite: str
    node: str
    applied: bool
    reason: str
