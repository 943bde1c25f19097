"""The CPUs a process may use, as the system keeps them."""

import gc
import os

import pytest

from edgecnn.measure.cpus import available_cpus, no_garbage_collection, pinned
from tests.affinity import Affinity


@pytest.mark.parametrize("enabled", [True, False])
def test_no_garbage_is_collected_meanwhile_and_afterwards_it_is_as_before(enabled: bool) -> None:
    was_enabled = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with no_garbage_collection():
            assert not gc.isenabled()
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if was_enabled else gc.disable)()


@pytest.mark.parametrize(("threads", "chosen"), [(1, (6,)), (2, (5, 6)), (4, (0, 2, 5, 6)), (9, (0, 2, 5, 6))])
def test_the_process_is_pinned_to_the_last_cpus_it_may_use_and_let_go(
    monkeypatch: pytest.MonkeyPatch, threads: int, chosen: tuple[int, ...]
) -> None:
    affinity = Affinity(monkeypatch, {6, 2, 0, 5})
    with pinned(threads) as cpus:
        assert cpus == chosen
        assert affinity.cpus == set(chosen)
    assert affinity.cpus == {0, 2, 5, 6}


def test_the_process_is_let_go_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    affinity = Affinity(monkeypatch, {0, 1, 2})

    def interrupted() -> None:
        with pinned(1):
            assert affinity.cpus == {2}
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert affinity.cpus == {0, 1, 2}


def test_the_system_itself_is_told() -> None:
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("this system pins no process")
    before = os.sched_getaffinity(0)
    with pinned(1) as cpus:
        assert os.sched_getaffinity(0) == set(cpus) == {max(before)}
    assert os.sched_getaffinity(0) == before


def test_a_system_that_pins_no_process_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    with pinned(1) as cpus:
        assert cpus == ()


def test_the_cpus_available_are_those_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    Affinity(monkeypatch, {3, 9})
    assert available_cpus() == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    assert available_cpus() == 12
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert available_cpus() == 1
