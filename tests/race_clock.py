"""Sessions that take exactly as long as they are told, by a clock that only they move."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgecnn.bundle.manifest import TensorSpec
from edgecnn.targets.session import Clock, Feed


@dataclass
class Machine:
    """A clock in nanoseconds, and who ran when: names in the order of their calls."""

    now_ns: int = 0
    calls: list[str] = field(default_factory=list)
    opened: list[str] = field(default_factory=list)

    def clock_ns(self) -> int:
        return self.now_ns

    def clock_s(self) -> float:
        return self.now_ns / 1e9


class FakeSession:
    """An opened model; a call takes what it was told, given the number of sessions opened before of that name."""

    clock: Clock = "simulated"

    def __init__(self, machine: Machine, name: str, took_us: float, batch: int | str = "N") -> None:
        self.input = TensorSpec(name="x", dtype="float32", shape=(batch, 3, 4, 4))
        self.output = TensorSpec(name="y", dtype="float32", shape=(batch, 3))
        self.nodes_by_provider: dict[str, int] = {}
        self._machine, self._name, self._took_us = machine, name, took_us
        machine.opened.append(name)

    def run(self, batch: Feed) -> NDArray[np.float32]:
        self._machine.now_ns += round(self._took_us * 1000)
        self._machine.calls.append(self._name)
        return np.zeros((len(batch), 3), np.float32)


def opener(
    machine: Machine, name: str, took_us: Callable[[int], float] | float, *, batch: int | str = "N"
) -> Callable[[], FakeSession]:
    """Return what opens a fake; ``took_us`` may depend on how many of that name were opened before."""

    def opened() -> FakeSession:
        number = machine.opened.count(name)
        return FakeSession(machine, name, took_us(number) if callable(took_us) else took_us, batch)

    return opened
