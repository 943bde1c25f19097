"""Latency with sessions that take exactly as long as they are told, by a clock that only they move."""

import gc
import math
import os
import weakref
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgecnn.bundle.manifest import Speedup, TensorSpec
from edgecnn.errors import ExitCode, UsageError
from edgecnn.measure import latency
from edgecnn.measure.latency import BenchSettings, PairedLatency, available_cpus, compare_latency, judge, pinned
from edgecnn.progress import SILENT
from edgecnn.targets.session import Clock, Feed, Session
from tests.support import make_images

PIXELS = make_images(6, size=4).pixels
PILOT = 5  # calls that are timed to find out how many make a block


class Machine:
    """The clock, and everything that ran: which model, for how many nanoseconds."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.log: list[tuple[str, int]] = []


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(latency, "time", SimpleNamespace(perf_counter_ns=lambda: made.now_ns))
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
    ) -> None:
        self.machine, self.name, self.took_us, self.batch, self.dtype = machine, name, took_us, batch, dtype
        self.fed: list[Feed] = []
        self.collecting: set[bool] = set()
        self.opened = 0
        self.alive: weakref.WeakSet[Fake] = weakref.WeakSet()
        self.most_alive = 0

    def __call__(self) -> Fake:
        session = Fake(self, self.opened)
        self.opened += 1
        self.alive.add(session)
        self.most_alive = max(self.most_alive, len(self.alive))
        return session


def steady(machine: Machine, name: str, us: float) -> Model:
    return Model(machine, name, lambda session, call: us)


def both(machine: Machine, us: float = 100) -> tuple[Model, Model]:
    return steady(machine, "float", us), steady(machine, "int8", us)


def bench(open_float: Callable[[], Session], open_int8: Callable[[], Session], **chosen: float) -> PairedLatency:
    """Measure in blocks of a millisecond, unless told otherwise."""
    settings = {"pairs": 6, "rounds": 4, "seconds": 0.048, "warmup": 3, **chosen}
    return compare_latency(open_float, open_int8, PIXELS, BenchSettings(**settings), SILENT)  # type: ignore[arg-type]


# The verdict


@pytest.mark.parametrize(
    ("float_us", "int8_us", "ratio", "verdict"),
    [
        (200, 100, 2.0, "faster"),
        (100, 100, 1.0, "same"),
        (100, 200, 0.5, "slower"),
        (100, 99, 100 / 99, "faster"),
        (100, 101, 100 / 101, "slower"),
    ],
)
def test_a_steady_difference_is_found_exactly(
    machine: Machine, float_us: float, int8_us: float, ratio: float, verdict: str
) -> None:
    paired = bench(steady(machine, "float", float_us), steady(machine, "int8", int8_us))
    assert paired.verdict == verdict
    for end in (paired.speedup.median, paired.speedup.low, paired.speedup.high):
        assert end == pytest.approx(ratio, rel=1e-12)
    for found, us in ((paired.float_latency, float_us), (paired.int8_latency, int8_us)):
        assert (found.p50_us, found.p90_us, found.p99_us) == (us, us, us)


def test_a_machine_that_slows_down_slows_both_and_changes_nothing(machine: Machine) -> None:
    def drifting(us: int) -> Callable[[int, int], float]:
        return lambda session, call: us * (1 + machine.now_ns / 3e8)

    paired = bench(
        Model(machine, "float", drifting(200)),
        Model(machine, "int8", drifting(100)),
        pairs=20,
        rounds=5,
        seconds=0.3,
        warmup=0,
    )
    assert paired.float_latency.p99_us > 400  # the last rounds are more than twice as slow as the first
    assert paired.speedup.median == pytest.approx(2, rel=0.02)
    assert paired.verdict == "faster"


def test_a_few_calls_that_take_very_long_do_not_change_the_ratio(machine: Machine) -> None:
    def hiccups(session: int, call: int) -> float:
        return 90_000 if call % 10 == 7 else 100

    paired = bench(Model(machine, "float", hiccups), steady(machine, "int8", 50))
    assert paired.speedup.median == pytest.approx(2)
    assert paired.verdict == "faster"
    assert paired.float_latency.p99_us == 90_000


def test_the_interval_is_over_the_pairs(machine: Machine) -> None:
    ratios = [1.3, 0.9, 1.1, 1.2, 0.8, 1.05, 1.4, 1.25, 0.95, 1.15]
    open_int8 = Model(machine, "int8", lambda session, call: 100_000 / ratios[session])
    paired = bench(steady(machine, "float", 100_000), open_int8, pairs=10)
    # Of ten pairs, the second and the ninth hold the median between them in 97.9% of cases.
    assert paired.speedup.low == pytest.approx(0.9)
    assert paired.speedup.high == pytest.approx(1.3)
    assert paired.speedup.median == pytest.approx(1.125)
    assert paired.verdict == "same"


def test_more_rounds_of_the_same_pairs_do_not_make_them_more_certain(machine: Machine) -> None:
    def lucky(session: int, call: int) -> float:
        return 95 if session == 0 else 101

    few, many = (
        bench(steady(machine, "float", 100), Model(machine, "int8", lucky), rounds=rounds, seconds=0.012 * rounds)
        for rounds in (1, 40)
    )
    assert few.speedup == many.speedup
    assert few.verdict == many.verdict == "same"


def test_a_round_that_was_disturbed_does_not_change_its_pairs_ratio(machine: Machine) -> None:
    def disturbed(session: int, call: int) -> float:
        return 700 if PILOT + 10 <= call < PILOT + 20 else 100  # the second of five blocks

    paired = bench(steady(machine, "float", 100), Model(machine, "int8", disturbed), rounds=5, seconds=0.06, warmup=0)
    assert (paired.speedup.low, paired.speedup.high) == (1, 1)


@given(st.floats(0.01, 100), st.floats(0.01, 100), st.floats(0.01, 100))
def test_a_difference_counts_only_if_the_whole_interval_is_on_one_side(a: float, b: float, c: float) -> None:
    low, median, high = sorted((a, b, c))
    verdict = judge(Speedup(median=median, low=low, high=high))
    assert (verdict == "faster") == all(end > 1 for end in (low, high))
    assert (verdict == "slower") == all(end < 1 for end in (low, high))


def test_an_interval_that_ends_at_one_is_no_difference() -> None:
    assert judge(Speedup(median=1.1, low=1.0, high=1.2)) == "same"
    assert judge(Speedup(median=0.9, low=0.8, high=1.0)) == "same"


# Which calls count


@settings(max_examples=30)
@given(
    seed=st.integers(0, 2**32 - 1),
    pairs=st.integers(6, 8),
    rounds=st.integers(1, 4),
    warmup=st.integers(0, 6),
    seconds=st.floats(0.001, 0.05),
)
def test_percentiles_are_those_of_numpy_over_the_calls_after_each_warm_up(
    seed: int, pairs: int, rounds: int, warmup: int, seconds: float
) -> None:
    random = np.random.default_rng(seed)
    machine = Machine()
    starts: dict[str, list[int]] = {"float": [], "int8": []}

    def model(name: str) -> Model:
        def took_us(session: int, call: int) -> float:
            if call == 0:
                starts[name].append(sum(who == name for who, _ in machine.log))
            return float(random.integers(20, 300))

        return Model(machine, name, took_us)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "time", SimpleNamespace(perf_counter_ns=lambda: machine.now_ns))
        paired = bench(model("float"), model("int8"), pairs=pairs, rounds=rounds, warmup=warmup, seconds=seconds)
    ratios = np.ones(pairs)
    for name, found, power in (("float", paired.float_latency, 1), ("int8", paired.int8_latency, -1)):
        took = np.array([ns for who, ns in machine.log if who == name]) / 1000
        timed = []
        for index, calls_of_session in enumerate(np.split(took, starts[name][1:])):
            pilot, rest = calls_of_session[warmup : warmup + PILOT], calls_of_session[warmup + PILOT :]
            calls = max(3, int(seconds * 1e6 / pairs / rounds / 2 / np.median(pilot)))
            blocks = rest.reshape(rounds, warmup + calls)[:, warmup:]
            ratios[index] *= np.median(np.median(blocks, axis=1)) ** power
            timed.append(blocks.ravel())
        together = np.concatenate(timed)
        assert found.n == together.size
        expected = np.percentile(together, [50, 90, 99])
        np.testing.assert_allclose([found.p50_us, found.p90_us, found.p99_us], expected, rtol=1e-12)
    assert paired.speedup.median == pytest.approx(np.median(ratios))
    assert ratios.min() <= paired.speedup.low * (1 + 1e-9)
    assert paired.speedup.high <= ratios.max() * (1 + 1e-9)


def test_the_first_calls_after_the_other_session_are_not_counted(machine: Machine) -> None:
    def cold(name: str) -> Model:
        # Caches hold the other session's weights: three slow calls.
        return Model(
            machine,
            name,
            lambda session, call: 100 if [who for who, _ in machine.log[-3:]] == [name] * 3 else 5000,
        )

    warm = bench(cold("float"), cold("int8"), warmup=3)
    assert warm.float_latency.p99_us == warm.int8_latency.p99_us == 100
    counted = bench(cold("float"), cold("int8"), warmup=2)
    assert counted.float_latency.p99_us == counted.int8_latency.p99_us == 5000


def test_a_block_is_at_least_three_calls_however_long_they_take(machine: Machine) -> None:
    paired = bench(steady(machine, "float", 2e6), steady(machine, "int8", 1e6), pairs=6, rounds=2)
    assert paired.float_latency.n == paired.int8_latency.n == 6 * 2 * 3


def test_all_blocks_together_last_about_as_long_as_asked(machine: Machine) -> None:
    paired = bench(steady(machine, "float", 100), steady(machine, "int8", 50), pairs=10, seconds=1.0, warmup=0)
    timed_us = paired.float_latency.n * 100 + paired.int8_latency.n * 50
    assert timed_us == pytest.approx(1e6, rel=0.01)


# In turns


def order_of(machine: Machine, seed: int = 0) -> str:
    """Return the sessions of the blocks of ten pairs of four rounds, pilots left out, as a string of f and i."""
    machine.log.clear()
    bench(*both(machine), pairs=10, rounds=4, seconds=0.08, warmup=2, seed=seed)
    names = [who[0] for who, _ in machine.log]
    pilots, calls = 2 * (2 + PILOT), 10 + 2
    of_pair = pilots + 8 * calls
    assert len(names) == 10 * of_pair
    order = ""
    for begin in range(0, len(names), of_pair):
        blocks = names[begin + pilots : begin + of_pair]
        assert all(len(set(blocks[first : first + calls])) == 1 for first in range(0, len(blocks), calls))
        order += "".join(blocks[::calls])
    return order


def test_each_round_is_one_block_of_each_session_in_an_order_that_varies(machine: Machine) -> None:
    order = order_of(machine)
    rounds = [order[begin : begin + 2] for begin in range(0, 80, 2)]
    assert set(rounds) == {"fi", "if"}
    assert 10 < rounds.count("fi") < 30


def test_the_order_is_that_of_the_seed(machine: Machine) -> None:
    first, again, other = (order_of(machine, seed) for seed in (1, 1, 2))
    assert first == again != other


def test_each_pair_is_opened_anew_when_the_one_before_is_closed(machine: Machine) -> None:
    models = both(machine)
    bench(*models, pairs=7)
    assert [model.opened for model in models] == [7, 7]
    assert [model.most_alive for model in models] == [1, 1]


def test_the_listener_hears_each_pair(machine: Machine) -> None:
    heard: list[tuple[str, int, int]] = []

    class Listener:
        def say(self, text: str) -> None:
            raise AssertionError(text)

        def update(self, task: str, done: int, total: int, detail: str = "") -> None:
            heard.append((task, done, total))

    compare_latency(*both(machine), PIXELS, BenchSettings(pairs=6, seconds=0.01), Listener())
    assert heard == [("bench", done, 6) for done in range(1, 7)]


# What is fed


@pytest.mark.parametrize("batch", [1, 4, 6, 20])
def test_both_are_fed_the_same_images_each_in_its_own_form(machine: Machine, batch: int) -> None:
    open_float = steady(machine, "float", 100)
    open_int8 = Model(machine, "int8", lambda session, call: 100, dtype="uint8")
    bench(open_float, open_int8, batch=batch)
    expected = PIXELS[[index % 6 for index in range(batch)]].transpose(0, 3, 1, 2)
    for fed in open_int8.fed:
        np.testing.assert_array_equal(fed, expected)
    for fed in open_float.fed:
        np.testing.assert_allclose(fed, expected / 255, rtol=1e-6)
    assert len({id(fed) for fed in open_float.fed}) == open_float.opened  # laid out once a pair, outside the timing


def test_a_fixed_batch_that_is_asked_for_is_measured(machine: Machine) -> None:
    models = (Model(machine, name, lambda session, call: 100, batch=4) for name in ("float", "int8"))
    assert bench(*models, batch=4).verdict == "same"


@pytest.mark.parametrize("fixed", ["float", "int8"])
def test_another_batch_than_the_fixed_one_is_refused_before_anything_runs(machine: Machine, fixed: str) -> None:
    models = [
        Model(machine, name, lambda session, call: 100, batch=8 if name == fixed else "N") for name in ("float", "int8")
    ]
    with pytest.raises(UsageError) as caught:
        bench(*models, batch=2)
    assert caught.value.exit_code == ExitCode.USAGE
    assert "fixed batch 8; --batch 2 cannot be measured" in caught.value.message
    assert caught.value.next_step.startswith("--batch 8")
    assert not machine.log


# The process


@pytest.mark.parametrize("enabled", [True, False])
def test_no_garbage_is_collected_meanwhile_and_afterwards_it_is_as_before(machine: Machine, enabled: bool) -> None:
    was_enabled = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        models = both(machine)
        bench(*models)
        assert models[0].collecting == models[1].collecting == {False}
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if was_enabled else gc.disable)()


def test_garbage_is_collected_again_after_a_failure(machine: Machine) -> None:
    def fails(session: int, call: int) -> float:
        assert not gc.isenabled()
        raise RuntimeError("no more")

    assert gc.isenabled()
    with pytest.raises(RuntimeError, match="no more"):
        bench(Model(machine, "float", fails), steady(machine, "int8", 100))
    assert gc.isenabled()


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


# Settings


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("batch", 0),
        ("batch", -1),
        ("threads", 0),
        ("threads", 3),
        ("pairs", 5),
        ("rounds", 0),
        ("seconds", 0),
        ("seconds", -1.0),
        ("seconds", math.nan),
        ("seconds", math.inf),
    ],
)
def test_a_setting_that_measures_nothing_is_refused_by_name(
    option: str, value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    Affinity(monkeypatch, {0, 1})
    with pytest.raises(UsageError) as caught:
        BenchSettings(**{option: value})  # type: ignore[arg-type]
    assert caught.value.exit_code == ExitCode.USAGE
    assert f"--{option}" in caught.value.message
    assert str(value) in caught.value.message
    assert caught.value.next_step.startswith(f"--{option} ")
    suggested = caught.value.next_step.split()[1]
    BenchSettings(**{option: float(suggested) if option == "seconds" else int(suggested)})  # type: ignore[arg-type]


def test_as_many_threads_as_cpus_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    Affinity(monkeypatch, {0, 1, 2})
    assert BenchSettings(threads=3).threads == 3
