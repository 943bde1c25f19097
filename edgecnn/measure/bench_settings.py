"""How latency is measured: every number that a user may choose, refused where it measures nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import get_args

from edgecnn.bundle.latency import MAX_PAIRS, Through
from edgecnn.errors import UsageError
from edgecnn.measure.cpus import available_cpus
from edgecnn.stats import MIN_PAIRS

THROUGH: tuple[Through, ...] = get_args(Through)


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """How latency is measured.

    Attributes:
        batch: images a call.
        threads: of ONNX Runtime; the process is pinned to as many CPUs where the system allows it.
        through: ``run`` hands arrays over in each call; ``iobinding`` binds buffers once, before.
        pairs: how often both models are opened anew; each pair gives one ratio.
        rounds: of each pair; a round times a block of float calls and a block of int8 calls, in random order.
        seconds: about how long the timed calls of ``pairs`` pairs take in all; sets how many make a block.
        warmup: calls at the head of each block that are not counted, for the other model has used the caches. That a
            fresh session has settled is measured, see :mod:`edgecnn.measure.warmup`.
        until: go on beyond ``pairs`` until the interval of the speedup is no wider than this fraction of it.
        max_seconds: when to give that up.
        seed: of the order within rounds.
    """

    batch: int = 1
    threads: int = 1
    through: Through = "run"
    pairs: int = 10
    rounds: int = 4
    seconds: float = 4.0
    warmup: int = 10
    until: float | None = None
    max_seconds: float = 120.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, least in (
            ("batch", self.batch, 1),
            ("threads", self.threads, 1),
            ("pairs", self.pairs, MIN_PAIRS),
            ("rounds", self.rounds, 1),
        ):
            if value < least:
                raise UsageError(
                    f"bench: --{name} must be at least {least}, found {value}.", next_step=f"--{name} {least}"
                )
        if self.pairs > MAX_PAIRS:
            raise UsageError(
                f"bench: --pairs must be at most {MAX_PAIRS}, found {self.pairs}.", next_step=f"--pairs {MAX_PAIRS}"
            )
        for name, duration, usual in (("seconds", self.seconds, "4"), ("max-seconds", self.max_seconds, "120")):
            if not 0 < duration < float("inf"):
                raise UsageError(
                    f"bench: --{name} must be above 0 and finite, found {duration}.", next_step=f"--{name} {usual}"
                )
        self._require_measurable()

    def _require_measurable(self) -> None:
        cores = available_cpus()
        if self.threads > cores:
            raise UsageError(
                f"bench: --threads {self.threads} on a machine with {cores} CPUs measures the queue.",
                next_step=f"--threads {cores}",
            )
        parse_through(self.through)
        if self.until is not None and not 0 < self.until < 1:
            raise UsageError(
                f"bench: --until must be above 0% and below 100%, found {self.until:.4g} of the speedup.",
                next_step="--until 2%",
            )


def parse_through(text: str) -> Through:
    """Return a way of calling a session.

    Raises:
        UsageError: there is no such way.
    """
    for way in THROUGH:
        if text == way:
            return way
    raise UsageError(f"bench: --through must be {' or '.join(THROUGH)}, found {text!r}.", next_step="--through run")


def combinations(
    settings: BenchSettings, *, batches: Sequence[int], threads: Sequence[int], through: Sequence[Through]
) -> list[BenchSettings]:
    """Return ``settings`` with every combination of the three, each once, in the order given."""
    chosen = [
        replace(settings, batch=batch, threads=count, through=way)
        for count in threads
        for batch in batches
        for way in through
    ]
    return list(dict.fromkeys(chosen))
