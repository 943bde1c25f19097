"""Latency of all who take part, in turns: only one of them works at a time, and all drift under the same machine."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgecnn.errors import EdgecnnError, UsageError
from edgecnn.progress import Progress
from edgecnn.stats import MIN_PAIRS

PILOT_CALLS = 30


@dataclass(frozen=True, kw_only=True)
class TimingSettings:
    """How latency is measured.

    Attributes:
        pairs: how often every model is opened anew; each gives one ratio to the reference.
        rounds: of each pair; a round times one block of each, in random order.
        block_ms: about how long the calls of a block take.
        warmup: calls before each block that are not counted.
        seed: of the order within rounds.
    """

    pairs: int = 10
    rounds: int = 4
    block_ms: float = 15.0
    warmup: int = 30
    seed: int = 0

    def __post_init__(self) -> None:
        if self.pairs < MIN_PAIRS:
            raise UsageError(
                f"--pairs must be at least {MIN_PAIRS}, found {self.pairs}.", next_step=f"--pairs {MIN_PAIRS}"
            )


class Contestant(Protocol):
    """What timing needs of one who takes part; what fails raises an ``EdgecnnError``."""

    def reopen(self) -> object:
        """Open the model anew."""

    def time_block(self, warmup: int, calls: int) -> NDArray[np.float64]:
        """Return the microseconds of each of ``calls`` calls, after ``warmup`` that do not count."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Times:
    """What was measured: all calls, and the median of each pair, in microseconds."""

    calls_us: NDArray[np.float64]
    pair_medians_us: NDArray[np.float64]


def time_in_turns(
    contestants: Mapping[str, Contestant], settings: TimingSettings, progress: Progress
) -> tuple[dict[str, Times], dict[str, str]]:
    """Time everyone in turns; who fails on the way is left out of the rest.

    Returns:
        The times of those who came through, and the reasons of those who did not.
    """
    order = np.random.default_rng(settings.seed)
    blocks: dict[str, list[list[NDArray[np.float64]]]] = {name: [] for name in contestants}
    failures: dict[str, str] = {}
    for done in range(1, settings.pairs + 1):
        racing = {name: each for name, each in contestants.items() if name not in failures}
        _time_pair(racing, settings, order, blocks, failures)
        progress.update("time", done, settings.pairs)
    return {name: _times(blocks[name]) for name in contestants if name not in failures}, failures


def _time_pair(
    racing: Mapping[str, Contestant],
    settings: TimingSettings,
    order: np.random.Generator,
    blocks: dict[str, list[list[NDArray[np.float64]]]],
    failures: dict[str, str],
) -> None:
    calls: dict[str, int] = {}
    for name, contestant in racing.items():
        blocks[name].append([])
        with _noting(name, failures):
            contestant.reopen()
            pilot_us = float(np.median(contestant.time_block(settings.warmup, PILOT_CALLS)))
            calls[name] = max(PILOT_CALLS, int(settings.block_ms * 1e3 / pilot_us))
    names = list(racing)
    for _ in range(settings.rounds):
        for index in order.permutation(len(names)):
            name = names[index]
            if name not in failures:
                with _noting(name, failures):
                    blocks[name][-1].append(racing[name].time_block(settings.warmup, calls[name]))


class _noting:  # noqa: N801 - used as a function
    """Write down why one failed, and go on with the others: the table says so."""

    def __init__(self, name: str, failures: dict[str, str]) -> None:
        self._name, self._failures = name, failures

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> bool:
        if isinstance(error, EdgecnnError):
            self._failures[self._name] = error.message
            return True
        return False


def _times(pairs: list[list[NDArray[np.float64]]]) -> Times:
    return Times(
        calls_us=np.concatenate([block for pair in pairs for block in pair]),
        pair_medians_us=np.array([np.median([np.median(block) for block in pair]) for pair in pairs]),
    )
