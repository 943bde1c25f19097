"""Sessions that take exactly as long as they are told, by a clock that only they move."""

import gc
import weakref
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from edgecnn.bundle.manifest import TensorSpec
from edgecnn.measure import stopwatch
from edgecnn.targets.session import Clock, Feed


class Machine:
    """The clock, and everything that ran: which model, for how many nanoseconds."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.log: list[tuple[str, int]] = []

    def pass_us(self, us: float) -> None:
        """Let time pass."""
        self.now_ns += round(us * 1000)


def take_over(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Put a machine's clock in place of the real one."""
    made = Machine()
    monkeypatch.setattr(stopwatch, "time", SimpleNamespace(perf_counter_ns=lambda: made.now_ns))
    return made


class Fake:
    """An opened model; a call takes what the model says."""

    clock: Clock = "simulated"

    def __init__(self, model: "Model", number: int) -> None:
        self.input = TensorSpec(name="x", dtype=model.dtype, shape=(model.batch, 3, 4, 4))
        self.output = TensorSpec(name="y", dtype="float32", shape=(model.batch, 3))
        self.nodes_by_provider: dict[str, int] = {}
        self.model, self.number, self.calls = model, number, 0

    def run(self, batch: Feed) -> NDArray[np.float32]:
        took_ns = round(self.model.took_us(self.number, self.calls) * 1000)
        self.calls += 1
        self.model.machine.now_ns += took_ns
        self.model.machine.log.append((self.model.name, took_ns))
        self.model.fed.append(batch)
        self.model.collecting.add(gc.isenabled())
        return np.zeros((len(batch), 3), np.float32)


class Model:
    """Opens sessions; ``took_us`` maps the number of the session and of the call to microseconds."""

    def __init__(
        self,
        machine: Machine,
        name: str,
        took_us: Callable[[int, int], float],
        *,
        batch: int | str = "N",
        dtype: str = "float32",
        load_us: float = 0,
    ) -> None:
        self.machine, self.name, self.took_us, self.batch, self.dtype = machine, name, took_us, batch, dtype
        self.load_us = load_us
        self.fed: list[Feed] = []
        self.collecting: set[bool] = set()
        self.opened = 0
        self.alive: weakref.WeakSet[Fake] = weakref.WeakSet()
        self.most_alive = 0

    def __call__(self) -> Fake:
        self.machine.pass_us(self.load_us)
        session = Fake(self, self.opened)
        self.opened += 1
        self.alive.add(session)
        self.most_alive = max(self.most_alive, len(self.alive))
        return session


def steady(machine: Machine, name: str, us: float) -> Model:
    """Return a model each of whose calls takes the same."""
    return Model(machine, name, lambda session, call: us)


def both(machine: Machine, us: float = 100) -> tuple[Model, Model]:
    """Return float and int8 that take the same."""
    return steady(machine, "float", us), steady(machine, "int8", us)
