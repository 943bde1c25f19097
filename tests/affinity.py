"""The CPUs a process may use, made up."""

import os

import pytest


class Affinity:
    """The CPUs a process may use, as the system keeps them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cpus: set[int]) -> None:
        self.cpus = cpus
        monkeypatch.setattr(os, "sched_getaffinity", self.get, raising=False)
        monkeypatch.setattr(os, "sched_setaffinity", self.set, raising=False)

    def get(self, process: int) -> set[int]:
        assert process == 0
        return set(self.cpus)

    def set(self, process: int, cpus: tuple[int, ...]) -> None:
        assert process == 0
        self.cpus = set(cpus)
